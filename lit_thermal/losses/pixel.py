"""Pixel losses: distances between restored and true values, averaged over every pixel."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class PixelLoss(nn.Module, ABC):
    """Base of the pixel losses: a mean over all pixels, so that the scale does not depend on batch or crop size."""

    @abstractmethod
    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scalar distance of two tensors of the same shape, with values in [0, 1] or [-1, 1]."""


class MeanAbsoluteError(PixelLoss):
    """Mean of |restored - target| (L1; THERIS)."""

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scalar distance of two tensors of the same shape."""
        return (restored - target).abs().mean()


class MeanSquaredError(PixelLoss):
    """Mean of (restored - target)^2 (L2; CoReFusion)."""

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scalar distance of two tensors of the same shape."""
        return (restored - target).square().mean()


class Charbonnier(PixelLoss):
    """Mean of sqrt((restored - target)^2 + epsilon): L1 with a smooth minimum.

    Args:
        epsilon: width of the smooth part, in squared units of the values.
    """

    def __init__(self, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scalar distance of two tensors of the same shape."""
        return torch.sqrt((restored - target).square() + self.epsilon).mean()
