"""Training of what judges images (detectors, segmenters): budgets in steps, progress, checkpoints to go on from."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lit_thermal.errors import InputError, reading
from lit_thermal.files import check_folder
from lit_thermal.shapes import COUNT, check
from lit_thermal.weights.checkpoint import read_values
from lit_thermal.weights_file import save_file

_TRAINED = {"record": {"steps": COUNT, "classes?": [str], "detector?": str, "segmenter?": str}, "step": COUNT}
"""What of a checkpoint is looked at before its weights."""


def train(
    network: nn.Module,
    loss: Callable[[int], Tensor],
    optimizer: Optimizer,
    rate: Callable[[int], float],
    *,
    steps: int,
    file: Path,
    record: dict[str, Any],
    seed: int = 0,
    every: int = 200,
    clip_norm: float = 10.0,
) -> None:
    """Train a network for a number of steps, or go on with a training that was cut.

    Each step seeds torch's generators by its number, so that a training that was killed and started again ends with
    the weights of one that was not, on one machine.

    Args:
        network: in it are the weights afterwards, in eval mode.
        loss: number of the step to its loss.
        optimizer: of the network.
        rate: number of the step to the factor of the optimizer's learning rate.
        steps: how many.
        file: the checkpoint, written whole every so many steps and at the end; a finished one is read and nothing is
            trained.
        record: what the weights belong to and how they are trained; goes into the checkpoint.
        seed: of all draws.
        every: steps from one checkpoint to the next.
        clip_norm: the greatest norm of the gradient.

    Raises:
        InputError: the checkpoint there is of another training, or the loss is no number any more.
    """
    schedule = LambdaLR(optimizer, rate)
    record = record | {"steps": steps, "seed": seed}
    start = _resume(file, network, optimizer, schedule, record)
    if start < steps:
        check_folder(file.parent, "the folder of the weights")
        network.train()
        for step in _shown(range(start, steps), f"Training {file.stem}", steps):
            with torch.random.fork_rng():
                torch.manual_seed((seed << 32) + step)
                value = loss(step)
            if not torch.isfinite(value):
                raise InputError(f"the loss is {value.item()} at step {step}: take a lower learning rate")
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
            optimizer.step()
            schedule.step()
            if (step + 1) % every == 0 or step + 1 == steps:
                _save(file, network, optimizer, schedule, record, step + 1, value.item())
    network.eval()


def warm_up_then(fall: str, warm_up: int, steps: int) -> Callable[[int], float]:
    """Factor of the learning rate: a straight rise over `warm_up` steps, then a "cosine" or "linear" fall to 0.01."""

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        share = min(1.0, (step - warm_up) / max(1, steps - warm_up))
        left = (1 + math.cos(math.pi * share)) / 2 if fall == "cosine" else 1 - share
        return 0.01 + 0.99 * left

    return factor


def draw(count: int, batch: int, step: int, seed: int) -> list[int]:
    """The samples of a step: each once in a pass over all `count`, in an order of its own."""
    chosen = []
    for position in range(step * batch, (step + 1) * batch):
        number, place = divmod(position, count)
        chosen.append(_order(count, number, seed)[place])
    return chosen


def read_trained(file: Path) -> dict[str, Any]:
    """Read what `train` wrote: `record`, `state_dict` and `step`.

    Raises:
        InputError: it cannot be read, is not of that kind, or its training was cut.
    """
    if not file.is_file():
        raise InputError(f"there is no file {file}")
    saved = read_values(file)
    if not isinstance(saved, dict) or not {"record", "state_dict", "step"} <= saved.keys():
        raise InputError(f"{file} is no checkpoint of a trained detector or segmenter")
    check(saved, _TRAINED, f"{file} is no checkpoint of a trained detector or segmenter", "train again")
    if saved["step"] < saved["record"]["steps"]:
        raise InputError(
            f"{file} was cut at step {saved['step']} of {saved['record']['steps']}: start its training again, which "
            "goes on from there"
        )
    return saved


_orders: dict[tuple[int, int, int], list[int]] = {}


def _order(count: int, number: int, seed: int) -> list[int]:
    key = (count, number, seed)
    if key not in _orders:
        if len(_orders) > 4:
            _orders.clear()
        generator = torch.Generator().manual_seed((seed << 32) + number)
        _orders[key] = torch.randperm(count, generator=generator).tolist()
    return _orders[key]


def _resume(file: Path, network: nn.Module, optimizer: Optimizer, schedule: LambdaLR, record: dict[str, Any]) -> int:
    """Read the checkpoint, where there is one; the number of steps that it has."""
    if not file.is_file():
        return 0
    saved = read_values(file)
    known = saved.get("record") if isinstance(saved, dict) else None
    if known != record:
        differing = [key for key in record if not isinstance(known, dict) or known.get(key) != record[key]]
        raise InputError(
            f"{file} is of another training (other {', '.join(differing) or 'record'}): name another file or remove it"
        )
    with reading(file, "a checkpoint of this training", "remove it and train again"):
        network.load_state_dict(saved["state_dict"])
        if saved["step"] < record["steps"]:
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
        return int(saved["step"])


def _save(
    file: Path,
    network: nn.Module,
    optimizer: Optimizer,
    schedule: LambdaLR,
    record: dict[str, Any],
    step: int,
    loss: float,
) -> None:
    """Write a checkpoint whole; a finished one carries no optimizer."""
    saved: dict[str, Any] = {"record": record, "state_dict": network.state_dict(), "step": step, "loss": loss}
    if step < record["steps"]:
        saved |= {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    save_file(saved, file)


def _shown(numbers: Sequence[int], text: str, total: int) -> Iterator[int]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(text, total=total, completed=total - len(numbers))
        for number in numbers:
            yield number
            progress.advance(task)
