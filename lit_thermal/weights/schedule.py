"""Learning rates of a training that continues from a checkpoint."""

import warnings
from typing import Any

import torch
from torch import nn

from lit_thermal.errors import InputError, short
from lit_thermal.methods.base import SuperResolver
from lit_thermal.weights.checkpoint import recorded_model

_LONGEST = 200_000
"""Largest number of steps that are computed ahead, which takes about two seconds."""


def rates_ahead(model: SuperResolver, checkpoint: dict[str, Any], steps: int) -> dict[int, float]:
    """Return the learning rate of each remaining step, by step.

    The schedule continues with its state in the checkpoint, including its length, as Lightning restores it.

    Args:
        model: model with an optimizer and a schedule of the same classes as in the checkpoint.
        checkpoint: checkpoint with training state.
        steps: total number of training steps; -1 if it is unknown.

    Returns:
        Learning rates by step; empty if there is no schedule, no step is left, or the checkpoint has another schedule.

    Raises:
        InputError: the schedule ends before the last step.
    """
    start, states = checkpoint.get("global_step"), checkpoint.get("lr_schedulers")
    if model.lr_scheduler is None or not isinstance(start, int) or not states or steps <= start:
        return {}
    if _schedule(recorded_model(checkpoint)) != _schedule(model.config):
        return {}
    saved = checkpoint["optimizer_states"][0]["param_groups"]
    groups = [{**group, "params": [nn.Parameter(torch.zeros(()))]} for group in saved]
    rates: dict[int, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that the schedule is stepped without its optimizer
        optimizer = model.optimizer(groups)
        schedule = model.lr_scheduler(optimizer)
        schedule.load_state_dict(states[0])
        for group, before in zip(optimizer.param_groups, saved, strict=True):
            group |= {name: value for name, value in before.items() if name != "params"}
        for step in range(start, min(steps, start + _LONGEST)):
            rates[step] = float(optimizer.param_groups[0]["lr"])
            try:
                schedule.step()
            except ValueError as error:
                raise InputError(
                    f"the schedule {type(schedule).__name__} of the checkpoint ends before step {steps} "
                    f"({short(error)}): give trainer.max_steps {step} or fewer, or start a new training with its "
                    "weights by --from"
                ) from error
    return rates


def describe_rates(rates: dict[int, float]) -> str:
    """Return a description of learning rates: the first and last one, and the lowest and highest in between."""
    if not rates:
        return ""
    steps = list(rates)
    points = {steps[0], steps[-1]}
    ends = sorted(rates[step] for step in points)
    low, high = min(steps, key=rates.__getitem__), max(steps, key=rates.__getitem__)
    if rates[low] < ends[0]:
        points.add(low)
    if rates[high] > ends[-1]:
        points.add(high)
    if len(set(rates.values())) == 1:
        return f"the learning rate stays {rates[steps[0]]:.3g} to step {steps[-1] + 1}"
    return "the learning rate is " + ", ".join(f"{rates[step]:.3g} at step {step + 1}" for step in sorted(points))


def _schedule(config: dict[str, Any] | None) -> str:
    """Return the class path of the schedule in a model's config."""
    given = (config or {}).get("init_args", {}).get("lr_scheduler")
    return str(given.get("class_path", "")) if isinstance(given, dict) else str(given)
