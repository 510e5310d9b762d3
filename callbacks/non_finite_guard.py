"""A training whose loss or gradient is no number ends with a sentence and a checkpoint, or leaves the batch out."""

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import lightning.pytorch as pl
import torch
import torch.distributed
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.optim import Optimizer

from lit_thermal.errors import InputError, short
from lit_thermal.ops.finite import all_finite, keep_if, norms

_log = logging.getLogger(__name__)
_KEY = "non_finite"
"""Key of the batch in the checkpoint of a stopped training."""
_TOLD = 10
"""How many names and skipped steps are told one by one."""


@dataclass
class _Step:
    """What is kept of an optimizer step until the flags are read; tensors stay on the device.

    Attributes:
        number: optimizer steps before it.
        parameters: names of those with a gradient.
        batches: those whose gradients it sums.
        losses: of each batch.
        terms: what each batch logged as `train/<term>`.
        gradients: (N,) norms of the gradients.
        bad: (2,) bool: loss, gradient; of any process.
    """

    number: int
    parameters: list[str] = field(default_factory=list)
    batches: list[Any] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    terms: list[dict[str, Tensor]] = field(default_factory=list)
    gradients: Tensor = field(default_factory=lambda: torch.zeros(0))
    bad: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.bool))


class NonFiniteGuard(Callback):
    """Stops a training, or skips the batch, where the loss or the gradient is NaN or infinite.

    `fit` has it without being asked. Such an update never reaches the weights, and a stopped training leaves
    `non_finite_step<step>.ckpt` in the run's folder: the batch under the key `non_finite`, and weights, optimizer and
    counters for `fit --ckpt_path` or `--from` to start on again. Training also stops where a validation measures a
    PSNR of NaN or minus infinity, or the weights themselves are not finite.

    Flags and batches stay on the device until they are read, every `every_n_steps` steps, before a validation and at
    the end of an epoch. With 1, the update of such a batch is not made, and the checkpoint is of the moment before.
    Otherwise nobody waits for the device: the gradient is set to zero there, so that the optimizer moves the weights
    by its momentum alone, and the checkpoint is of the step at which the flag was read.

    With `trainer.precision=16-mixed` infinite gradients belong to the search for the scale, and the scaler leaves their
    updates out itself. They stop the training only when `limit` of them follow each other.

    Args:
        action: stop ends the training; skip leaves the batch out, tells of it, and counts it as `skipped_batches`.
        limit: how many batches in a row are skipped at most; one more stops the training.
        every_n_steps: how often the flags are read, in optimizer steps; 0 reads them at each step on the CPU, where it
            costs nothing, and at every tenth elsewhere.

    Raises:
        InputError: a number is out of range.
    """

    def __init__(self, action: Literal["stop", "skip"] = "stop", limit: int = 20, every_n_steps: int = 0) -> None:
        if action not in ("stop", "skip"):
            raise InputError(f"NonFiniteGuard's action is {action!r}; choose of stop and skip")
        if limit < 1 or every_n_steps < 0:
            raise InputError(
                f"NonFiniteGuard needs a limit of at least 1 and every_n_steps of at least 0, not {limit} and "
                f"{every_n_steps}"
            )
        self.action, self.limit, self.every_n_steps = action, limit, every_n_steps
        self.skipped: list[int] = []
        """Steps whose batches were skipped."""
        self._row = 0
        self._every = 1
        self._names: dict[int, str] = {}
        self._steps: list[_Step] = []
        self._current = _Step(0)
        self._batch: Any = None
        self._dumped: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Know the parameters, and begin to watch."""
        self._every = self.every_n_steps or (1 if pl_module.device.type == "cpu" else 10)
        self._names = {id(parameter): name for name, parameter in pl_module.named_parameters()}
        self._steps, self._current, self._row = [], _Step(trainer.global_step), 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch."""
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keep the loss, and its terms as they were logged."""
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
        """Look at the gradients, keep what is no number from the weights, and read the flags when it is time."""
        step, self._current = self._current, _Step(trainer.global_step)
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
            # all processes must do the same: with one of them alone the weights would part
            told = step.bad.to(torch.float32)
            torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
            step.bad = told > 0
        self._steps.append(step)
        if self._every > 1:
            keep_if(~(step.bad[0] if _scales(trainer) else step.bad.any()), gradients)
        if len(self._steps) >= self._every and self._read(trainer, pl_module) and self._every == 1:
            for parameter in parameters:
                parameter.grad = None  # what an optimizer passes over

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the flags and look at the weights before they are measured."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._check(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop where nothing could be measured, before the checkpoint is taken for the best."""
        measured = trainer.callback_metrics.get("val/psnr")
        if trainer.state.fn != "fit" or trainer.sanity_checking or measured is None:
            return
        if math.isnan(value := float(measured)) or value == -math.inf:
            _end(trainer, f"the validation after step {trainer.global_step} measures a PSNR of {value}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the flags and look at the weights before they are saved."""
        self._check(trainer, pl_module)

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell what was skipped."""
        if self.skipped:
            _log.warning(
                "skipped %d batches whose loss or gradient was not finite, in the steps %s",
                len(self.skipped),
                _listed([str(step) for step in self.skipped]),
            )

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the batch to the checkpoint of a stopped training, and set its counters to the last whole step."""
        if self._dumped is None:
            return
        checkpoint[_KEY] = self._dumped["record"]
        loops = checkpoint.get("loops", {}).get("fit_loop", {})
        for name, progress in loops.items():
            if name == "epoch_loop.batch_progress":
                _go_back(progress, self._dumped["begun"])
            elif name == "epoch_loop.automatic_optimization.optim_progress":
                for part in progress["optimizer"].values():
                    _go_back(part, 0)

    def state_dict(self) -> dict[str, Any]:
        """The steps whose batches were skipped."""
        return {"skipped": self.skipped} if self.skipped else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.skipped = list(state_dict.get("skipped", []))

    def _check(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the flags, then look at the weights."""
        self._read(trainer, pl_module)
        finite = all_finite(list(pl_module.parameters()))
        if not trainer.strategy.reduce_boolean_decision(bool(finite), all=True):
            _end(trainer, f"after step {trainer.global_step} weights are NaN or infinite")

    def _read(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        """Read the flags of the steps since the last time: the one place that waits for the device.

        Returns:
            Whether the last of them is to be skipped.

        Raises:
            InputError: one was bad and `action` is stop, or too many in a row were.
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
                self._stop(trainer, step, _told(step))
            if self._row > self.limit:
                self._stop(trainer, step, f"{_told(step)}, as in the {self.limit} steps before")
            if last:
                self.skipped.append(step.number)
                self._tell_skipped(trainer, step)
        return last

    @rank_zero_only
    def _tell_skipped(self, trainer: pl.Trainer, step: _Step) -> None:
        count = len(self.skipped)
        if count <= _TOLD or count % 100 == 0:
            _log.warning("%s; the batch is skipped (%d so far)", _told(step), count)
        for logger in trainer.loggers:
            logger.log_metrics({"skipped_batches": float(count)}, step=step.number)

    def _stop(self, trainer: pl.Trainer, step: _Step, what: str) -> NoReturn:
        """Write the checkpoint and end the training on all processes; the first one tells why."""
        what, record = _agreed(trainer, step, what)
        path = Path(trainer.default_root_dir) / f"non_finite_step{step.number}.ckpt"
        # batches before the one that is looked at, whose gradients are in the same sum
        begun = max(0, len(step.batches) - 1) if self._every == 1 else 0
        self._dumped = {"record": record, "begun": begun}
        finite = bool(all_finite(list(trainer.lightning_module.parameters())))
        try:
            trainer.save_checkpoint(path, weights_only=False)
            kept = f"weights, optimizer and batch are in {path}, for --from or --ckpt_path to start on again"
            if not finite:
                kept = f"the batch is in {path}, whose weights are not finite either: start from another checkpoint"
        except (InputError, OSError, RuntimeError) as error:
            kept = f"they could not be kept in {path} ({short(error)})"
        finally:
            self._dumped = None
        skip = "" if self.action == "skip" else ", or skip such batches (NonFiniteGuard, action: skip)"
        _raise(trainer, f"{what}: lower model.optimizer.lr, look at these images{skip}; {kept}")


def _end(trainer: pl.Trainer, what: str) -> NoReturn:
    """End a training whose weights are of no use, which no checkpoint keeps."""
    saved = [getattr(callback, "last_model_path", "") for callback in trainer.checkpoint_callbacks]
    whole = next((f", from {path}" for path in saved if path), "")
    _raise(trainer, f"{what}, so that nothing more can be trained: lower model.optimizer.lr and start again{whole}")


def _raise(trainer: pl.Trainer, sentence: str) -> NoReturn:
    """End the training on all processes; the first one tells why."""
    if not trainer.is_global_zero:
        raise SystemExit(2)
    raise InputError(sentence)


def _scales(trainer: pl.Trainer) -> bool:
    """Return whether a scaler of gradients leaves out updates that are not finite itself."""
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def _told(step: _Step) -> str:
    """Return what was not finite in a step and what it was trained on, read from the device."""
    for loss, terms, batch in zip(step.losses, step.terms, step.batches, strict=False):
        if not bool(loss.isfinite().all()):
            wrong = [name for name, value in terms.items() if not bool(value.isfinite().all())]
            wrong = [name for name in wrong if name != "loss"] or wrong
            of = f" (first in the term {wrong[0]}{_more(wrong[1:])})" if wrong else ""
            return f"in step {step.number} the loss is {_kind(loss)}{of} on {_listed(_names_of([batch]))}"
    where = [index for index, good in enumerate(step.gradients.isfinite().tolist()) if not good]
    on = _listed(_names_of(step.batches))
    if not where:
        return f"in step {step.number} the loss or the gradient of another process is not finite"
    # the backward pass goes from the model's end to its beginning
    first = where[-1]
    others = f" and of {len(where) - 1} more parameters" if len(where) > 1 else ""
    kind = _kind(step.gradients[first])
    return f"in step {step.number} the gradient of {step.parameters[first]}{others} is {kind}, not the loss, on {on}"


def _agreed(trainer: pl.Trainer, step: _Step, what: str) -> tuple[str, dict[str, Any]]:
    """Return what is told and kept: that of the first process whose own loss was not finite, else of the first."""
    record = {
        "step": step.number,
        "told": what,
        "names": _names_of(step.batches),
        "batches": [_plain(batch) for batch in step.batches],
        "terms": [{name: float(value) for name, value in terms.items()} for terms in step.terms],
    }
    if trainer.world_size == 1 or not torch.distributed.is_initialized():
        return what, record
    own = any(not bool(loss.isfinite().all()) for loss in step.losses)
    found: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(found, own)
    source = found.index(True) if True in found else 0
    shared = [record]
    torch.distributed.broadcast_object_list(shared, source)
    return shared[0]["told"], shared[0]


def _plain(value: Any) -> Any:
    """Return a batch as tensors on the CPU and plain values, which is all that is read from a checkpoint."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _go_back(progress: dict[str, Any], batches: int) -> None:
    """Set the counters of a loop, as a checkpoint holds them, to so many before what was completed."""
    for counts in (progress["total"], progress["current"]):
        counts.update(dict.fromkeys(counts, counts["completed"] - batches))


def _names_of(batches: list[Any]) -> list[str]:
    return [str(name) for batch in batches if isinstance(batch, dict) for name in batch.get("name", [])]


def _kind(value: Tensor) -> str:
    return "NaN" if bool(value.isnan().any()) else "infinite"


def _more(names: list[str]) -> str:
    return f", also in {', '.join(names)}" if names else ""


def _listed(names: list[str]) -> str:
    if not names:
        return "a batch without names"
    rest = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return ", ".join(names[:_TOLD]) + rest
