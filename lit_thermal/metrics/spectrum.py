"""Distance of an image's frequency amplitudes from the target's, independent of where its edges are."""

import math

import torch
from torch import Tensor

from lit_thermal.ops.spectra import log_spectrum

_PIXELS_AT_ONCE = 1 << 22
"""Pixels processed at once: a transform holds about ten maps of the input's size, near 200 MB at 4 Mpixel."""


def spectrum_distance(restored: Tensor, target: Tensor) -> Tensor:
    """Compute the mean absolute difference of the log amplitude spectra of each frame.

    It is ``mean |log(1 + |F(restored)|) - log(1 + |F(target)|)|`` over all frequencies, with the orthonormal Fourier
    transform, so that noise of a given strength has the same weight in frames of any size. It is 0 if all amplitudes
    agree: blurred images lack high frequencies, sharpened or noisy ones have too much of them, and phases, which encode
    positions, are not compared. Lower is better.

    It measures what DifIISR's visual loss (eq. 11) penalises, but deliberately differs from it: that loss normalises
    each spectrum, which partly hides a blur or a loss of contrast, and squares the differences, so that a few strong
    low frequencies dominate.

    Args:
        restored: (..., 1, H, W) results in [0, 1], already quantized.
        target: targets of the same shape.

    Returns:
        (...), float32; NaN if a frame contains NaN.
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
