"""How far the amplitudes of an image's frequencies are from the target's, wherever its edges lie."""

import math

import torch
from torch import Tensor

from lit_thermal.ops.spectra import log_spectrum

_PIXELS_AT_ONCE = 1 << 22
"""A transform holds some ten maps of the input's size: 4 Mpixel at a time keep that near 200 MB."""


def spectrum_distance(restored: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the log amplitude spectra of each frame.

    ``mean |log(1 + |F(restored)|) - log(1 + |F(target)|)|`` over all frequencies, with the orthonormal Fourier
    transform, so that noise of one strength weighs the same in frames of any size. 0 where all amplitudes agree: what
    is blurred lacks the high ones, what is sharpened or noisy has too much of them, and only phases, that is places,
    are not compared. Lower is better.

    It measures what DifIISR's visual loss (eq. 11) asks for, and differs from it on purpose: that loss normalises each
    spectrum, which hides a blur or a loss of contrast in part, and squares the differences, which a few strong low
    frequencies then decide.

    Args:
        restored: (..., 1, H, W) in [0, 1], quantized already.
        target: the same shape.

    Returns:
        (...), float32; NaN where a frame has one.
    """
    height, width = target.shape[-2:]
    part = max(1, _PIXELS_AT_ONCE // (height * width))
    unit = math.sqrt(height * width)
    parts = [frames.reshape(-1, height, width).split(part) for frames in (restored, target)]
    means = [
        (log_spectrum(x.float() / unit) - log_spectrum(y.float() / unit)).abs().mean(dim=(-2, -1))
        for x, y in zip(*parts, strict=True)
    ]
    return torch.cat(means).view(target.shape[:-3])
