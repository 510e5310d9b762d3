"""Moving the last two axes of an image."""

import math
from typing import Literal

import torch
from torch import Tensor


def translate(x: Tensor, dx: float, dy: float, fill: float | Literal["edge"] = "edge") -> Tensor:
    """Move (..., H, W) by `dx` pixels to the right and `dy` down, differentiably; whole pixels stay exact.

    Pixel (i, j) of the result is pixel (i - dy, j - dx) of `x`; between pixels it is interpolated linearly.

    Args:
        x: tensor of any value range; floating point where a displacement is not whole.
        dx: displacement to the right in pixels, negative to the left, of any size.
        dy: displacement down.
        fill: what moves in from outside: the edge pixel repeated, or this value.

    Returns:
        Tensor of the shape and dtype of `x`.

    Raises:
        ValueError: a displacement is not a number, or not whole where `x` is not floating point.
    """
    for axis, distance in ((-1, dx), (-2, dy)):
        if not math.isfinite(distance):
            raise ValueError(f"translate moves by a number of pixels, not by {distance}")
        whole = math.floor(distance)
        part = distance - whole
        if part and not x.is_floating_point():
            raise ValueError(f"translate by {distance} pixels takes a floating point tensor, not {x.dtype}")
        moved = _move(x, whole, axis, fill)
        x = torch.lerp(moved, _move(x, whole + 1, axis, fill), part) if part else moved
    return x


def _move(x: Tensor, pixels: int, axis: int, fill: float | Literal["edge"]) -> Tensor:
    """Move along one axis by whole pixels."""
    length = x.shape[axis]
    source = torch.arange(length, device=x.device) - pixels
    moved = x.index_select(axis, source.clamp(0, length - 1))
    if fill == "edge":
        return moved
    outside = (source < 0) | (source >= length)
    return moved.masked_fill(outside if axis == -1 else outside[:, None], fill)
