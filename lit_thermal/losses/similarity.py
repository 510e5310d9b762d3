"""Structural similarity as a loss."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from lit_thermal.errors import InputError

_WINDOW = 11
_SIGMA = 1.5
_LEAST_RANGE = 0.1
"""Lower bound of the data range: below it, float32 rounding would be as large as the constants of SSIM."""


class SimilarityLoss(nn.Module, ABC):
    """Base of the family: 1 - SSIM, 0 for equal images and at most 2, in float32 at least.

    SSIM has a Gaussian window of 11 x 11 with sigma 1.5, K1 0.01, K2 0.03 and biased variance. It is averaged over the
    pixels whose window is entirely inside the image, as in the version of torchmetrics that CoReFusion used; newer
    versions include a mirrored border. Values and gradients are finite for all images, including constant ones.
    """

    @abstractmethod
    def data_range(self, restored: Tensor, target: Tensor) -> Tensor | float:
        """Return the range of values that scales the constants of SSIM."""

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of restored and true images (B, C, H, W).

        Raises:
            InputError: the images are smaller than the window.
        """
        height, width = target.shape[-2:]
        if min(height, width) < _WINDOW:
            raise InputError(
                f"{type(self).__name__} needs images of at least {_WINDOW} x {_WINDOW}, not {height} x {width}; "
                "use larger crops"
            )
        with torch.autocast(restored.device.type, enabled=False):
            precise = torch.promote_types(restored.dtype, torch.float32)
            x, y = restored.to(precise), target.to(precise)
            # Images are passed as channels: torch's depthwise convolution is faster than one image per sample.
            _, similarity = structural_similarity_index_measure(
                x.reshape(1, -1, height, width),
                y.reshape(1, -1, height, width),
                sigma=_SIGMA,
                kernel_size=_WINDOW,
                # The argument is annotated as a number; a tensor keeps its gradient, as in the released code.
                data_range=self.data_range(x, y),  # type: ignore[arg-type]
                return_full_image=True,
            )
            margin = _WINDOW // 2
            return 1 - similarity[..., margin:-margin, margin:-margin].mean()


class StructuralSimilarity(SimilarityLoss):
    """Mean of 1 - SSIM over the images, with a fixed data range, so that no image depends on its batch.

    Args:
        data_range: largest possible difference of values: 2 for [-1, 1], 1 for [0, 1].
    """

    def __init__(self, data_range: float = 2.0) -> None:
        super().__init__()
        if not data_range > 0:
            raise InputError(f"data_range must be positive, not {data_range}")
        self.fixed_range = data_range

    def data_range(self, restored: Tensor, target: Tensor) -> float:
        """Return the fixed range."""
        return self.fixed_range


class PooledStructuralSimilarity(SimilarityLoss):
    """1 - SSIM as in CoReFusion's released code, with the data range of the batch.

    The data range is the larger of the ranges (maximum minus minimum) of the restored and of the true batch, and has a
    gradient. Its lower bound of 0.1 is our addition, so that the loss of constant images is finite.
    """

    def data_range(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the range of the batch."""
        ranges = [x.amax() - x.amin() for x in (restored, target)]
        return torch.maximum(*ranges).clamp(min=_LEAST_RANGE)
