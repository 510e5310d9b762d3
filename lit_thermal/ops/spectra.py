"""Logarithmic and normalised amplitude spectra of images, for losses and figures."""

from typing import Literal

import torch
from torch import Tensor

from lit_thermal.errors import check_choice

Normalization = Literal["image", "batch"]

_LEAST_DEVIATION = 1e-8
"""Added to the standard deviation, so that a spectrum without variation is not divided by zero."""


def log_spectrum(image: Tensor) -> Tensor:
    """Return the log amplitudes ``log(1 + |F|)`` of the discrete Fourier transform over the last two axes.

    The transform is not scaled (DifIISR, eq. 10): the amplitude at frequency zero is the absolute sum of the pixels. It
    is at ``(H // 2, W // 2)`` of the result.

    Args:
        image: images (..., H, W) of any range and size.

    Returns:
        (..., H, W), at least 0; float64 for float64 input, otherwise float32.
    """
    with torch.autocast(image.device.type, enabled=False):
        # Transforms in half precision need sides that are powers of two, and their sums of pixels overflow.
        spectrum = torch.fft.fft2(image.to(torch.promote_types(image.dtype, torch.float32)))
        return torch.fft.fftshift(spectrum, dim=(-2, -1)).abs().log1p()


def normalized_spectrum(image: Tensor, over: Normalization = "image") -> Tensor:
    """Return the log spectrum with zero mean and unit variance, which keeps the pattern of an image, not its contrast.

    With "image" each image has its own mean and standard deviation (DifIISR, eq. 11), so that its spectrum does not
    depend on its batch. With "batch" those of the whole tensor are used, with the sample standard deviation (n - 1), as
    in the released code. That code transforms three channels; if these are equal copies of one channel, the result
    differs from that of the single channel only through n - 1, in the order of 1 / n.

    Args:
        image: images (B, C, H, W) of any range and size.
        over: normalise over each "image" or over the whole "batch".

    Returns:
        (B, C, H, W); float64 for float64 input, otherwise float32. It is zero for an image without any signal.

    Raises:
        InputError: `over` is neither "image" nor "batch".
    """
    check_choice(over, Normalization, "the normalisation of a spectrum")
    spectrum = log_spectrum(image)
    with torch.autocast(image.device.type, enabled=False):
        axes, correction = ((1, 2, 3), 0) if over == "image" else ((0, 1, 2, 3), 1)
        deviation, mean = torch.std_mean(spectrum, dim=axes, correction=correction, keepdim=True)
        return (spectrum - mean) / (deviation + _LEAST_DEVIATION)
