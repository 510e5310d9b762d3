"""An optimizer step that `NonFiniteGuard` watches: its flags, its description, and its record in a checkpoint."""

from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed
from torch import Tensor

MOST_NAMES = 10
"""Number of names that a message lists."""


@dataclass
class Step:
    """An optimizer step until its flags are read; tensors stay on the device.

    Attributes:
        number: number of optimizer steps before it.
        parameters: names of the parameters with a gradient.
        batches: batches whose gradients the step sums.
        losses: loss of each batch.
        terms: values that each batch logged as `train/<term>`.
        gradients: (N,) norms of the gradients.
        bad: (2,) bool: the loss, or a gradient, of any process is not finite.
    """

    number: int
    parameters: list[str] = field(default_factory=list)
    batches: list[Any] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    terms: list[dict[str, Tensor]] = field(default_factory=list)
    gradients: Tensor = field(default_factory=lambda: torch.zeros(0))
    bad: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.bool))

    def describe(self) -> str:
        """Return which value was not finite and on which images, read from the device."""
        for loss, terms, batch in zip(self.losses, self.terms, self.batches, strict=False):
            if not bool(loss.isfinite().all()):
                wrong = [name for name, value in terms.items() if not bool(value.isfinite().all())]
                wrong = [name for name in wrong if name != "loss"] or wrong
                terms_text = f" (first in the term {wrong[0]}{_more(wrong[1:])})" if wrong else ""
                return f"in step {self.number} the loss is {_kind(loss)}{terms_text} on {listed(_names_of([batch]))}"
        where = [index for index, good in enumerate(self.gradients.isfinite().tolist()) if not good]
        if not where:
            return f"in step {self.number} the loss or the gradient of another process is not finite"
        # The backward pass goes from the model's end to its beginning.
        first = where[-1]
        kind, on = _kind(self.gradients[first]), listed(_names_of(self.batches))
        others = f" and of {len(where) - 1} more parameters" if len(where) > 1 else ""
        named = f"{self.parameters[first]}{others}"
        return f"in step {self.number} the gradient of {named} is {kind}, not the loss, on {on}"


def agree(trainer: pl.Trainer, step: Step, message: str) -> tuple[str, dict[str, Any]]:
    """Return the message and the record of the step on which all processes agree.

    They come from the first process with a loss that is not finite, else from the first process.

    Args:
        trainer: trainer of the run.
        step: step of this process.
        message: message of this process.
    """
    record = {
        "step": step.number,
        "message": message,
        "names": _names_of(step.batches),
        "batches": [_plain(batch) for batch in step.batches],
        "terms": [{name: float(value) for name, value in terms.items()} for terms in step.terms],
    }
    if trainer.world_size == 1 or not torch.distributed.is_initialized():
        return message, record
    own = any(not bool(loss.isfinite().all()) for loss in step.losses)
    found: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(found, own)
    source = found.index(True) if True in found else 0
    shared = [record]
    torch.distributed.broadcast_object_list(shared, source)
    return shared[0]["message"], shared[0]


def rewind(checkpoint: dict[str, Any], batches: int) -> None:
    """Set the counters of the training loop in a checkpoint to the last completed step.

    Args:
        checkpoint: checkpoint, changed in place.
        batches: number of completed batches whose gradients were only accumulated; they are trained on again.
    """
    loops = checkpoint.get("loops", {}).get("fit_loop", {})
    for name, progress in loops.items():
        if name == "epoch_loop.batch_progress":
            _go_back(progress, batches)
        elif name == "epoch_loop.automatic_optimization.optim_progress":
            for part in progress["optimizer"].values():
                _go_back(part, 0)


def listed(names: list[str]) -> str:
    """Return the first `MOST_NAMES` names, and the number of the others."""
    if not names:
        return "a batch without names"
    rest = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + rest


def _go_back(progress: dict[str, Any], batches: int) -> None:
    for counts in (progress["total"], progress["current"]):
        counts.update(dict.fromkeys(counts, counts["completed"] - batches))


def _plain(value: Any) -> Any:
    """Return a batch as tensors on the CPU and plain values; reading a checkpoint allows nothing else."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _names_of(batches: list[Any]) -> list[str]:
    return [str(name) for batch in batches if isinstance(batch, dict) for name in batch.get("name", [])]


def _kind(value: Tensor) -> str:
    return "NaN" if bool(value.isnan().any()) else "infinite"


def _more(names: list[str]) -> str:
    return f", also in {', '.join(names)}" if names else ""
