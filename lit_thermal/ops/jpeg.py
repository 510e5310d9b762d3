"""JPEG artefacts of gray images: quantisation of the cosine coefficients, without writing a file."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.ops.dct import cosine_basis

BLOCK = 8
"""Side in pixels of the blocks that are transformed."""
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantisation steps at quality 50, in 8-bit levels; rows are vertical and columns horizontal frequencies."""
TIE = 1e-9
"""Added before rounding, so that values within rounding error of half a step are rounded alike on every device."""


def jpeg(x: Tensor, quality: float) -> Tensor:
    """Quantise the 8 x 8 cosine coefficients of gray images (..., H, W), as a JPEG file of this quality does.

    The result is computed in float64. Unlike in a file, neither input nor output is rounded to whole levels; round both
    to get the pixels of a file. These then agree except for coefficients near half a step, because encoders and
    decoders transform in integers. No gradient passes the rounding.

    Args:
        x: values in [0, 1], which correspond to 8-bit levels; values outside are clipped.
        quality: quality from 1 to 100 in libjpeg's scale, which may be fractional.

    Returns:
        Values in [0, 1] of the shape, dtype and device of `x`. For the transform, sides that are not multiples of 8 are
        padded with the edge pixels.

    Raises:
        ValueError: the quality is out of range.

    Source: ITU-T T.81, annexes A and K; the scale of quality is that of the Independent JPEG Group.
    """
    steps = luminance_steps(quality).to(x.device)
    height, width = x.shape[-2:]
    levels = (x.double().clamp(0, 1) * 255 - 128).reshape(-1, 1, height, width)
    levels = F.pad(levels, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    blocks = levels.unflatten(-1, (-1, BLOCK)).unflatten(-3, (-1, BLOCK)).transpose(-2, -3)
    basis = cosine_basis(torch.arange(BLOCK, device=x.device), BLOCK)  # (pixel, frequency) of a block
    coefficients = basis.mT @ blocks @ basis / steps
    kept = coefficients.sign() * (coefficients.abs() + (0.5 + TIE)).floor() * steps
    levels = (basis @ kept @ basis.mT).transpose(-2, -3).flatten(-2).flatten(-3, -2)
    values = ((levels + 128) / 255).clamp(0, 1)
    return values[..., :height, :width].reshape(x.shape).to(x.dtype)


def luminance_steps(quality: float) -> Tensor:
    """Return the quantisation steps (8, 8) of luminance at a quality of 1 to 100: whole numbers from 1 to 255, float64.

    Raises:
        ValueError: the quality is out of range.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"the quality of JPEG is {quality}; it must be from 1 to 100")
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = (torch.tensor(LUMINANCE, dtype=torch.float64) * percent + 50) / 100
    return steps.floor().clamp(1, 255)
