"""Moving average of the weights, for validation, for the checkpoints and for the final model."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from torch import Tensor

from lit_thermal.errors import InputError


class EMA(WeightAveraging):
    """Exponential moving average of the weights, by Lightning's `WeightAveraging`.

    Validation, the checkpoint's `state_dict` and the model after training use the averages; a checkpoint also contains
    the weights being trained, and a resumed run continues with both. Lightning's own `EMAWeightAveraging` (2.6.6) has
    six shortcomings, which this class fixes:

    - A short run would mostly average early weights: here the decay after n steps is at most (1 + n) / (10 + n).
    - Averages of integer buffers (an order of pixels, a counter) would be rounded down: here they are copied.
    - The average is created before the model reaches its device and would stay on the CPU, so that all weights are
      copied there at each step: here it moves with the model.
    - A test or validation after `fit` in the same process would load the averages of a checkpoint and then replace them
      by the weights being trained: here nothing is done outside `fit`.
    - A checkpoint saved during validation (by a SLURM signal or an exception) would have the two sets exchanged.
    - `ModelCheckpoint(save_weights_only=True)` would silently leave out the averages: here it is refused.

    Args:
        decay: weight of the previous average in each step, in [0, 1); 0.999 averages over about 1000 steps.

    Raises:
        InputError: `decay` is out of range, or a checkpoint callback saves weights only.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"EMA's decay must be at least 0 and below 1, not {decay}")
        self.decay = decay
        self._exchanged = False
        super().__init__(multi_avg_fn=self._average)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Create the average when `fit` begins; discard it for other verbs."""
        if stage != "fit":
            self._average_model = None
            return
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ModelCheckpoint) and callback.save_weights_only:
                raise InputError(
                    "ModelCheckpoint with save_weights_only: true would not save EMA's averages; set it to false"
                )
        super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move the average to the model's device, which is known only now."""
        assert self._average_model is not None
        self._average_model.to(pl_module.device)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the averages into the model."""
        super().on_validation_epoch_start(trainer, pl_module)
        self._exchanged = self._average_model is not None

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the weights being trained."""
        super().on_validation_epoch_end(trainer, pl_module)
        self._exchanged = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the averages as `state_dict` and the weights being trained as `current_model_state`."""
        if self._average_model is None:
            return
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._exchanged:
            average, current = checkpoint["current_model_state"], checkpoint["state_dict"]
            checkpoint["state_dict"], checkpoint["current_model_state"] = average, current

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore both sets of weights when `fit` resumes; for a test, Lightning loads `state_dict` itself."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def _average(self, averages: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
        """Update the averages, which all have one dtype, in place; `steps` steps were made before."""
        if averages[0].is_floating_point() or averages[0].is_complex():
            n = int(steps)
            # The averages keep the precision of the newly built model, even if it is trained in half precision.
            current = [new.to(old.dtype) for new, old in zip(current, averages, strict=True)]
            torch._foreach_lerp_(averages, current, 1 - min(self.decay, (1 + n) / (10 + n)))
        else:
            torch._foreach_copy_(averages, current)
