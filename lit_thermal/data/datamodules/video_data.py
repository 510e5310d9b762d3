"""The base of all DataModules of video."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

from torch.utils.data import DataLoader

from lit_thermal.batch import Batch
from lit_thermal.data.datamodules.base import ThermalData
from lit_thermal.data.datamodules.damaged import OnDamage
from lit_thermal.data.datamodules.windows import Source, TargetWindows, TrainingWindows, check_numbers
from lit_thermal.data.degradations.conditions import Condition
from lit_thermal.data.degradations.degradation import Degradation


class VideoData(ThermalData):
    """Random training windows and whole clips; a data set adds `sources`, `test_sets` and its test and predict loaders.

    A training sample depends only on the seed and on its number since the start of training, so it does not change with
    the number of workers or when a run is resumed.

    Args:
        scale: spatial scale.
        temporal_scale: number of target frames per input frame.
        frames: number of target frames in a window, `temporal_scale * k + 1` with k >= 2.
        crop: side of the training crops in input pixels.
        batch_size: training windows per step.
        eval_batch_size: windows per step in validation, test and prediction.
        samples_per_epoch: training windows per epoch.
        degradation: degradation that makes input frames from target frames.
        augment: whether to flip, rotate and reverse training windows.
        num_workers: number of processes that read; 0 reads in the training process.
        seed: seed of all random draws.
        test_conditions: conditions of the test, with a data loader each; conditions of a guide are refused.
        damaged: policy for unreadable files.

    Raises:
        InputError: a number is out of range, or the conditions do not go together.
    """

    def __init__(
        self,
        *,
        scale: int,
        temporal_scale: int,
        frames: int,
        crop: int,
        batch_size: int,
        eval_batch_size: int,
        samples_per_epoch: int,
        degradation: Callable[[], Degradation],
        augment: bool,
        num_workers: int,
        seed: int,
        test_conditions: Sequence[Callable[[], Condition]],
        damaged: OnDamage = "stop",
    ) -> None:
        check_numbers(
            frames=frames,
            scale=scale,
            temporal_scale=temporal_scale,
            crop=crop,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            samples_per_epoch=samples_per_epoch,
            num_workers=num_workers,
        )
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            seed=seed,
            test_conditions=test_conditions,
            guided=False,
            damaged=damaged,
        )
        self.scale, self.temporal_scale, self.frames, self.crop = scale, temporal_scale, frames, crop
        self.samples_per_epoch, self.degradation, self.augment = samples_per_epoch, degradation(), augment

    @abstractmethod
    def sources(self, split: str) -> list[Source]:
        """Return the clips to train on ("train") or to validate on ("val")."""

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of random windows and crops of the training clips."""
        windows = TrainingWindows(
            self.sources("train"),
            frames=self.frames,
            scale=self.scale,
            temporal_scale=self.temporal_scale,
            crop=self.crop,
            degradation=self.degradation,
            augment=self.augment,
            samples=self.samples_per_epoch,
            seed=self.seed,
        )
        return self._training_loader(windows)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Return a loader of whole validation clips; an empty list in a test run without such clips."""
        clips = self.sources("val")
        return self._loader(self._targets(clips), self.eval_batch_size, again=True) if clips else []

    def _targets(self, sources: Sequence[Source]) -> TargetWindows:
        """Return all windows of clips, with targets."""
        return TargetWindows(
            sources,
            frames=self.frames,
            scale=self.scale,
            temporal_scale=self.temporal_scale,
            degradation=self.degradation,
            seed=self.seed,
        )
