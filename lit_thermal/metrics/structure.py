"""Structural similarity at several scales."""

import torch
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from lit_thermal.metrics.metric import Seen
from lit_thermal.metrics.quality import SSIM_K1, SSIM_K2, SSIM_SIGMA, SSIM_WINDOW

LEAST_SIDE = SSIM_WINDOW * 16
"""The window must fit into an image that was halved four times."""


def multiscale_similarity(seen: Seen) -> Tensor:
    """MS-SSIM of each frame, (B, T): five scales, weights 0.0448, 0.2856, 0.3001, 0.2363, 0.1333, negative terms 0.

    torchmetrics computes it, with its border: mirrored, and left out of the means.

    Source: Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment", 2003.
    """
    frames = zip(seen.restored.flatten(0, 1), seen.target.flatten(0, 1), strict=True)
    values = [
        multiscale_structural_similarity_index_measure(
            restored[None],
            target[None],
            kernel_size=SSIM_WINDOW,
            sigma=SSIM_SIGMA,
            data_range=1.0,
            k1=SSIM_K1,
            k2=SSIM_K2,
            normalize="relu",
        )
        for restored, target in frames
    ]
    return torch.stack(values).view(seen.target.shape[:2])  # type: ignore[arg-type]
