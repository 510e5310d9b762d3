"""Protection of a training against losses and gradients that are NaN or infinite."""

import logging
import math
from pathlib import Path
from typing import Any, Literal, NoReturn

import lightning.pytorch as pl
import torch
import torch.distributed
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.optim import Optimizer

from lit_thermal.errors import InputError, check_choice, short
from lit_thermal.ops.finite import all_finite, keep_if, norms

from .non_finite_step import MOST_NAMES, Step, agree, listed, rewind

Action = Literal["stop", "skip"]

_log = logging.getLogger(__name__)
_KEY = "non_finite"
"""Key of the batch in the checkpoint of a stopped training."""


class NonFiniteGuard(Callback):
    """Stops the training, or skips the batch, if the loss or a gradient is NaN or infinite.

    `fit` adds it to each run. An update that is not finite is never applied to the weights. A stopped training leaves
    `non_finite_step<step>.ckpt` in the run's folder, with weights, optimizer and counters, from which `fit --ckpt_path`
    or `--from` continues, and the batch under the key `non_finite`. Training also stops if a validation measures a PSNR
    of NaN or minus infinity, or if weights are not finite.

    Flags and batches stay on the device and are read every `every_n_steps` steps, before each validation and at the end
    of each epoch. With 1, the update from such a batch is not made, and the checkpoint is the one before the step. With
    more, the training does not wait for the device: such a gradient is set to zero there, so that the optimizer moves
    the weights by its momentum alone, and the checkpoint is from the step at which the flags were read.

    With `trainer.precision=16-mixed`, infinite gradients occur in the search for the scale, and the scaler itself skips
    their updates. They stop the training only after more than `limit` of them in a row.

    Args:
        action: `stop` ends the training; `skip` leaves the batch out and logs the count as `skipped_batches`.
        limit: largest number of batches in a row that are skipped; one more stops the training.
        every_n_steps: interval in optimizer steps at which flags are read; 0 means each step on the CPU, where this
            costs nothing, and each tenth step on other devices.

    Raises:
        InputError: a number is out of range.
    """

    def __init__(self, action: Action = "stop", limit: int = 20, every_n_steps: int = 0) -> None:
        check_choice(action, Action, "NonFiniteGuard's action")
        if limit < 1 or every_n_steps < 0:
            raise InputError(
                f"NonFiniteGuard needs a limit of at least 1 and every_n_steps of at least 0, not {limit} and "
                f"{every_n_steps}"
            )
        self.action, self.limit, self.every_n_steps = action, limit, every_n_steps
        self.skipped: list[int] = []
        """Numbers of the steps whose batches were skipped."""
        self._row = 0
        self._every = 1
        self._names: dict[int, str] = {}
        self._steps: list[Step] = []
        self._current = Step(0)
        self._batch: Any = None
        self._dumped: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Collect the names of the parameters and reset the counters."""
        self._every = self.every_n_steps or (1 if pl_module.device.type == "cpu" else 10)
        self._names = {id(parameter): name for name, parameter in pl_module.named_parameters()}
        self._steps, self._current, self._row = [], Step(trainer.global_step), 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch."""
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keep the loss and its logged terms."""
        now = trainer.callback_metrics
        self._current.batches.append(self._batch)
        self._current.losses.append(loss.detach())
        self._current.terms.append(
            {
                name.removeprefix("train/"): value
                for name, value in now.items()
                if name.startswith("train/") and not name.endswith(("_step", "_epoch"))
            }
        )

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Flag the step, stop bad gradients before they reach the weights, and read the flags when they are due."""
        step, self._current = self._current, Step(trainer.global_step)
        step.number, step.batches = trainer.global_step, step.batches or [self._batch]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        parameters = [p for p in parameters if p.grad is not None and not p.grad.is_sparse]
        gradients = [p.grad for p in parameters if p.grad is not None]
        device = pl_module.device
        step.parameters = [self._names.get(id(p), "a parameter") for p in parameters]
        step.gradients = norms(gradients).to(device)
        finite = [torch.stack([loss.isfinite().all() for loss in step.losses]).all().to(device)] if step.losses else []
        loss_bad = ~finite[0] if finite else torch.zeros((), dtype=torch.bool, device=device)
        step.bad = torch.stack([loss_bad, ~step.gradients.isfinite().all()])
        if trainer.world_size > 1 and torch.distributed.is_initialized():
            # All processes must do the same, or their weights would differ.
            flags = step.bad.to(torch.float32)
            torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
            step.bad = flags > 0
        self._steps.append(step)
        if self._every > 1:
            keep_if(~(step.bad[0] if _scales(trainer) else step.bad.any()), gradients)
        if len(self._steps) >= self._every and self._read(trainer, pl_module) and self._every == 1:
            for parameter in parameters:
                parameter.grad = None  # the optimizer passes over it

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the flags and check the weights before the validation."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._check(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if the PSNR is not a usable number, before the checkpoint is saved as the best."""
        measured = trainer.callback_metrics.get("val/psnr")
        if trainer.state.fn != "fit" or trainer.sanity_checking or measured is None:
            return
        if math.isnan(value := float(measured)) or value == -math.inf:
            _end(trainer, f"the validation after step {trainer.global_step} measures a PSNR of {value}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the flags and check the weights before they are saved."""
        self._check(trainer, pl_module)

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log which steps were skipped."""
        if self.skipped:
            _log.warning(
                "skipped %d batches whose loss or gradient was not finite, in the steps %s",
                len(self.skipped),
                listed([str(step) for step in self.skipped]),
            )

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the batch to the checkpoint of a stopped training, and set its counters to the last completed step."""
        if self._dumped is None:
            return
        checkpoint[_KEY] = self._dumped["record"]
        rewind(checkpoint, self._dumped["accumulated"])

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers of the skipped steps."""
        return {"skipped": self.skipped} if self.skipped else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the numbers of the skipped steps."""
        self.skipped = list(state_dict.get("skipped", []))

    def _check(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the flags, then check the weights."""
        self._read(trainer, pl_module)
        finite = all_finite(list(pl_module.parameters()))
        if not trainer.strategy.reduce_boolean_decision(bool(finite), all=True):
            _end(trainer, f"after step {trainer.global_step} weights are NaN or infinite")

    def _read(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        """Read the flags of the steps since the last reading; the training waits for the device only here.

        Returns:
            Whether the last of these steps must be skipped.

        Raises:
            InputError: a step was bad and `action` is `stop`, or too many in a row were bad.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return False
        last = False
        for step, (loss, gradient) in zip(steps, torch.stack([step.bad for step in steps]).tolist(), strict=True):
            scaled = gradient and not loss and _scales(trainer)
            last = loss or (gradient and not scaled)
            self._row = self._row + 1 if loss or gradient else 0
            if last and self.action == "stop":
                self._stop(trainer, step, step.describe())
            if self._row > self.limit:
                self._stop(trainer, step, f"{step.describe()}, as in the {self.limit} steps before")
            if last:
                self.skipped.append(step.number)
                self._log_skipped(trainer, step)
        return last

    @rank_zero_only
    def _log_skipped(self, trainer: pl.Trainer, step: Step) -> None:
        count = len(self.skipped)
        if count <= MOST_NAMES or count % 100 == 0:
            _log.warning("%s; the batch is skipped (%d so far)", step.describe(), count)
        for logger in trainer.loggers:
            logger.log_metrics({"skipped_batches": float(count)}, step=step.number)

    def _stop(self, trainer: pl.Trainer, step: Step, message: str) -> NoReturn:
        """Write the checkpoint and end the training on all processes; the first one raises the message."""
        message, record = agree(trainer, step, message)
        path = Path(trainer.default_root_dir) / f"non_finite_step{step.number}.ckpt"
        # Earlier batches whose gradients are in the same sum.
        accumulated = max(0, len(step.batches) - 1) if self._every == 1 else 0
        self._dumped = {"record": record, "accumulated": accumulated}
        finite = bool(all_finite(list(trainer.lightning_module.parameters())))
        try:
            trainer.save_checkpoint(path, weights_only=False)
            kept = f"weights, optimizer and batch are in {path}, for --from or --ckpt_path to continue"
            if not finite:
                kept = f"the batch is in {path}, whose weights are not finite either: start from another checkpoint"
        except (InputError, OSError, RuntimeError) as error:
            kept = f"weights and batch could not be saved in {path} ({short(error)})"
        finally:
            self._dumped = None
        skip = "" if self.action == "skip" else ", or skip such batches (NonFiniteGuard, action: skip)"
        _raise(trainer, f"{message}: lower model.optimizer.lr, inspect these images{skip}; {kept}")


def _end(trainer: pl.Trainer, reason: str) -> NoReturn:
    """End a training with unusable weights, which are not saved."""
    saved = [getattr(callback, "last_model_path", "") for callback in trainer.checkpoint_callbacks]
    whole = next((f", from {path}" for path in saved if path), "")
    _raise(trainer, f"{reason}, so that nothing more can be trained: lower model.optimizer.lr and start again{whole}")


def _raise(trainer: pl.Trainer, message: str) -> NoReturn:
    """End the training on all processes; the first one raises the message."""
    if not trainer.is_global_zero:
        raise SystemExit(2)
    raise InputError(message)


def _scales(trainer: pl.Trainer) -> bool:
    """Return whether a gradient scaler skips updates that are not finite."""
    return getattr(trainer.precision_plugin, "scaler", None) is not None
