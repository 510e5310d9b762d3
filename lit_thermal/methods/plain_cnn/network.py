"""The network of PlainCNN: residual convolutions at the resolution of the input, then a pixel shuffle."""

from torch import Tensor, nn
from torch.nn import functional as F


class PlainResidualBlock(nn.Module):
    """Two 3x3 convolutions with a ReLU in between, added to the input; no normalisation.

    Args:
        width: number of channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, h, w) to the same shape."""
        return x + self.second(F.relu(self.first(x)))


class PlainNetwork(nn.Module):
    """Correction of an enlarged image, computed from images at low resolution.

    The last convolution starts at zero, so that an untrained network corrects nothing.

    Args:
        inputs: number of input channels.
        width: number of feature channels.
        blocks: number of residual blocks.
        scale: factor by which the correction is wider and higher than the input.

    Source: Lim et al., "Enhanced deep residual networks for single image super-resolution", 2017 (blocks without
    normalisation, a long skip); Shi et al., "Real-time single image and video super-resolution using an efficient
    sub-pixel convolutional neural network", 2016 (pixel shuffle).
    """

    def __init__(self, inputs: int, width: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(inputs, width, 3, padding=1)
        self.blocks = nn.Sequential(*[PlainResidualBlock(width) for _ in range(blocks)])
        self.tail = nn.Conv2d(width, scale**2, 3, padding=1)
        self.scale = scale
        nn.init.zeros_(self.tail.weight)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, h, w) to a correction (N, 1, scale * h, scale * w)."""
        features = self.head(x)
        return F.pixel_shuffle(self.tail(features + self.blocks(features)), self.scale)
