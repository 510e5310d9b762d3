"""Resizing of the last two axes by separable weight matrices that are computed in float64.

One function covers the common conventions: MATLAB's ``imresize`` (a = -0.5, antialiased, symmetric border), torch's
plain bicubic (a = -0.75, not antialiased, replicated border) and bilinear, and Pillow's filters away from the border.
Pixel centres are at half integers in all of them (``align_corners=False``).
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.errors import check_choice

Kernel = Literal["cubic", "linear", "nearest"]
Border = Literal["symmetric", "replicate"]


def resize(
    x: Tensor,
    size: int | tuple[int, int],
    *,
    kernel: Kernel = "cubic",
    a: float = -0.5,
    antialias: bool = True,
    border: Border = "symmetric",
) -> Tensor:
    """Resize (..., H, W) to (..., *size), differentiably; a constant image stays constant.

    Each axis is multiplied by a matrix whose rows sum to 1. The cubic kernel overshoots, so that the result may leave
    the range of the input: clip it if necessary.

    Args:
        x: floating point tensor of any value range; half precision is computed in float32.
        size: new size (H', W'), or one number for both.
        kernel: interpolation kernel, "cubic" (Keys, 4 taps), "linear" (2 taps) or "nearest" (1 tap, torch's
            "nearest-exact").
        a: slope of the cubic kernel at distance 1: -0.5 in MATLAB and Pillow, -0.75 in torch and OpenCV.
        antialias: widen the kernel by the reduction factor; no effect on enlargement or with "nearest".
        border: extension of the image, "symmetric" by mirroring with the edge repeated (MATLAB) or "replicate" by the
            edge pixel (torch).

    Returns:
        Tensor of the dtype and device of `x`; `x` itself if the size does not change.

    Raises:
        ValueError: a size is not positive, a name is unknown (`InputError`), or `x` is not floating point.

    Source: R. Keys, "Cubic convolution interpolation for digital image processing", 1981; MATLAB's imresize.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if not x.is_floating_point():
        raise ValueError(f"resize takes a floating point tensor, not {x.dtype}")
    if (height, width) == tuple(x.shape[-2:]):
        return x
    if torch.compiler.is_exporting():
        traced = _by_whole_factor(x, (height, width), kernel, a, antialias, border)
        if traced is not None:
            return traced
    with torch.autocast(x.device.type, enabled=False):
        y = x if x.dtype in (torch.float32, torch.float64) else x.float()
        # The axis that shrinks most is resized first, which makes the second product cheaper.
        axes = sorted(((height / x.shape[-2], -2, height), (width / x.shape[-1], -1, width)))
        for _, axis, length in axes:
            if length == x.shape[axis]:
                continue
            weights = _matrix(x.shape[axis], length, kernel, a, antialias, border, y.dtype == torch.float64)
            w = torch.from_numpy(weights).to(y.device, non_blocking=True)
            y = w @ y if axis == -2 else y @ w.mT
    return y.to(x.dtype)


@lru_cache(maxsize=256)
def resize_weights(
    length: int,
    new_length: int,
    kernel: Kernel = "cubic",
    a: float = -0.5,
    antialias: bool = True,
    border: Border = "symmetric",
) -> np.ndarray:
    """Return the read-only float64 matrix (new_length, length) that resizes one axis; its rows sum to 1."""
    if length < 1 or new_length < 1:
        raise ValueError(f"cannot resize an axis from {length} to {new_length} pixels: both must be >= 1")
    check_choice(kernel, Kernel, "the kernel of resize")
    check_choice(border, Border, "the border of resize")
    scale = new_length / length
    centre = (np.arange(new_length) + 0.5) / scale - 0.5
    if kernel == "nearest":
        weights = np.zeros((new_length, length))
        weights[np.arange(new_length), np.clip(np.floor(centre + 0.5).astype(int), 0, length - 1)] = 1.0
        weights.setflags(write=False)
        return weights
    squeeze = min(scale, 1.0) if antialias else 1.0
    radius = (2.0 if kernel == "cubic" else 1.0) / squeeze
    taps = int(np.ceil(2 * radius)) + 2
    index = np.floor(centre - radius).astype(int)[:, None] + np.arange(taps)
    distance = np.abs((centre[:, None] - index) * squeeze)
    value = _cubic(distance, a) if kernel == "cubic" else np.maximum(1.0 - distance, 0.0)
    value /= value.sum(1, keepdims=True)
    if border == "replicate":
        index = np.clip(index, 0, length - 1)
    else:
        index = index % (2 * length)
        index = np.where(index >= length, 2 * length - 1 - index, index)
    weights = np.zeros((new_length, length))
    np.add.at(weights, (np.arange(new_length)[:, None], index), value)
    weights.setflags(write=False)
    return weights


def _by_whole_factor(
    x: Tensor, size: tuple[int, int], kernel: Kernel, a: float, antialias: bool, border: Border
) -> Tensor | None:
    """Enlarge or reduce (..., H, W), whose size may be a symbol of an export, by a whole factor; otherwise None.

    The weights are then the same around every pixel, so that a convolution replaces the matrices.
    """
    height, width = x.shape[-2:]
    up, down = int(size[0] // height), int(height // size[0]) if size[0] else 0
    y = x.reshape(-1, 1, height, width)
    if up > 1 and size == (up * height, up * width):
        middle = resize_weights(9, 9 * up, kernel, a, False, border)[4 * up : 5 * up, 2:7]  # five taps for each phase
        taps = torch.from_numpy(np.einsum("iy,jx->ijyx", middle, middle).reshape(-1, 1, 5, 5)).to(x)
        y = F.pixel_shuffle(F.conv2d(_bordered(y, 2, border), taps), up)
    elif down > 1 and (height, width) == (down * size[0], down * size[1]):
        edge = 2 * down
        middle = resize_weights(9 * down, 9, kernel, a, antialias, border)[4, 4 * down - edge : 5 * down + edge]
        taps = torch.from_numpy(np.outer(middle, middle)[None, None]).to(x)
        y = F.conv2d(_bordered(y, edge, border), taps, stride=down)
    else:
        return None
    return y.reshape(*x.shape[:-2], *size)


def _bordered(x: Tensor, edge: int, border: Border) -> Tensor:
    """Extend (N, 1, H, W) by `edge` pixels on each side."""
    if border == "replicate":
        return F.pad(x, (edge,) * 4, mode="replicate")
    for axis in (-2, -1):
        ends = x.narrow(axis, 0, edge), x.narrow(axis, x.shape[axis] - edge, edge)
        x = torch.cat([ends[0].flip(axis), x, ends[1].flip(axis)], axis)
    return x


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Return Keys' kernel at non-negative distances; it is zero at distances of 2 and more."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


@lru_cache(maxsize=256)
def _matrix(
    length: int,
    new_length: int,
    kernel: Kernel,
    a: float,
    antialias: bool,
    border: Border,
    double: bool,
) -> np.ndarray:
    """Return the weights as float64 or float32; a tensor shares their memory and must not modify them."""
    # The cache holds an array, because a tensor would keep the mode (inference, export) of the first call.
    weights = resize_weights(length, new_length, kernel, a, antialias, border)
    return np.array(weights, dtype=np.float64 if double else np.float32)
