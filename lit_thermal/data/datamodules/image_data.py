"""The base of all DataModules of single images, with or without a guide."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, cast

from torch.utils.data import DataLoader

from lit_thermal.batch import Batch
from lit_thermal.data.datamodules.base import NEEDED, ThermalData
from lit_thermal.data.datamodules.damaged import OnDamage
from lit_thermal.data.datamodules.image_samples import TrainingCrops, WholeImages
from lit_thermal.data.datamodules.sample import CachedSample, SampleSource
from lit_thermal.data.degradations.conditions import Complete, Condition
from lit_thermal.data.degradations.degradation import Bicubic, Degradation
from lit_thermal.data.degradations.misalignment import Aligned, Misalignment
from lit_thermal.data.formats.file_checks import listed
from lit_thermal.data.formats.tags import restored_name
from lit_thermal.errors import InputError

ImageSplit = Literal["train", "val", "test", "predict"]


class ImageData(ThermalData):
    """Training crops and whole images; a reader adds `sources` and `data_name`.

    A training sample depends only on the seed and on its number since the start of training, so it does not change with
    the number of workers or when a run is resumed.

    Args:
        scale: factor by which the target is wider and higher than the input.
        guided: whether samples have a guide, and flags for the presence of each camera.
        crop: side of the training crops in LR pixels; 0 uses whole images.
        batch_size: training crops per step.
        eval_batch_size: whole images per step in validation, test and prediction; above 1 they must have one size.
        samples_per_epoch: training crops per epoch; 0 means the number of training images.
        degradation: degradation that makes the input of images without an input file.
        augment: whether to flip training crops.
        misalignment: random misalignment of guides in training crops; whole images are unchanged, unless a test
            condition changes them.
        num_workers: number of processes that read; 0 reads in the training process.
        seed: seed of all random draws.
        cache_gib: memory in GiB for decoded training images; the rest is read at each use.
        test_conditions: conditions of the test, with a data loader each; `Complete` is the unchanged data.
        damaged: policy for unreadable files: "stop" ends the run at the first one; "skip" reads all files before the
            work begins, leaves those images out, and lists them in the log and in `damaged.json`.

    Raises:
        InputError: a number is out of range, or the conditions do not go together.
    """

    data_name: str
    """Name of the data set in tables and logs."""

    def __init__(
        self,
        *,
        scale: int,
        guided: bool,
        crop: int = 16,
        batch_size: int = 8,
        eval_batch_size: int = 1,
        samples_per_epoch: int = 0,
        degradation: Callable[[], Degradation] = Bicubic,
        augment: bool = True,
        misalignment: Callable[[], Misalignment] = Aligned,
        num_workers: int = 2,
        seed: int = 0,
        cache_gib: float = 2.0,
        test_conditions: Sequence[Callable[[], Condition]] = (Complete,),
        damaged: OnDamage = "stop",
    ) -> None:
        _at_least(1, scale=scale, batch_size=batch_size, eval_batch_size=eval_batch_size)
        _at_least(
            0, crop=crop, samples_per_epoch=samples_per_epoch, num_workers=num_workers, seed=seed, cache_gib=cache_gib
        )
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
            test_conditions=test_conditions,
            guided=guided,
            damaged=damaged,
        )
        self.scale, self.guided, self.crop = scale, guided, crop
        self.samples_per_epoch, self.cache_gib = samples_per_epoch, cache_gib
        self.degradation, self.augment, self.misalignment = degradation(), augment, misalignment()
        if not guided and not isinstance(self.misalignment, Aligned):
            raise InputError("data.misalignment other than Aligned needs a guide, which these data do not have")

    @abstractmethod
    def sources(self, split: ImageSplit) -> Sequence[SampleSource]:
        """Find the images of a split, in the order of their names; empty if there are none.

        Called once for each split that a stage needs, `val` in a test run among them. The images of "predict" need
        no target: they are those to restore.

        Raises:
            InputError: the data have another layout.
        """

    def missing(self, split: ImageSplit) -> str:
        """Return the error message for a required but empty split; readers add the places that they searched."""
        return f"the data set {self.data_name} has no images for {split}"

    @property
    def test_sets(self) -> list[str]:
        """Names of the data sets that a test measures separately: this one."""
        return [self.data_name]

    def setup(self, stage: str) -> None:
        """Find the images that a stage needs and keep those to train on in memory, as far as `cache_gib` goes.

        Raises:
            InputError: there are none.
        """
        for split in cast(tuple[ImageSplit, ...], NEEDED[stage]):
            if split in self._sources:
                continue
            found = list(self.sources(split))
            if split == "train":
                # by their headers, before any is decoded
                self._check_crop(found)
            found = self._kept(found) if split == "train" else self.damaged.whole(split, found)
            if not found and not self._may_be_empty(stage):
                self.damaged.check_some_left(split, found, f"images of {self.data_name}")
                raise InputError(self.missing(split))
            self._sources[split] = found
        self.damaged.report(self.trainer)

    def outputs(self) -> list[tuple[str, Path | None]]:
        """Return the name of the file that `predict` writes for each image, and the file that it is read from."""
        files = [(source.name, getattr(source, "file", None)) for source in self._sources["predict"]]
        return [(restored_name(name, file), file) for name, file in files]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of random crops of the training images.

        Raises:
            InputError: there are too few training images for one batch.
        """
        sources = self._sources["train"]
        samples = self.samples_per_epoch or len(sources)
        crops = TrainingCrops(
            sources,
            scale=self.scale,
            crop=self.crop,
            guided=self.guided,
            degradation=self.degradation,
            augment=self.augment,
            samples=samples,
            seed=self.seed,
            misalignment=self.misalignment,
        )
        return self._training_loader(crops)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Return a loader of whole validation images; an empty list if a test run finds none."""
        return self._loader(self._images("val"), self.eval_batch_size, again=True) if self._sources["val"] else []

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Return loaders of whole test images under each condition."""
        return self._test_loaders(self._images("test"))

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of all images to restore, without targets."""
        return self._loader(self._images("predict", target=False), self.eval_batch_size)

    def _images(self, split: ImageSplit, target: bool = True, part: slice = slice(None)) -> WholeImages:
        return WholeImages(
            self._sources[split][part],
            scale=self.scale,
            guided=self.guided,
            degradation=self.degradation,
            seed=self.seed,
            target=target,
        )

    def _kept(self, sources: list[SampleSource]) -> list[SampleSource]:
        """Return the sources, decoded up to `cache_gib` of memory."""
        left = self.cache_gib * 2**30
        kept: list[SampleSource] = []
        for source in sources:
            size = source.bytes if left > 0 else 0
            if 0 < size <= left:
                with self.damaged.leaving_out("train", source.name):
                    kept.append(CachedSample(source.name, source.read(), size))
                    left -= size
            else:
                kept.append(source)
        return self.damaged.whole("train", kept)

    def _check_crop(self, sources: Sequence[SampleSource]) -> None:
        """Check that all training images with a size known from headers are large enough for a crop."""
        side = self.crop * self.scale
        sizes = {source.name: getattr(source, "size", None) for source in sources}
        if small := [f"{n} is {s[1]}x{s[0]}" for n, s in sizes.items() if s is not None and min(s) < side]:
            raise InputError(
                f"data.crop {self.crop} at scale {self.scale} needs images of at least {side}x{side}, but "
                f"{listed(small)} ({len(small)} of {len(sources)} training images): lower data.crop or leave them out"
            )


def _at_least(least: int, **numbers: float) -> None:
    for name, value in numbers.items():
        if not value >= least:
            raise InputError(f"data.{name} is {value}; it must be at least {least}")
