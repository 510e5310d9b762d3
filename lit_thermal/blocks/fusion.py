"""Fusion: blocks that merge the features of two cameras at one level of an encoder."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Camera = Literal["guide", "thermal"]


class Fusion(nn.Module, ABC):
    """Base of the family: fuses two feature maps of the same size, and defines the level when one camera is missing.

    Subclasses must return the shape and type of the inputs for any height and width, and must not mix samples of a
    batch; pixels of one sample may be mixed. A batch without samples (B = 0) must pass too, so that parameters stay in
    the graph of a batch without complete samples. `alone` never sees the absent camera.

    Args:
        dim: number of channels of the features.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @abstractmethod
    def forward(self, guide: Tensor, thermal: Tensor) -> Tensor:
        """Fuse features of both cameras, (B, dim, H, W) each, to (B, dim, H, W)."""

    def alone(self, features: Tensor, which: Camera) -> Tensor:
        """Return features (B, dim, H, W) of this level if only the camera `which` is present; unchanged by default."""
        return features


class MaxFusion(Fusion):
    """Element-wise maximum of both features (CoReFusion, section 3), without parameters.

    The gradient goes to the larger value; where both are equal, each gets half of it. After a ReLU most ties are zeros,
    which pass no gradient anyway.
    """

    def forward(self, guide: Tensor, thermal: Tensor) -> Tensor:
        """Fuse features of both cameras, (B, dim, H, W) each, to (B, dim, H, W)."""
        return torch.maximum(guide, thermal)


class SumFusion(Fusion):
    """Sum of both features (our alternative); with both cameras, values are about twice as large as with one."""

    def forward(self, guide: Tensor, thermal: Tensor) -> Tensor:
        """Fuse features of both cameras, (B, dim, H, W) each, to (B, dim, H, W)."""
        return guide + thermal


class MeanFusion(Fusion):
    """Mean of both features (our alternative); levels have the same scale with one camera and with both."""

    def forward(self, guide: Tensor, thermal: Tensor) -> Tensor:
        """Fuse features of both cameras, (B, dim, H, W) each, to (B, dim, H, W)."""
        return (guide + thermal) / 2


class ConcatFusion(Fusion):
    """1x1 convolution of the concatenated features, guide first (our alternative); a missing camera counts as zeros.

    Args:
        dim: number of channels of the features.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.mix = nn.Conv2d(2 * dim, dim, kernel_size=1)

    def forward(self, guide: Tensor, thermal: Tensor) -> Tensor:
        """Fuse features of both cameras, (B, dim, H, W) each, to (B, dim, H, W)."""
        return self.mix(torch.cat([guide, thermal], dim=1))

    def alone(self, features: Tensor, which: Camera) -> Tensor:
        """Return the convolution (B, dim, H, W) with zeros for the absent camera, computed without its channels."""
        half = slice(None, self.dim) if which == "guide" else slice(self.dim, None)
        return F.conv2d(features, self.mix.weight[:, half], self.mix.bias)


class GatedFusion(Fusion):
    """``g * guide + (1 - g) * thermal`` with a gate g in (0, 1) for each pixel and channel (our alternative).

    The gate is a 1x1 convolution of both features and a sigmoid. Its weights start at zero, so that training starts
    from the mean.

    Args:
        dim: number of channels of the features.
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
