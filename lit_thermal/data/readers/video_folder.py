"""Thermal video of your own: folders of frames or video files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from lit_thermal.batch import collate
from lit_thermal.data.datamodules.damaged import Damaged, OnDamage
from lit_thermal.data.datamodules.windows import (
    InputWindows,
    Source,
    TargetWindows,
    TrainingSampler,
    TrainingWindows,
    check_numbers,
)
from lit_thermal.data.degradations.conditions import Complete, Condition, ConditionedSamples, make_conditions
from lit_thermal.data.degradations.degradation import Bicubic, Degradation
from lit_thermal.data.formats.clips import open_clip
from lit_thermal.data.formats.file_checks import check_gray, look
from lit_thermal.data.formats.frames import FolderClip
from lit_thermal.data.formats.normalize import NORMALIZE, Normalize
from lit_thermal.data.formats.radiometry import clip_radiometry
from lit_thermal.data.readers.splits import find_inputs, find_splits
from lit_thermal.errors import InputError

NEEDED = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}


class VideoFolder(LightningDataModule):
    """Clips on disk: `root/{train,val,test}/CLIP/*.png` or `.tif` of 8 or 16 bit, or one video file per clip.

    The clips are the targets, at the high frame rate; the input is made of them by `degradation` and by leaving frames
    out. `predict` takes the clips as they are for input: those of `root/predict`, else the test clips, else
    all clips of the root, or the root where it is a clip itself.

    Args:
        root: folder of the data.
        scale: spatial scale.
        temporal_scale: every how many target frames an input frame is.
        frames: target frames of a window, `temporal_scale * k + 1` with k >= 2.
        crop: side of the training crops in input pixels.
        batch_size: training windows per step; elsewhere it is 1, since clips may differ in size.
        num_workers: processes that read; 0 reads in the training process.
        split: for a root that holds the clips itself: shares of train, val and test such as [0.8, 0.1, 0.1], or
            for each the names of its clips, as in {train: ["seq0[1-6]"], val: [seq07], test: [seq08]}.
        split_seed: draws the shares.
        degradation: makes input frames of target frames.
        normalize: mapping of a 16-bit clip's counts to [0, 1]: the range of all but isolated dead and hot pixels
            ("robust"), its whole range ("minmax"), 0.1 % to 99.9 % of it ("percentile") or division by 65535 ("full").
            What lies outside is clipped for the network and put back into what `predict` writes. 8 bit is always
            divided by 255.
        augment: flip, turn and reverse training windows.
        samples_per_epoch: training windows per epoch, drawn from all there are.
        cache_gib: training clips are kept decoded in memory up to this size; the others are read at each use, for
            which folders of frames are much faster than videos.
        seed: of the training windows.
        name: of the data set in tables and logs; by default that of the root folder.
        test_conditions: each is a test data loader of its own; `Complete` is the data as they are. What concerns a
            guide is refused.
        damaged: what is done with clips that cannot be read: "stop" ends the run at the first; "skip" reads all frames
            before the work begins, leaves those clips out, and lists them in the log and in `damaged.json`.
    """

    def __init__(
        self,
        root: str,
        scale: int = 4,
        temporal_scale: int = 2,
        frames: int = 7,
        crop: int = 32,
        batch_size: int = 8,
        num_workers: int = 2,
        split: dict[str, list[str]] | list[float] | None = None,
        split_seed: int = 0,
        degradation: Callable[[], Degradation] = Bicubic,
        normalize: Normalize = NORMALIZE,
        augment: bool = True,
        samples_per_epoch: int = 800,
        cache_gib: float = 2.0,
        seed: int = 0,
        name: str | None = None,
        test_conditions: Sequence[Callable[[], Condition]] = (Complete,),
        damaged: OnDamage = "stop",
    ) -> None:
        super().__init__()
        check_numbers(
            frames=frames,
            scale=scale,
            temporal_scale=temporal_scale,
            crop=crop,
            batch_size=batch_size,
            samples_per_epoch=samples_per_epoch,
            num_workers=num_workers,
        )
        self.root = Path(root)
        self.scale, self.temporal_scale, self.frames, self.crop = scale, temporal_scale, frames, crop
        self.batch_size, self.num_workers = batch_size, num_workers
        self.split, self.split_seed = split, split_seed
        self.degradation = degradation()
        self.normalize: Normalize = normalize
        self.augment, self.samples_per_epoch = augment, samples_per_epoch
        self.cache_gib, self.seed = cache_gib, seed
        self.conditions = make_conditions(test_conditions, guided=False)
        """What the test data loaders differ by."""
        self.damaged = Damaged(damaged)
        """What is done with clips that cannot be read."""
        base = name or self.root.resolve().name
        self.test_names = [f"{base}_{c.suffix}" if c.suffix else base for c in self.conditions]
        """Names of the test data loaders."""
        self._sources: dict[str, list[Source]] = {}

    def setup(self, stage: str) -> None:
        """Open the clips that a stage needs and look at the range of 16-bit ones.

        Raises:
            InputError: the root is laid out otherwise, a split is empty, or a clip is damaged or too short.
        """
        if stage == "predict":
            shortest = (3, "restoring needs at least 3")
            self._open("predict", find_inputs(self.root, self.split, self.split_seed), *shortest)
            self.damaged.tell(self.trainer)
            return
        splits = find_splits(self.root, self.split, self.split_seed)
        # A test run tunes its baselines on the validation clips where there are some.
        optional = stage == "validate" and self.trainer is not None and bool(self.trainer.testing)
        for split in NEEDED[stage]:
            if split not in splits and not optional:
                there = ", ".join(splits) or "none"
                raise InputError(f"the data root {self.root} has no clips for {split} (it has some for {there})")
            inputs = (self.frames - 1) // self.temporal_scale + 1
            needed = f"a window takes {self.frames} ({inputs} inputs at temporal scale {self.temporal_scale})"
            self._open(split, splits.get(split, []), self.frames, needed)
        self.damaged.tell(self.trainer)
        if stage == "fit":
            self._cache(self._sources["train"])

    def target_sizes(self, split: str) -> dict[str, tuple[int, int]]:
        """Height and width that the frames of each clip of a split have when they are measured."""
        found = {source.clip.name: source.clip.size for source in self._sources.get(split, ())}
        return {n: (h - h % self.scale, w - w % self.scale) for n, (h, w) in found.items()}

    def outputs(self) -> list[tuple[str, Path | None]]:
        """Name of the folder that `predict` makes of each clip, and the clip's first frame where that is a file."""
        return [(source.clip.name, source.file) for source in self._sources["predict"]]

    def teardown(self, stage: str) -> None:
        """List once more what was left out, where the end of a long log is read."""
        self.damaged.tell(self.trainer)

    def train_dataloader(self) -> DataLoader[Any]:
        """Random windows."""
        windows = TrainingWindows(
            self._sources["train"],
            frames=self.frames,
            scale=self.scale,
            temporal_scale=self.temporal_scale,
            crop=self.crop,
            degradation=self.degradation,
            augment=self.augment,
            samples=self.samples_per_epoch,
            seed=self.seed,
        )
        sampler = TrainingSampler(windows, self.batch_size, self.trainer)
        return DataLoader(
            windows,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=True,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """All validation clips; an empty list where a test run finds none."""
        return self._loader(self._targets("val")) if self._sources["val"] else []

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """All test clips under each condition."""
        windows = self._targets("test")
        return [self._loader(ConditionedSamples(windows, condition)) for condition in self.conditions]

    def predict_dataloader(self) -> DataLoader[Any]:
        """All clips to restore."""
        inputs = (self.frames - 1) // self.temporal_scale + 1
        return self._loader(InputWindows(self._sources["predict"], inputs=inputs, temporal_scale=self.temporal_scale))

    def _targets(self, split: str) -> TargetWindows:
        return TargetWindows(
            self._sources[split],
            frames=self.frames,
            scale=self.scale,
            temporal_scale=self.temporal_scale,
            degradation=self.degradation,
            seed=self.seed,
        )

    def _loader(self, windows: Dataset[dict[str, Any]]) -> DataLoader[Any]:
        return DataLoader(
            windows,
            batch_size=1,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
        )

    def _open(self, split: str, paths: list[Path], shortest: int, needed: str) -> None:
        if split in self._sources:
            return

        def opened(_: str, path: Path) -> Source | None:
            with self.damaged.leaving_out(split, path.name):
                clip = open_clip(path)
                radiometry = clip_radiometry(clip, self.normalize)
                if self.damaged.skips:
                    for _frame in clip:
                        pass
            if path.name in self.damaged.why.get(split, ()):
                return None
            if clip.length < shortest:
                raise InputError(f"the clip {path} has {clip.length} frames, but {needed}: leave it out")
            if split != "predict" and min(clip.size) < self.scale:
                raise InputError(
                    f"the frames of {path} are {clip.size[1]}x{clip.size[0]}, smaller than data.scale {self.scale}: "
                    "leave it out"
                )
            side = self.crop * self.scale
            if split == "train" and min(clip.size) < side:
                raise InputError(
                    f"data.crop {self.crop} at scale {self.scale} needs frames of at least {side}x{side}, but those of "
                    f"{path} are {clip.size[1]}x{clip.size[0]}"
                )
            if isinstance(clip, FolderClip):
                for file in clip.files:
                    check_gray(file)
            else:
                clip.read(0, 1)  # tells whether it is in colour
            return Source(clip, radiometry)

        found = look({path.name: path for path in paths}, opened, f"{split} clips of {self.root.name}")
        sources = [source for source in found if source is not None]
        self.damaged.check_some_left(split, sources, f"clips of {self.root}")
        self._sources[split] = sources

    def _cache(self, sources: list[Source]) -> None:
        left = self.cache_gib * 2**30
        for source in sources:
            clip = source.clip
            size = clip.length * clip.size[0] * clip.size[1] * clip.bits // 8
            if source.counts is None and size <= left:
                source.counts = clip.read(0, clip.length)
                left -= size
