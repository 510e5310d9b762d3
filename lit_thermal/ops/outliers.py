"""Pixels outside of the mapped range, such as dead and hot ones, which come out of a restoration as they went in."""

import torch
from torch import Tensor

from lit_thermal.batch import Batch


def put_back(values: Tensor, outside: Tensor, times: Tensor | None = None) -> Tensor:
    """Give restored pixels the counts of the input's pixels that lay outside of the mapped range.

    Each such pixel takes its block of the restored frame, so that a dead or a hot pixel comes out as it went in and
    a clipped spot keeps its peak.

    Args:
        values: (T', 1, H, W) restored, in [0, 1].
        outside: (T, 1, h, w): `beyond` of the input.
        times: (T',) times of the restored frames in input frames from the first on; none where T' is T. A frame
            between two of the input takes what lies outside in the nearer one, or the earlier.

    Returns:
        (T', 1, H, W); values below 0 and above 1 where something was put back.
    """
    if not outside.any():
        return values
    if times is not None:
        nearest = (times - 0.5).ceil().long().clamp(0, len(outside) - 1)
        outside = outside[nearest.to(outside.device)]
    large = torch.nn.functional.interpolate(outside.to(values), values.shape[-2:], mode="nearest-exact")
    return torch.where(large != 0, large + (large > 0), values)


def completed(restored: Tensor, batch: Batch) -> Tensor:
    """Return restored frames with what lay outside of the mapped range of their inputs (`beyond`) put back.

    Args:
        restored: (B, 1, H, W) or (B, T', 1, H, W) in [0, 1].
        batch: gives `beyond`, for clips `lr_time` and `hr_time`, and `has_lr`, without which a sample shows nothing.

    Returns:
        The same shape; values below 0 and above 1 where something was put back.
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
