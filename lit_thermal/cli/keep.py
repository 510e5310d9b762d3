"""What a run keeps: its config, checkpoints that are whole, and the seeds that make a resume exact."""

import json
import math
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from lit_thermal.errors import InputError
from lit_thermal.files import write_text
from lit_thermal.ops.finite import all_finite
from lit_thermal.sweeping.runner import SWEEP_PROCESS


class KeepConfig(Callback):
    """Writes the config of the run into its folder and sends it to the loggers.

    Also makes every process of a distributed run use the folder that the first one made.

    Args:
        folder: the run folder; only the process of rank 0 needs to know it.
        text: the config as YAML.
        file_name: what to call it.
    """

    def __init__(self, folder: Path, text: str, file_name: str) -> None:
        self.folder = folder
        self.text = text
        self.file_name = file_name

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the folder; the first process writes."""
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))
        # Ranks that a scheduler started could not know the folder before they were connected. The property has no
        # setter, and everybody who writes asks it.
        trainer._default_root_dir = str(self.folder)  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            write_text(self.folder / self.file_name, self.text)
            for logger in trainer.loggers:
                logger.log_hyperparams(yaml.safe_load(self.text))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop where the folder was removed meanwhile, before pictures or a checkpoint alone make it anew."""
        if trainer.is_global_zero and not (self.folder / self.file_name).is_file():
            raise InputError(f"the run folder {self.folder} was removed while the run wrote to it: start the run again")

    on_validation_end = on_train_epoch_end = on_test_end = on_validation_start


class StepSeeds(Callback):
    """Seeds every training step, and the order of every epoch, by the run's seed, the process and their number alone.

    What a step draws then depends neither on the steps before it nor on what the library draws in between, and so a
    run that was killed and resumed at the end of an epoch goes on as one that was not.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the step."""
        self._draw_for(trainer, 0, trainer.fit_loop.total_batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed what shuffles the next epoch."""
        self._draw_for(trainer, 1, trainer.current_epoch + 1)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Seed what shuffles the epoch that a resumed run begins with."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._draw_for(trainer, 1, checkpoint["epoch"] + 1)

    def _draw_for(self, trainer: Trainer, kind: int, number: int) -> None:
        state = np.random.SeedSequence([self.seed, trainer.global_rank, kind, number]).generate_state(4)
        torch.manual_seed(int(state[0]) << 32 | int(state[1]))
        np.random.seed(state[2])
        random.seed(int(state[3]))


class BestAndLast(ModelCheckpoint):
    """Keeps the checkpoint of the best validation PSNR and the last one, at each epoch's end at least.

    Weights that are not finite replace no checkpoint.

    Args:
        folder: where.
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
        """Return whether a score is among the best; one that is NaN or minus infinity measures nothing."""
        if current is not None and not bool(current > -math.inf):
            return False
        return super().check_monitor_top_k(trainer, current)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember which step was saved."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        self._saved_step = checkpoint["global_step"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what was measured."""
        self._check_weights(trainer, pl_module)
        super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of an epoch, full or cut short by the number of steps, where no validation did."""
        self._check_weights(trainer, pl_module)
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.global_step != self._saved_step and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.last_model_path = str(Path(str(self.dirpath)) / "last.ckpt")
            trainer.save_checkpoint(self.last_model_path, weights_only=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save nothing: the end of the last epoch was, and by now EMA has put its averages in place of the weights."""

    def _check_weights(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not all_finite(list(pl_module.parameters())):
            raise InputError(
                f"after step {trainer.global_step} weights are NaN or infinite and are not saved: lower "
                "model.optimizer.lr"
            )


class StopBetweenSteps(Callback):
    """Lets Ctrl-C end a run of one process between two steps; pressed again, at once.

    An interrupt that strikes while TensorBoard's writer holds its lock would leave a run that hangs when it closes
    its loggers, and that Ctrl-C no longer reaches, because Lightning ignores it from then on.
    """

    def __init__(self) -> None:
        self._asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C over for as long as this lasts."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handler = signal.signal(signal.SIGINT, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def _stop_if_asked(self, *_: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt

    on_train_batch_end = _stop_if_asked  # type: ignore[assignment]
    on_validation_batch_end = _stop_if_asked  # type: ignore[assignment]
    on_test_batch_end = _stop_if_asked  # type: ignore[assignment]
    on_predict_batch_end = _stop_if_asked  # type: ignore[assignment]


class TellProgress(Callback):
    """Keeps note of how far a run is, for the sweep that started it, and ends the run when that sweep is gone.

    Args:
        file: where; written about once a second.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._parent = os.getppid()
        if SWEEP_PROCESS in os.environ and os.environ.get("LOCAL_RANK", "0") == "0":
            # the parent is another already where the sweep was killed while this process started
            self._parent = int(os.environ[SWEEP_PROCESS])
        self._told = 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Tell the step of training."""
        steps = trainer.estimated_stepping_batches
        self._tell(trainer, "train", trainer.global_step, steps if math.isfinite(steps) else None)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Tell that validation runs, while the step stays."""
        self._tell(trainer, "validate", trainer.global_step, None)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Tell the batch of the test, of all its sets."""
        counts = trainer.num_test_batches
        total = sum(counts)
        self._tell(
            trainer, "test", int(sum(counts[:dataloader_idx])) + batch_idx + 1, total if math.isfinite(total) else None
        )

    def _tell(self, trainer: Trainer, phase: str, step: int, steps: int | float | None) -> None:
        if os.getppid() != self._parent:
            raise KeyboardInterrupt
        if not trainer.is_global_zero or time.monotonic() - self._told < 1:
            return
        self._told = time.monotonic()
        score = trainer.callback_metrics.get("val/psnr")
        note = {"phase": phase, "step": step, "steps": steps, "val/psnr": None if score is None else float(score)}
        write_text(self.file, json.dumps(note))
