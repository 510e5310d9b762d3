"""Structural similarity at several scales."""

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.metrics.metric import MetricInput
from lit_thermal.metrics.quality import SSIM_K1, SSIM_K2, SSIM_SIGMA, SSIM_WINDOW

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, the finest first."""
LEAST_SIDE = SSIM_WINDOW * 2 ** (len(WEIGHTS) - 1)
"""Smallest side in pixels: the window must fit into an image that was halved four times."""


def multiscale_similarity(inputs: MetricInput) -> Tensor:
    """Compute MS-SSIM of each frame, (B, T) in [0, 1], with SSIM's constants over the valid region of each scale.

    It is the product of the mean contrast and structure of the five scales, each half as large as the one before (means
    of 2 x 2 pixels), and of the mean SSIM of the coarsest, to the powers `WEIGHTS`; negative means count as 0.
    torchmetrics differs in having a mirrored border at the coarsest scale, which has the largest effect there, and is
    several times slower.

    Source: Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment", 2003.
    """
    restored, target = (x[:, :, 0].flatten(0, 1).float() for x in (inputs.restored, inputs.target))
    result = torch.ones(len(target), device=target.device)
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            restored, target = F.avg_pool2d(restored, 2), F.avg_pool2d(target, 2)
        similarity, contrast = _means(restored, target)
        result = result * (similarity if scale == len(WEIGHTS) - 1 else contrast).clamp(min=0) ** weight
    return result.view(inputs.target.shape[:2])


def _means(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean SSIM, and the mean of its contrast and structure only, of each frame of (N, H, W)."""
    offsets = torch.arange(SSIM_WINDOW, dtype=x.dtype, device=x.device) - SSIM_WINDOW // 2
    taps = torch.exp(-offsets.square() / (2 * SSIM_SIGMA**2))
    taps = (taps / taps.sum()).expand(len(x), 1, 1, -1)

    def blur(values: Tensor) -> Tensor:
        # Frames are channels: a depthwise convolution is much faster than one frame per sample.
        rows = F.conv2d(values[None], taps, groups=len(values))
        return F.conv2d(rows, taps.transpose(-2, -1), groups=len(values))[0]

    mean_x, mean_y = blur(x), blur(y)
    spread = blur(x * x + y * y) - mean_x.square() - mean_y.square()
    common = blur(x * y) - mean_x * mean_y
    contrast = (2 * common + SSIM_K2**2) / (spread + SSIM_K2**2)
    luminance = (2 * mean_x * mean_y + SSIM_K1**2) / (mean_x.square() + mean_y.square() + SSIM_K1**2)
    return (luminance * contrast).mean(dim=(-2, -1)), contrast.mean(dim=(-2, -1))
