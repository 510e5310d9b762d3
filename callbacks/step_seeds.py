"""Random seeds with which a resumed training equals an uninterrupted one."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn


class StepSeeds(Callback):
    """Seeds each training step, and the shuffling of each epoch, from the run's seed, the rank and the step's number.

    The random numbers of a step therefore do not depend on earlier steps or on random draws of libraries in between. A
    run that is killed and resumed at the end of an epoch continues as if it had not been interrupted.

    Args:
        seed: seed of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the step."""
        self._seed(trainer, 0, trainer.fit_loop.total_batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the shuffling of the next epoch."""
        self._seed(trainer, 1, trainer.current_epoch + 1)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Seed the shuffling of the first epoch of a resumed run."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._seed(trainer, 1, checkpoint["epoch"] + 1)

    def _seed(self, trainer: Trainer, kind: int, number: int) -> None:
        """Seed torch, NumPy and Python; `kind` is 0 for a step and 1 for an epoch."""
        state = np.random.SeedSequence([self.seed, trainer.global_rank, kind, number]).generate_state(4)
        torch.manual_seed(int(state[0]) << 32 | int(state[1]))
        np.random.seed(state[2])
        random.seed(int(state[3]))
