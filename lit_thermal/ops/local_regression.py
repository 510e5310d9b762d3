"""Local linear regression of a thermal image on a guide of the same size, in square windows around each pixel."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

NOISE = 0.004
"""Standard deviation of values that regression does not try to explain: about one level of 8 bits."""


class LocalFit(NamedTuple):
    """Linear regression of one image on another in a window around each pixel."""

    slopes: Tensor
    """(B, C, h, w), one slope for each channel of the guide."""
    offset: Tensor
    """(B, 1, h, w)."""
    residual: Tensor
    """(B, 1, h, w), mean square over the window of what the regression leaves, without the penalty."""


def local_regression(x: Tensor, guide: Tensor, radius: int, epsilon: float) -> LocalFit:
    """Regress an image on a guide of the same size, in the square window of `2 * radius + 1` pixels around each pixel.

    The slopes minimise the mean square of ``x - slopes @ guide - offset`` plus ``epsilon * |slopes|**2``. Windows are
    cut off at the border of the image. The result is computed in float32 at least, and is differentiable.

    Args:
        x: image (B, 1, h, w).
        guide: guide (B, C, h, w).
        radius: radius of the window in pixels.
        epsilon: penalty of the slopes, in squared values of the guide; greater than 0.

    Source: He, Sun and Tang, "Guided image filtering", 2010.
    """
    with torch.autocast(x.device.type, enabled=False):
        kind = torch.promote_types(x.dtype, torch.float32)
        x, guide = x.to(kind), guide.to(kind)
        channels = guide.shape[1]
        products = [guide[:, i : i + 1] * guide[:, i:] for i in range(channels)]
        means = window_mean(torch.cat([guide, x, x * x, guide * x, *products], 1), radius)
        sizes = [channels, 1, 1, channels, *(p.shape[1] for p in products)]
        mean, level, power, mixed, *pairs = means.split(sizes, 1)
        rows = [torch.cat([p[:, :0], p - mean[:, i : i + 1] * mean[:, i:]], 1) for i, p in enumerate(pairs)]
        covariance = [[rows[min(i, j)][:, abs(i - j)] for j in range(channels)] for i in range(channels)]
        matrix = torch.stack([torch.stack(row, -1) for row in covariance], -2)
        penalty = epsilon * torch.eye(channels, dtype=kind, device=x.device)
        shared = mixed - mean * level
        # Positive definite by the penalty, so the factorisation needs no check, which would wait for the device.
        if torch.compiler.is_exporting():  # ONNX has no factorisation
            slopes = _solved(matrix + penalty, shared)
        else:
            factor = torch.linalg.cholesky_ex(matrix + penalty).L
            slopes = torch.cholesky_solve(shared.movedim(1, -1).unsqueeze(-1), factor).squeeze(-1).movedim(-1, 1)
        offset = level - (slopes * mean).sum(1, keepdim=True)
        explained = (slopes * (2 * shared - torch.einsum("bhwij,bjhw->bihw", matrix, slopes))).sum(1, keepdim=True)
        return LocalFit(slopes, offset, (power - level**2 - explained).clamp(min=0))


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve positive definite systems (B, h, w, C, C) for right sides (B, C, h, w) by Cholesky's steps, written out."""
    count = right.shape[1]
    a = [row.unbind(-1) for row in matrix.unbind(-2)]
    lower: list[list[Tensor]] = [[] for _ in range(count)]
    for i in range(count):
        for j in range(i + 1):
            left = a[i][j] - sum((lower[i][k] * lower[j][k] for k in range(j)), torch.zeros_like(a[i][j]))
            lower[i].append(left.sqrt() if i == j else left / lower[j][j])
    x = list(right.unbind(1))
    for i in range(count):
        for k in range(i):
            x[i] = x[i] - lower[i][k] * x[k]
        x[i] = x[i] / lower[i][i]
    for i in reversed(range(count)):
        for k in range(i + 1, count):
            x[i] = x[i] - lower[k][i] * x[k]
        x[i] = x[i] / lower[i][i]
    return torch.stack(x, 1)


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


def mean_slopes(thermal: Tensor, guide: Tensor, ridge: float) -> Tensor:
    """Return the change of the thermal value with each colour of the guide, averaged over the windows of a pixel.

    Args:
        thermal: (B, 1, h, w).
        guide: (B, C, h, w).
        ridge: penalty `epsilon` of `local_regression` in windows of 3 x 3 pixels.

    Returns:
        (B, C, h, w).

    Source: He, Sun and Tang, "Guided image filtering", 2013.
    """
    return window_mean(local_regression(thermal, guide, 1, ridge).slopes, 1)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = _windows(x)
    return mean, (_windows(x.square()) - mean.square()).clamp(min=0)


def _windows(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1)


def window_mean(x: Tensor, radius: int) -> Tensor:
    """Return the mean of (B, C, H, W) over the window around each pixel, without what lies outside the image."""
    return F.avg_pool2d(x, 2 * radius + 1, 1, padding=radius, count_include_pad=False)
