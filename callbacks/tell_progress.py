"""The progress of a run, written to a file for the sweep that started it."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_thermal.files import write_text
from lit_thermal.sweeping.runner import SWEEP_PROCESS


class TellProgress(Callback):
    """Records the progress of a run for the sweep that started it, and ends the run when that sweep is gone.

    Args:
        file: file of the progress, written about once a second.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._parent = os.getppid()
        if SWEEP_PROCESS in os.environ and os.environ.get("LOCAL_RANK", "0") == "0":
            # If the sweep was killed while this process started, the parent is already another process.
            self._parent = int(os.environ[SWEEP_PROCESS])
        self._written_at = 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Record the training step."""
        steps = trainer.estimated_stepping_batches
        self._write(trainer, "train", trainer.global_step, steps if math.isfinite(steps) else None)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Record that validation runs; the step does not change meanwhile."""
        self._write(trainer, "validate", trainer.global_step, None)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Record the number of tested batches, counted over all test sets."""
        counts = trainer.num_test_batches
        total = sum(counts)
        done = int(sum(counts[:dataloader_idx])) + batch_idx + 1
        self._write(trainer, "test", done, total if math.isfinite(total) else None)

    def _write(self, trainer: Trainer, phase: str, step: int, steps: int | float | None) -> None:
        if os.getppid() != self._parent:
            raise KeyboardInterrupt
        if not trainer.is_global_zero or time.monotonic() - self._written_at < 1:
            return
        self._written_at = time.monotonic()
        score = trainer.callback_metrics.get("val/psnr")
        note = {"phase": phase, "step": step, "steps": steps, "val/psnr": None if score is None else float(score)}
        write_text(self.file, json.dumps(note))
