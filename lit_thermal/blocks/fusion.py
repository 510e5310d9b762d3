"""Fusion: features of two cameras to the features of one, at one level of an encoder."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Camera = Literal["guide", "thermal"]


class Fusion(nn.Module, ABC):
    """Base of the family: joins two feature maps of one size, and says what a level is when one camera is missing.

    What must hold: shape, size and type stay; every pixel is fused by itself, so that any height and width pass;
    each sample is fused by itself; no sample at all (B = 0) passes too, so that parameters stay in the graph of a
    batch without complete samples. `alone` never sees the absent camera.

    Args:
        dim: channels of the features.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @abstractmethod
    def forward(self, guide: Tensor, thermal: Tensor) -> Tensor:
        """Fuse features of both cameras, (B, dim, H, W) each, to (B, dim, H, W)."""

    def alone(self, features: Tensor, which: Camera) -> Tensor:
        """Features (B, dim, H, W) of this level when only the camera `which` is there; unchanged by default."""
        return features


class MaxFusion(Fusion):
    """Element-wise maximum of the two (CoReFusion, section 3): the stronger response wins, nothing is learned.

    The gradient goes to the larger one; where both are equal each gets half of it. After a ReLU most ties are zeros,
    which pass no gradient anyway.
    """

    def forward(self, guide: Tensor, thermal: Tensor) -> Tensor:
        """Fuse features of both cameras, (B, dim, H, W) each, to (B, dim, H, W)."""
        return torch.maximum(guide, thermal)


class SumFusion(Fusion):
    """Sum of the two (our alternative): levels of a complete sample are about twice as large as those of one camera."""

    def forward(self, guide: Tensor, thermal: Tensor) -> Tensor:
        """Fuse features of both cameras, (B, dim, H, W) each, to (B, dim, H, W)."""
        return guide + thermal


class MeanFusion(Fusion):
    """Mean of the two (our alternative): the size of a level is the same with one camera and with both."""

    def forward(self, guide: Tensor, thermal: Tensor) -> Tensor:
        """Fuse features of both cameras, (B, dim, H, W) each, to (B, dim, H, W)."""
        return (guide + thermal) / 2


class ConcatFusion(Fusion):
    """1x1 convolution of both, guide first (our alternative); a missing camera counts as zeros.

    Args:
        dim: channels of the features.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.mix = nn.Conv2d(2 * dim, dim, kernel_size=1)

    def forward(self, guide: Tensor, thermal: Tensor) -> Tensor:
        """Fuse features of both cameras, (B, dim, H, W) each, to (B, dim, H, W)."""
        return self.mix(torch.cat([guide, thermal], dim=1))

    def alone(self, features: Tensor, which: Camera) -> Tensor:
        """The convolution (B, dim, H, W) with zeros in place of the absent camera, by the half that is not zero."""
        half = slice(None, self.dim) if which == "guide" else slice(self.dim, None)
        return F.conv2d(features, self.mix.weight[:, half], self.mix.bias)


class GatedFusion(Fusion):
    """``g * guide + (1 - g) * thermal`` with a gate g in (0, 1) for each pixel and channel (our alternative).

    The gate is a 1x1 convolution of both features and a sigmoid. Its weights are zero at first, so that training
    starts from the mean.

    Args:
        dim: channels of the features.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.gate = nn.Conv2d(2 * dim, dim, kernel_size=1)
        nn.init.zeros_(self.gate.weight)
        assert self.gate.bias is not None
        nn.init.zeros_(self.gate.bias)

    def forward(self, guide: Tensor, thermal: Tensor) -> Tensor:
        """Fuse features of both cameras, (B, dim, H, W) each, to (B, dim, H, W)."""
        gate = torch.sigmoid(self.gate(torch.cat([guide, thermal], dim=1)))
        # Not torch.lerp: under autocast the gate is of another type than the features.
        return thermal + gate * (guide - thermal)
