"""Moving average of the weights, for validation, for the checkpoints and for the final model."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from torch import Tensor

from lit_thermal.errors import InputError


class EMA(WeightAveraging):
    """Exponential moving average of the weights, by Lightning's `WeightAveraging`.

    Validation, the checkpoint's `state_dict` and the model after training hold the averages; a checkpoint also
    keeps the weights being trained, and a resumed run goes on with both. Lightning's own `EMAWeightAveraging`
    was tried (2.6.6) and does not fit in six places, which are what this class adds:

    - A short run is mostly warm-up: after n steps the decay is at most (1 + n) / (10 + n).
    - Buffers of whole numbers (an order of pixels, a counter) are copied. An average of them is rounded down.
    - The average is made before the model reaches its device and stays on the CPU, which costs a copy of all
      weights there at every step. It is moved with the model.
    - A test or validation that follows `fit` in one process loads a checkpoint's averages and then replaces them
      by the weights being trained. Outside `fit` this class does nothing.
    - A checkpoint saved while validation runs (a signal of SLURM, an exception) has the two sets exchanged.
    - `ModelCheckpoint(save_weights_only=True)` leaves the averages out without a word. It is refused.

    Args:
        decay: weight of the past in each step, in [0, 1); 0.999 remembers about 1000 steps.

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
        """Make the average when `fit` begins, forget it before anything else."""
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
        """Move the average to the device that the model has reached by now."""
        assert self._average_model is not None
        self._average_model.to(pl_module.device)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the averages into the model."""
        super().on_validation_epoch_start(trainer, pl_module)
        self._exchanged = self._average_model is not None

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the weights being trained back."""
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
        """Restore both sets of weights when `fit` resumes; a test needs only `state_dict`, which is loaded."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def _average(self, averages: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
        """One step of the averages (all of one type) in place, after so many steps."""
        if averages[0].is_floating_point() or averages[0].is_complex():
            n = int(steps)
            # The averages have the precision that the model was built in, also where it is trained in half precision.
            current = [new.to(old.dtype) for new, old in zip(current, averages, strict=True)]
            torch._foreach_lerp_(averages, current, 1 - min(self.decay, (1 + n) / (10 + n)))
        else:
            torch._foreach_copy_(averages, current)
