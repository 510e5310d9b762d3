"""Colour: transfers the brightness and contrast of one image to another."""

import torch
from torch import Tensor

LEAST_VARIANCE = 1e-5
"""Added to the variance of values in [0, 1], so that an image without contrast is not divided by zero."""


def adain(image: Tensor, reference: Tensor) -> Tensor:
    """Give each channel of an image the mean and the standard deviation of the reference's (AdaIN).

    The result is ``(image - mean) / std * std_reference + mean_reference`` with ``std = sqrt(variance + 1e-5)`` and the
    sample variance (n - 1), as in the colour correction of VARSR and Real-IISR.

    Args:
        image: images (B, C, H, W) in [0, 1].
        reference: reference images (B, C, H', W') in [0, 1], of any size.

    Returns:
        (B, C, H, W) in the type of `image`, not clipped: values may lie outside [0, 1].

    Raises:
        ValueError: an image has fewer than two pixels.

    Source: Huang and Belongie, "Arbitrary style transfer in real-time with adaptive instance normalization", 2017.
    """
    if min(x.shape[-2] * x.shape[-1] for x in (image, reference)) < 2:
        raise ValueError("an image of fewer than two pixels has no contrast to give or to take")
    with torch.autocast(image.device.type, enabled=False):
        precise = torch.promote_types(torch.promote_types(image.dtype, reference.dtype), torch.float32)
        (mean, deviation), (wanted_mean, wanted) = (_moments(x.to(precise)) for x in (image, reference))
        return ((image.to(precise) - mean) / deviation * wanted + wanted_mean).to(image.dtype)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation (B, C, 1, 1) over the pixels."""
    variance, mean = torch.var_mean(x, dim=(-2, -1), keepdim=True)
    return mean, (variance + LEAST_VARIANCE).sqrt()
