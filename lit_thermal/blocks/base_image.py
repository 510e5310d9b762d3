"""Base images: what a network's residual is added to, made from the input and its guide without learning."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lit_thermal.errors import InputError
from lit_thermal.ops.guided_filter import guided_filter


class BaseImage(nn.Module, ABC):
    """Base of the family: an image at the size of the result, which never depends on other samples of the batch."""

    @abstractmethod
    def forward(self, enlarged: Tensor, lr: Tensor, guide: Tensor, complete: Tensor) -> Tensor:
        """Return the base image (B, 1, H, W).

        Args:
            enlarged: (B, 1, H, W) thermal input enlarged by interpolation, in [0, 1].
            lr: (B, 1, h, w) thermal input in [0, 1].
            guide: (B, 3, H, W) visible image in [0, 1]; content is undefined where absent.
            complete: (B,) bool, which samples have both cameras.
        """


class EnlargedInput(BaseImage):
    """The enlarged thermal input itself, which the guide does not change (as in common residual networks)."""

    def forward(self, enlarged: Tensor, lr: Tensor, guide: Tensor, complete: Tensor) -> Tensor:
        """Return `enlarged`."""
        return enlarged


class GuidedFilterImage(BaseImage):
    """Guided filter of the input along the guide (our alternative); a sample without a guide keeps its enlarged input.

    Convolutions must learn where the edges of a guide belong; the filter has them from the start.

    Args:
        radius: radius of the windows in input pixels.
        epsilon: penalty of the slopes, in squared values of the guide.
        back_projections: corrections of the result by the input.
    """

    def __init__(self, radius: int = 1, epsilon: float = 1e-4, back_projections: int = 3) -> None:
        super().__init__()
        if radius < 1 or not epsilon > 0 or back_projections < 0:
            raise InputError(
                f"GuidedFilterImage has radius {radius}, epsilon {epsilon:g} and back_projections {back_projections}: "
                "give a radius of at least 1, an epsilon above 0 and no negative number of corrections"
            )
        self.radius, self.epsilon, self.back_projections = radius, epsilon, back_projections

    def forward(self, enlarged: Tensor, lr: Tensor, guide: Tensor, complete: Tensor) -> Tensor:
        """Return the filter's result where there is a guide, and `enlarged` elsewhere."""
        if not torch.compiler.is_exporting() and not complete.any():
            return enlarged
        given = complete.view(-1, 1, 1, 1)
        # Undefined content must not reach the gradient either, so it is replaced before the filter.
        lr, guide = torch.where(given, lr, 0.0), torch.where(given, guide, 0.0)
        result = guided_filter(lr, guide, self.radius, self.epsilon, self.back_projections).clamp(0, 1)
        return torch.where(given, result.to(enlarged.dtype), enlarged)
