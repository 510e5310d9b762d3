"""The base of all DataModules, with the common parts of images and video."""

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from lit_thermal.batch import Batch, collate
from lit_thermal.data.datamodules.damaged import Damaged, OnDamage
from lit_thermal.data.datamodules.training_sampler import TrainingSampler
from lit_thermal.data.degradations.conditions import Condition, ConditionedSamples, Samples, make_conditions
from lit_thermal.errors import InputError

NEEDED = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}
"""Splits that each stage of the Trainer reads."""


class ThermalData(LightningDataModule, metaclass=ABCMeta):
    """Loaders, test conditions and the policy for unreadable files, for images and video alike.

    Args:
        batch_size: training samples per step.
        eval_batch_size: samples per step in validation, test and prediction.
        num_workers: number of processes that read; 0 reads in the training process.
        seed: seed of all random draws.
        test_conditions: conditions of the test, with a data loader each.
        guided: whether samples have a guide.
        damaged: policy for unreadable files.

    Raises:
        InputError: the policy is unknown, or the conditions do not go together.
    """

    scale: int
    """Factor by which the target is wider and higher than the input."""

    def __init__(
        self,
        *,
        batch_size: int,
        eval_batch_size: int,
        num_workers: int,
        seed: int,
        test_conditions: Sequence[Callable[[], Condition]],
        guided: bool,
        damaged: OnDamage = "stop",
    ) -> None:
        super().__init__()
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers, self.seed = num_workers, seed
        self.conditions = make_conditions(test_conditions, guided)
        """Conditions of the test, with a data loader each."""
        self.damaged = Damaged(damaged)
        """Policy for unreadable files, and the files that it left out."""
        self._sources: dict[str, list[Any]] = {}
        """Images or clips of each split that was set up."""

    @property
    @abstractmethod
    def test_sets(self) -> Sequence[str]:
        """Names of the data sets that a test measures separately."""

    @property
    def test_names(self) -> list[str]:
        """Names of the test data loaders: all conditions of one data set, then the next."""
        return [f"{name}_{c.suffix}" if c.suffix else name for name in self.test_sets for c in self.conditions]

    def teardown(self, stage: str) -> None:
        """List the omitted files again, since users read the end of a long log."""
        self.damaged.report(self.trainer)

    def target_sizes(self, split: str) -> dict[str, tuple[int, int]]:
        """Return the evaluated height and width of each image or clip of a split, if known from headers."""
        found = {source.name: getattr(source, "size", None) for source in self._sources.get(split, ())}
        return {n: (s[0] - s[0] % self.scale, s[1] - s[1] % self.scale) for n, s in found.items() if s is not None}

    def _may_be_empty(self, stage: str) -> bool:
        """Return whether a split may have no data: a test tunes its baselines on validation data if there are any."""
        return stage == "validate" and self.trainer is not None and bool(self.trainer.testing)

    def _training_loader(self, samples: Dataset[dict[str, Any]]) -> DataLoader[Batch]:
        """Make the loader of training samples; indices continue to grow from epoch to epoch.

        Raises:
            InputError: an epoch has too few samples for one batch on each device.
        """
        sampler = TrainingSampler(samples, self.batch_size, self.trainer)
        if len(sampler) < self.batch_size:
            raise InputError(
                f"an epoch of {len(samples)} samples does not fill one batch of data.batch_size "  # type: ignore[arg-type]
                f"{self.batch_size} on each device (there are {sampler.num_replicas}), so that nothing would be "
                "trained: raise data.samples_per_epoch"
            )
        return self._loader(samples, self.batch_size, again=True, sampler=sampler, drop_last=True)

    def _test_loaders(self, samples: Samples) -> list[DataLoader[Batch]]:
        """Make the loaders of one data set under each condition."""
        return [self._loader(ConditionedSamples(samples, c), self.eval_batch_size) for c in self.conditions]

    def _loader(
        self, samples: Dataset[dict[str, Any]], batch_size: int, again: bool = False, **options: Any
    ) -> DataLoader[Batch]:
        """Make a loader. Only loaders that are read repeatedly keep their workers, since a test has many loaders."""
        return DataLoader(
            samples,  # type: ignore[arg-type]
            batch_size=batch_size,
            num_workers=self.num_workers,
            persistent_workers=again and self.num_workers > 0,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            **options,
        )
