"""Amplitude spectra of images, compressed by a logarithm and normalised, as losses and pictures compare them."""

from typing import Literal, get_args

import torch
from torch import Tensor

Normalization = Literal["image", "batch"]

_LEAST_DEVIATION = 1e-8
"""Added to a standard deviation, so that a spectrum without variation is divided by something."""


def log_spectrum(image: Tensor) -> Tensor:
    """Compress the amplitudes of the discrete Fourier transform of the last two axes: ``log(1 + |F|)``.

    The transform is not scaled (DifIISR, eq. 10): the amplitude at frequency zero is the sum of the pixels. It lies at
    ``(H // 2, W // 2)`` of the result.

    Args:
        image: (..., H, W), any range and size.

    Returns:
        (..., H, W), at least 0; float32, or float64 of float64.
    """
    with torch.autocast(image.device.type, enabled=False):
        # Transforms in half precision need sides that are powers of two, and their sums of pixels overflow.
        spectrum = torch.fft.fft2(image.to(torch.promote_types(image.dtype, torch.float32)))
        return torch.fft.fftshift(spectrum, dim=(-2, -1)).abs().log1p()


def normalized_spectrum(image: Tensor, over: Normalization = "image") -> Tensor:
    """Log spectrum with zero mean and unit variance, which forgets the contrast of an image and keeps its pattern.

    Over the `image`: each with its own mean and standard deviation (DifIISR, eq. 11), so that the spectrum of an image
    does not depend on its batch. Over the `batch`: with those of the whole tensor, the standard deviation being that
    of a sample (n - 1), as in the released code. That code transforms three channels; where they are equal copies of
    one, the values differ from those of the one by that n - 1 alone, in the order of 1 / n.

    Args:
        image: (B, C, H, W), any range and size.
        over: what the mean and the standard deviation are taken over.

    Returns:
        (B, C, H, W); float32, or float64 of float64. Zeros for an image without any signal.

    Raises:
        ValueError: `over` is neither.
    """
    if over not in get_args(Normalization):
        raise ValueError(f"a spectrum is normalised over one of {get_args(Normalization)}, not {over!r}")
    spectrum = log_spectrum(image)
    with torch.autocast(image.device.type, enabled=False):
        axes, correction = ((1, 2, 3), 0) if over == "image" else ((0, 1, 2, 3), 1)
        deviation, mean = torch.std_mean(spectrum, dim=axes, correction=correction, keepdim=True)
        return (spectrum - mean) / (deviation + _LEAST_DEVIATION)
