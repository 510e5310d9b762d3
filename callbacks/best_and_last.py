"""The checkpoints that a training keeps unless its config names others."""

import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from lit_thermal.errors import InputError
from lit_thermal.ops.finite import all_finite


class BestAndLast(ModelCheckpoint):
    """Keeps the checkpoint with the best validation PSNR and the last one, saved at least at the end of each epoch.

    Weights that are not finite are never saved.

    Args:
        folder: folder of the checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor="val/psnr",
            mode="max",
            save_last=True,
            enable_version_counter=False,
        )
        self._saved_step = 0

    def check_monitor_top_k(self, trainer: Trainer, current: torch.Tensor | None = None) -> bool:
        """Return whether a score is among the best; NaN and minus infinity never are."""
        if current is not None and not bool(current > -math.inf):
            return False
        return super().check_monitor_top_k(trainer, current)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember which step was saved."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        self._saved_step = checkpoint["global_step"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the weights and save them."""
        self._check_weights(trainer, pl_module)
        super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of an epoch, even if `max_steps` ended it early, unless a validation has just saved it."""
        self._check_weights(trainer, pl_module)
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.global_step != self._saved_step and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.last_model_path = str(Path(str(self.dirpath)) / "last.ckpt")
            trainer.save_checkpoint(self.last_model_path, weights_only=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save nothing: the last epoch was saved at its end, and EMA has since replaced weights by averages."""

    def _check_weights(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not all_finite(list(pl_module.parameters())):
            raise InputError(
                f"after step {trainer.global_step} weights are NaN or infinite and are not saved: lower "
                "model.optimizer.lr"
            )
