"""Local linear regression of a thermal image on a guide of the same size, in square windows around each pixel."""

import torch
from torch import Tensor
from torch.nn import functional as F

NOISE = 0.004
"""Standard deviation of values that regression does not try to explain: about one level of 8 bits."""


def unexplained(thermal: Tensor, guide: Tensor, noise: float = NOISE) -> Tensor:
    """Return the logarithm of the share of the thermal variance that a local regression on the guide leaves.

    The regression has one slope and one offset per window of 3 x 3 pixels, so it does not depend on contrast, sign and
    brightness of the guide. The result is at most 0, where nothing is explained. Half its negative is the mutual
    information of both images in the window if they are jointly Gaussian.

    Args:
        thermal: (B, 1, h, w).
        guide: grey guides (B, K, h, w), such as K candidates for a place.
        noise: standard deviation of values that counts as unexplained in both images.

    Returns:
        (B, K, h - 2, w - 2), for windows that lie in the image.
    """
    floor = noise**2
    own, variance = _moments(thermal)
    mean, spread = _moments(guide)
    shared = _windows(guide * thermal) - mean * own
    left = (variance - shared.square() / (spread + floor)).clamp(min=0)
    return (left + floor).log() - (variance + floor).log()


def slopes(thermal: Tensor, guide: Tensor, ridge: float) -> Tensor:
    """Return the change of the thermal value with each colour of the guide, by ridge regression in each window.

    Windows have 3 x 3 pixels; edges are repeated. The result is averaged over the windows that contain a pixel, as in
    the guided filter.

    Args:
        thermal: (B, 1, h, w).
        guide: (B, C, h, w).
        ridge: variance that is added to each colour; slopes of guides with less contrast tend to 0.

    Returns:
        (B, C, h, w).

    Source: He, Sun and Tang, "Guided image filtering", 2013.
    """
    colours = guide.shape[1]
    mean, own = _framed(guide), _framed(thermal)
    products = _framed((guide.unsqueeze(2) * guide.unsqueeze(1)).flatten(1, 2)).unflatten(1, (colours, colours))
    covariance = (products - mean.unsqueeze(2) * mean.unsqueeze(1)).permute(0, 3, 4, 1, 2)
    shared = (_framed(guide * thermal) - mean * own).permute(0, 2, 3, 1)
    system = covariance + ridge * torch.eye(colours, dtype=guide.dtype, device=guide.device)
    # Positive definite by the ridge, so the factorisation needs no check, which would wait for the device.
    factor = torch.linalg.cholesky_ex(system).L
    return _framed(torch.cholesky_solve(shared.unsqueeze(-1), factor).squeeze(-1).permute(0, 3, 1, 2))


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = _windows(x)
    return mean, (_windows(x.square()) - mean.square()).clamp(min=0)


def _windows(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1)


def _framed(x: Tensor) -> Tensor:
    return _windows(F.pad(x, (1, 1, 1, 1), mode="replicate"))
