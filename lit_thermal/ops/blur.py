"""Gaussian blur of the last two axes."""

import torch
from torch import Tensor
from torch.nn import functional as F


def gaussian_blur(x: Tensor, sigma: float | tuple[float, float]) -> Tensor:
    """Blur (..., H, W) with a sampled Gaussian truncated at four sigma, differentiably; constants are unchanged.

    Args:
        x: floating point tensor of any value range; half precision is computed in float32.
        sigma: standard deviation in pixels, one for both axes or (vertical, horizontal); 0 does not blur the axis.

    Returns:
        Tensor of the shape and dtype of `x`. The image is extended by mirroring, edge repeated, as in `resize`.
    """
    y = x if x.dtype in (torch.float32, torch.float64) else x.float()
    shape = y.shape
    # Images are passed as channels: a grouped convolution is several times faster than a batch of one channel.
    y = y.reshape(1, -1, *shape[-2:])
    with torch.autocast(x.device.type, enabled=False):
        for axis, s in zip((-2, -1), (sigma, sigma) if isinstance(sigma, int | float) else sigma, strict=True):
            radius = int(4 * s + 0.5)
            if radius == 0:
                continue
            offset = torch.arange(-radius, radius + 1, dtype=torch.float64)
            weight = torch.exp(-((offset / s) ** 2) / 2)
            kernel = (weight / weight.sum()).to(y).reshape((1, 1, -1, 1) if axis == -2 else (1, 1, 1, -1))
            length = y.shape[axis]
            index = torch.arange(-radius, length + radius, device=y.device) % (2 * length)
            index = torch.where(index >= length, 2 * length - 1 - index, index)
            y = F.conv2d(y.index_select(axis, index), kernel.expand(y.shape[1], -1, -1, -1), groups=y.shape[1])
    return y.reshape(shape).to(x.dtype)
