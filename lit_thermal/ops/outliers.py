"""Pixels outside of the mapped range, such as dead and hot ones: restored images get their original counts."""

import torch
from torch import Tensor

from lit_thermal.batch import Batch


def put_back(values: Tensor, outside: Tensor, times: Tensor | None = None) -> Tensor:
    """Give restored pixels the counts of the input's pixels that were outside of the mapped range.

    Each such pixel replaces its block of the restored frame, so that a dead or a hot pixel keeps its count, and a
    clipped spot keeps its peak.

    Args:
        values: (T', 1, H, W) restored, in [0, 1].
        outside: (T, 1, h, w): `beyond` of the input.
        times: (T',) times of the restored frames in input frames from the first on; None if T' is T. A frame between
            two input frames takes the outside pixels of the nearer one, or of the earlier one in a tie.

    Returns:
        (T', 1, H, W), with values below 0 or above 1 at such pixels.
    """
    if not outside.any():
        return values
    if times is not None:
        nearest = (times - 0.5).ceil().long().clamp(0, len(outside) - 1)
        outside = outside[nearest.to(outside.device)]
    large = torch.nn.functional.interpolate(outside.to(values), values.shape[-2:], mode="nearest-exact")
    return torch.where(large != 0, large + (large > 0), values)


def completed(restored: Tensor, batch: Batch) -> Tensor:
    """Return restored frames with the counts of those input pixels that were outside of the mapped range (`beyond`).

    Args:
        restored: (B, 1, H, W) or (B, T', 1, H, W) in [0, 1].
        batch: batch with `beyond`, for clips also `lr_time` and `hr_time`; samples without an input by `has_lr` are
            unchanged.

    Returns:
        Tensor of the same shape, with values below 0 or above 1 at such pixels.
    """
    if "beyond" not in batch:
        return restored
    outside = batch["beyond"]
    if "has_lr" in batch:
        outside = outside * batch["has_lr"].view(-1, *[1] * (outside.ndim - 1)).to(outside)
    if restored.ndim == 4:
        return put_back(restored.float(), outside)
    times = batch["hr_time"] - batch["lr_time"][:, :1]
    return torch.stack([put_back(r.float(), o, t) for r, o, t in zip(restored, outside, times, strict=True)])
