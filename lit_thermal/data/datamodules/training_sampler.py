"""The order of training samples over epochs, ranks and resumed runs."""

from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import Dataset, DistributedSampler


class TrainingSampler(DistributedSampler[int]):
    """Indices that continue from batch to batch over the whole training, distributed over the ranks.

    An iterator starts at the trainer's current count of batches, so that a resumed run continues where its checkpoint
    was written, even in the middle of an epoch. Lightning's epoch number is not used: when a training limited by steps
    is resumed, it is one too high, and samplers receive it only after worker processes have begun to read.

    Args:
        dataset: data set whose length is an epoch.
        batch_size: number of samples in a batch on one rank.
        trainer: trainer that counts the batches; without one, every iterator starts at 0.
    """

    def __init__(self, dataset: Dataset[Any], batch_size: int, trainer: Trainer | None = None) -> None:
        world, rank = (trainer.world_size, trainer.global_rank) if trainer else (1, 0)
        super().__init__(dataset, num_replicas=world, rank=rank, shuffle=False)
        self.batch_size, self.trainer = batch_size, trainer

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of this rank for the length of an epoch."""
        batches = self.trainer.fit_loop.total_batch_idx + 1 if self.trainer else 0
        first = batches * self.batch_size * self.num_replicas
        return (first + index for index in super().__iter__())
