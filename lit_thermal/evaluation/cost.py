"""Cost of a model: its size, its training, and its time and memory per image."""

import resource
import sys
from typing import Any

import torch
from torch import nn


def cost_of(
    model: nn.Module,
    device: torch.device,
    *,
    seconds: float,
    images: int,
    training_seconds: float | None,
    training_steps: int | None,
) -> dict[str, Any]:
    """Describe the cost of a run for its record.

    Args:
        model: model whose parameters are counted.
        device: device that it ran on.
        seconds: time that restoring took.
        images: number of restored images or frames.
        training_seconds: wall time of the training that made the weights; None if unknown.
        training_steps: number of optimizer steps of that training; None if unknown.

    Returns:
        `parameters`, `trainable_parameters`, `training_seconds`, `training_steps`, `seconds_per_image`,
        `peak_memory_bytes` (on a GPU the peak of torch's allocations since the process began or the peak was reset,
        otherwise the peak resident size of the process), `device`, `threads`.
    """
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "training_seconds": training_seconds,
        "training_steps": training_steps,
        "seconds_per_image": seconds / images if images else None,
        "peak_memory_bytes": _peak(device),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
    }


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu":
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
