"""Translation and warping of the last two axes of an image."""

import math
from typing import Literal

import torch
from torch import Tensor


def translate(x: Tensor, dx: float, dy: float, fill: float | Literal["edge"] = "edge") -> Tensor:
    """Move (..., H, W) by `dx` pixels to the right and `dy` down, differentiably; moves by whole pixels are exact.

    Pixel (i, j) of the result is pixel (i - dy, j - dx) of `x`, with linear interpolation between pixels.

    Args:
        x: tensor (..., H, W) of any value range, which must be floating point if a displacement is not whole.
        dx: displacement to the right in pixels, of any size; negative values move to the left.
        dy: displacement down in pixels; negative values move up.
        fill: "edge" repeats the edge pixel outside the image; a number is used as a constant value.

    Returns:
        Tensor of the shape and dtype of `x`.

    Raises:
        ValueError: a displacement is not finite, or is not whole and `x` is not floating point.
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


def warp(
    x: Tensor,
    matrix: Tensor,
    size: tuple[int, int] | None = None,
    fill: float | Literal["reflect"] = 0.0,
) -> Tensor:
    """Warp (..., H, W) by a homography, differentiably; displacements by whole pixels are exact.

    The point (x, y) of the input is mapped to `matrix` (x, y, 1), divided by its third component. Coordinates refer to
    pixel centres, x to the right and y down, with (0, 0) in the upper left pixel. Values are interpolated linearly
    between pixels, without antialiasing where the image shrinks.

    Args:
        x: floating point tensor (..., H, W) of any value range.
        matrix: homography (3, 3), used for all images of `x`; the third component of its product is positive wherever
            `x` is visible. The result is differentiable in it too.
        size: height and width of the result; by default those of `x`.
        fill: constant value outside `x`, or "reflect" to mirror `x` at the centres of its edge pixels. Points at and
            beyond the horizon of a perspective get the constant, or 0 with "reflect".

    Returns:
        Tensor (..., *size) of the dtype of `x`.

    Raises:
        ValueError: the matrix is not (3, 3), not finite or has no inverse, or `x` is not floating point.
    """
    if not x.is_floating_point():
        raise ValueError(f"warp takes a floating point tensor, not {x.dtype}")
    known = matrix.detach().double()
    if known.shape != (3, 3) or not known.isfinite().all() or not torch.linalg.det(known):
        raise ValueError(f"warp takes a finite matrix of 3 x 3 that has an inverse, not {matrix.tolist()}")
    height, width = x.shape[-2:] if size is None else size
    # Double precision keeps coordinates of whole pixels exact far beyond the size of any image.
    inverse = torch.linalg.inv(matrix.to(x.device, torch.float64))
    column = torch.arange(width, dtype=torch.float64, device=x.device)
    row = torch.arange(height, dtype=torch.float64, device=x.device)[:, None]
    across, down, depth = (a * column + (b * row + c) for a, b, c in inverse)
    in_front = depth > _HORIZON * inverse.abs().amax()
    places = [torch.where(in_front, place / torch.where(in_front, depth, 1.0), -2.0) for place in (down, across)]
    if fill == "reflect":
        lengths = zip(places, x.shape[-2:], strict=True)
        places = [torch.where(in_front, _mirrored(place, length), -2.0) for place, length in lengths]
    below = [place.detach().floor() for place in places]
    y, z = ((place - whole).to(x.dtype) for place, whole in zip(places, below, strict=True))
    # The image is framed by two pixels of the fill value; all points farther out are read from this frame.
    framed = torch.nn.functional.pad(x, (2, 2, 2, 2), value=0.0 if fill == "reflect" else fill)
    corner = [(whole.clamp(-2, n) + 2).long() for whole, n in zip(below, x.shape[-2:], strict=True)]
    step = framed.shape[-1]
    place = corner[0] * step + corner[1]
    upper = torch.lerp(_taken(framed, place), _taken(framed, place + 1), z)
    lower = torch.lerp(_taken(framed, place + step), _taken(framed, place + step + 1), z)
    return torch.lerp(upper, lower, y)


_HORIZON = 1e-9
"""Least depth of a visible point, relative to the largest entry of the inverse matrix."""


def _mirrored(place: Tensor, length: int) -> Tensor:
    """Return coordinates reflected into [0, length - 1]."""
    last = length - 1
    return last - (place.remainder(2 * last) - last).abs() if last else torch.zeros_like(place)


def _taken(x: Tensor, place: Tensor) -> Tensor:
    """Return the pixels (..., h, w) of (..., H, W) at the flat indices `place` (h, w)."""
    return x.flatten(-2).index_select(-1, place.flatten()).unflatten(-1, place.shape)


def _move(x: Tensor, pixels: int, axis: int, fill: float | Literal["edge"]) -> Tensor:
    """Move along one axis by whole pixels."""
    length = x.shape[axis]
    source = torch.arange(length, device=x.device) - pixels
    moved = x.index_select(axis, source.clamp(0, length - 1))
    if fill == "edge":
        return moved
    outside = (source < 0) | (source >= length)
    return moved.masked_fill(outside if axis == -1 else outside[:, None], fill)
