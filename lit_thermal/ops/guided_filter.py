"""Enlargement of a thermal image along a visible one without training: guided filter and joint bilateral filter.

Both take an input (B, 1, h, w) and a guide (B, C, H, W) whose sides are the same multiple of those of the input.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.ops.local_regression import local_regression, window_mean
from lit_thermal.ops.resize import resize


def guided_filter(
    lr: Tensor, guide: Tensor, radius: int = 1, epsilon: float = 1e-3, back_projections: int = 3
) -> Tensor:
    """Enlarge an image by a regression on the guide: slopes found at the input's size, applied at the guide's.

    The slopes and offsets of overlapping windows are averaged and enlarged linearly.

    Args:
        lr: input (B, 1, h, w).
        guide: guide (B, C, H, W).
        radius: radius of the windows in input pixels.
        epsilon: penalty of the slopes, in squared values of the guide.
        back_projections: repetitions of adding the enlarged difference between the input and the reduced result.

    Returns:
        Result (B, 1, H, W) in float32 at least; it may leave the range of the input.

    Raises:
        ValueError: the sides of `guide` are not the same multiple of those of `lr`.

    Source: He, Sun and Tang, "Guided image filtering", 2010, with the coefficients of He and Sun, "Fast guided filter",
    2015; back projection by Irani and Peleg, "Improving resolution by image registration", 1991.
    """
    _check(lr, guide)
    small, large = _size(lr), _size(guide)
    fit = local_regression(lr, resize(guide, small), radius, epsilon)
    coefficients = resize(window_mean(torch.cat([fit.slopes, fit.offset], 1), radius), large, kernel="linear")
    result = (coefficients[:, :-1] * guide).sum(1, keepdim=True) + coefficients[:, -1:]
    return back_projected(result, lr, back_projections)


def joint_bilateral_filter(
    lr: Tensor,
    guide: Tensor,
    radius: int = 2,
    distance: float = 0.7,
    difference: float = 0.1,
    back_projections: int = 3,
) -> Tensor:
    """Enlarge an image by averages of input pixels that are near and whose guide values are alike.

    The weight of an input pixel is a Gaussian of its distance times a Gaussian of the difference between the guide at
    the output pixel and the reduced guide at the input pixel.

    Args:
        lr: input (B, 1, h, w).
        guide: guide (B, C, H, W).
        radius: input pixels on each side that are averaged.
        distance: standard deviation of the distances in input pixels.
        difference: standard deviation of the guide's differences.
        back_projections: repetitions of adding the enlarged difference between the input and the reduced result.

    Returns:
        Result (B, 1, H, W) in float32 at least.

    Raises:
        ValueError: the sides of `guide` are not the same multiple of those of `lr`.

    Source: Kopf et al., "Joint bilateral upsampling", 2007.
    """
    scale = _check(lr, guide)
    kind = torch.promote_types(lr.dtype, torch.float32)
    values, wide = lr.to(kind), guide.to(kind)
    sides = (radius,) * 4
    # Each side of an output pixel's cell has the same distances to the input pixels around the cell.
    place = (torch.arange(scale, device=lr.device, dtype=kind) + 0.5) / scale - 0.5
    apart = torch.arange(-radius, radius + 1, device=lr.device, dtype=kind)[:, None] - place
    nearness = (
        (-(apart**2) / (2 * distance**2)).repeat(1, lr.shape[-2]),
        (-(apart**2) / (2 * distance**2)).repeat(1, lr.shape[-1]),
    )
    around = F.pad(torch.cat([values, resize(wide, _size(lr))], 1), sides, mode="replicate")
    outside = F.pad(torch.zeros_like(values), sides, value=-torch.inf)
    logits, candidates = [], []
    height, width = lr.shape[-2:]
    for down in range(2 * radius + 1):
        for right in range(2 * radius + 1):
            window = ..., slice(down, down + height), slice(right, right + width)
            near = _repeated(around[window], scale)
            unlike = (wide - near[:, 1:]).square().sum(1, keepdim=True) / (2 * difference**2)
            away = nearness[0][down][:, None] + nearness[1][right]
            logits.append(away - unlike + _repeated(outside[window], scale))
            candidates.append(near[:, :1])
    weights = torch.cat(logits, 1).softmax(1)
    result = (weights * torch.cat(candidates, 1)).sum(1, keepdim=True)
    return back_projected(result, values, back_projections)


def back_projected(result: Tensor, lr: Tensor, times: int) -> Tensor:
    """Correct a result (B, 1, H, W) repeatedly by the enlarged difference between `lr` and the reduced result."""
    for _ in range(times):
        result = result + resize(lr - resize(result, _size(lr)), _size(result))
    return result


def _repeated(x: Tensor, scale: int) -> Tensor:
    return x.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


def _check(lr: Tensor, guide: Tensor) -> int:
    """Return the factor between input and guide."""
    scale = guide.shape[-1] // lr.shape[-1]
    if tuple(guide.shape[-2:]) != (lr.shape[-2] * scale, lr.shape[-1] * scale) or scale < 1:
        raise ValueError(f"a guide of {tuple(guide.shape)} is not a multiple of an input of {tuple(lr.shape)}")
    return scale


def _size(image: Tensor) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]
