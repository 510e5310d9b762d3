"""Peak signal-to-noise ratio as a loss."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lit_thermal.errors import InputError

_LEAST_ERROR = 1e-10
"""Added to the mean squared error in units of the squared range: a perfect image has 100 dB, and its gradient is 0."""
_LEAST_RANGE = 2 / 255
"""Lower bound of the data range of a batch: one 8-bit step in [-1, 1]."""


class PSNRLoss(nn.Module, ABC):
    """Base of the family: ``1 - PSNR / ceiling``, in float32 at least; negative for a PSNR above the ceiling.

    PSNR in dB is ``-10 log10(MSE / range^2 + 1e-10)``, so that value and gradient are finite at zero error too.

    Args:
        ceiling: PSNR in dB at which the loss is 0.
    """

    def __init__(self, ceiling: float = 40.0) -> None:
        super().__init__()
        if not ceiling > 0:
            raise InputError(f"ceiling must be a positive number of dB, not {ceiling}")
        self.ceiling = ceiling

    @abstractmethod
    def relative_error(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return mean squared errors in units of the squared range, (B,) or ()."""

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of restored and true images (B, C, H, W)."""
        with torch.autocast(restored.device.type, enabled=False):
            precise = torch.promote_types(restored.dtype, torch.float32)
            error = self.relative_error(restored.to(precise), target.to(precise))
            psnr = -10 * (error + _LEAST_ERROR).log10()
            return 1 - psnr.mean() / self.ceiling


class ImagePSNR(PSNRLoss):
    """Mean PSNR of the images, with a fixed data range.

    Args:
        data_range: largest possible difference of values: 2 for [-1, 1], 1 for [0, 1].
        ceiling: PSNR in dB at which the loss is 0.
    """

    def __init__(self, data_range: float = 2.0, ceiling: float = 40.0) -> None:
        super().__init__(ceiling)
        if not data_range > 0:
            raise InputError(f"data_range must be positive, not {data_range}")
        self.data_range = data_range

    def relative_error(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared error of each image divided by the squared range, (B,)."""
        return (restored - target).square().mean(dim=(-3, -2, -1)) / self.data_range**2


class PooledPSNR(PSNRLoss):
    """PSNR as in CoReFusion's released code: one mean squared error and one data range for the whole batch.

    The data range is ``max(target.max(), 0) - min(target.min(), 0)``. Its lower bound of 2/255 is our addition, so that
    the loss of a batch of zeros is finite.

    Args:
        ceiling: PSNR in dB at which the loss is 0.
    """

    def relative_error(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared error of the batch divided by its squared range, ()."""
        data_range = target.amax().clamp(min=0) - target.amin().clamp(max=0)
        return (restored - target).square().mean() / data_range.clamp(min=_LEAST_RANGE).square()
