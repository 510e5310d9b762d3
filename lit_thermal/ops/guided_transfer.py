"""Enlargement of a thermal image by attention of guide pixels to thermal pixels, without learned weights."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.ops.guided_filter import back_projected
from lit_thermal.ops.local_regression import mean_slopes
from lit_thermal.ops.resize import resize


@torch.no_grad()
def guided_transfer(
    thermal: Tensor,
    guide: Tensor,
    contrast: float = 0.1,
    distance: float = 0.5,
    ridge: float = 5e-4,
    corrections: int = 3,
) -> Tensor:
    """Enlarge a thermal image to the size of its guide, along the edges of the guide.

    Each pixel of the guide asks (query: its colour and place) the nearest 3 x 3 thermal pixels (keys: the colours and
    places of the reduced guide). The value of a thermal pixel is the line that a local regression on the guide puts
    through it, evaluated at the colour that asks. The reduced result is then brought back to the input.

    Args:
        thermal: (B, 1, h, w).
        guide: (B, 3, H, W) in [0, 1], aligned with `thermal`, whose sides are the same multiple of its sides.
        contrast: colour difference, as root of the sum of squares, at which a thermal pixel has lost weight.
        distance: distance at which a thermal pixel has lost weight, in thermal pixels.
        ridge: ridge of the regression (`mean_slopes`).
        corrections: number of times that the difference between input and reduced result is added.

    Returns:
        (B, 1, H, W), not clipped.

    Raises:
        ValueError: the sides of the guide are not the same multiple of those of the thermal image.

    Source: Kopf et al., "Joint bilateral upsampling", 2007, with locally linear values.
    """
    height, width = thermal.shape[-2:]
    scale = guide.shape[-1] // width
    if tuple(guide.shape[-2:]) != (scale * height, scale * width):
        raise ValueError(f"a guide of {tuple(guide.shape)} is not a multiple of a thermal image {tuple(thermal.shape)}")
    with torch.autocast(thermal.device.type, enabled=False):
        thermal, guide = thermal.float(), guide.float()
        small = resize(guide, (height, width))
        difference = guide.unsqueeze(2) - _asked(small, scale)
        weight = (-difference.square().sum(1) / (2 * contrast**2) - _distances(height, width, scale, thermal) / (
            2 * distance**2
        )).softmax(1)  # fmt: skip
        line = (_asked(mean_slopes(thermal, small, ridge), scale) * difference).sum(1)
        result = (weight * (_asked(thermal, scale).squeeze(1) + line)).sum(1, keepdim=True)
        return back_projected(result, thermal, corrections)


def _asked(x: Tensor, scale: int) -> Tensor:
    """Return the 3 x 3 neighbours (B, C, 9, H, W) of each pixel of the enlarged (B, C, h, w); edges are repeated."""
    patches = F.unfold(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3)
    patches = patches.view(x.shape[0], x.shape[1], 9, *x.shape[-2:])
    return patches.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


def _distances(height: int, width: int, scale: int, like: Tensor) -> Tensor:
    """Return the squared distances (9, H, W) of enlarged pixels to the neighbours of `_asked`, in thermal pixels."""
    place = (torch.arange(scale, device=like.device).to(like.dtype) + 0.5) / scale - 0.5
    step = torch.arange(-1.0, 2.0, device=like.device).to(like.dtype)
    square = (step[:, None] - place).square()
    down, right = square.repeat(1, height), square.repeat(1, width)
    return (down[:, None, :, None] + right[None, :, None, :]).flatten(0, 1)
