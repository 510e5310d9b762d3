"""What a model costs: its size, its training, its time and memory for an image."""

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
        model: whose parameters are counted.
        device: where it ran.
        seconds: what restoring took.
        images: how many images or frames were restored.
        training_seconds: wall time of the training that made the weights; None where it is not known.
        training_steps: its optimizer steps.

    Returns:
        `parameters`, `trainable_parameters`, `training_seconds`, `training_steps`, `seconds_per_image`,
        `peak_memory_bytes` (on a GPU what torch held there at most since the process began or the peak was reset,
        else the resident size of the process at most), `device`, `threads`.
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
