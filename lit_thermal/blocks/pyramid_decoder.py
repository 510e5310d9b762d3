"""Pyramid decoders: turn the features of several strides into features of one stride."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.image_encoder import Pyramid
from lit_thermal.blocks.residual_convolutions import ResidualConvolutions
from lit_thermal.errors import InputError


class PyramidDecoder(nn.Module, ABC):
    """Base of the family: decodes features (B, C, H / stride, W / stride) of each stride.

    Attributes:
        width: number of channels of the result.
        stride: stride of the result.
    """

    width: int
    stride: int

    @abstractmethod
    def forward(self, levels: Pyramid) -> Tensor:
        """Return features (B, width, H / stride, W / stride)."""


class UNetDecoder(nn.ModuleList, PyramidDecoder):
    """The U-Net decoder of CoReFusion: each block doubles the size by nearest neighbour, takes the skip, and convolves.

    The convolutions are followed by batch normalisation and ReLU. The result has the size of the image.

    Args:
        widths: channels of the features by stride, the finest first.
        channels: channels of the blocks, the deepest first. If the deepest stride needs fewer blocks, the last entries
            are used.

    Raises:
        InputError: there are too few channels.
    """

    def __init__(self, widths: Mapping[int, int], channels: Sequence[int]) -> None:
        deepest = max(widths)
        steps = deepest.bit_length() - 1
        if len(channels) < steps or min(channels) < 1:
            raise InputError(
                f"decoder_channels {list(channels)} of CoReFusion must be {steps} positive numbers for stride {deepest}"
            )
        inputs = [widths[deepest], *channels[len(channels) - steps :]]
        # A block takes the skip with the stride of its output, if such a skip exists.
        skips = [widths.get(deepest >> step, 0) for step in range(1, steps + 1)]
        super().__init__(
            _unet_block(before + skip, width) for before, skip, width in zip(inputs, skips, inputs[1:], strict=False)
        )
        self.width, self.stride = inputs[-1], 1

    def forward(self, levels: Pyramid) -> Tensor:
        """Return features (B, width, H, W)."""
        stride = max(levels)
        x = levels[stride]
        for block in self:
            stride //= 2
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, levels[stride]], 1) if stride in levels else x)
        return x


class ShuffleDecoder(PyramidDecoder):
    """Residual convolutions at the strides of the features only; a pixel shuffle then makes the image (ours).

    Nothing is normalised, so that gray levels pass, and no convolution runs at the size of the image, where most of the
    time of a U-Net goes.

    Args:
        widths: channels of the features by stride, the finest first.
        channels: channels of the stages, the deepest first; the last entries are used, one for each stride.
        blocks: residual blocks of each stage.

    Raises:
        InputError: there are too few channels, or no block.
    """

    def __init__(self, widths: Mapping[int, int], channels: Sequence[int], blocks: int = 2) -> None:
        super().__init__()
        if len(channels) < len(widths) or min(channels) < 1 or blocks < 1:
            raise InputError(
                f"decoder_channels {list(channels)} of CoReFusion must be {len(widths)} positive numbers for strides "
                f"{list(widths)}, and a ShuffleDecoder needs at least one block, not {blocks}"
            )
        own = list(channels[len(channels) - len(widths) :])
        self.strides = sorted(widths, reverse=True)
        self.merge = nn.ModuleList(
            nn.Conv2d(widths[stride] + before, width, 3, padding=1)
            for stride, before, width in zip(self.strides, [0, *own], own, strict=False)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualConvolutions(width) for _ in range(blocks))) for width in own
        )
        self.width, self.stride = own[-1], self.strides[-1]

    def forward(self, levels: Pyramid) -> Tensor:
        """Return features (B, width, H / stride, W / stride) of the finest stride."""
        x, before = None, 0
        for stride, merge, blocks in zip(self.strides, self.merge, self.blocks, strict=True):
            level = levels[stride]
            if x is not None:
                x = F.interpolate(x, scale_factor=before / stride, mode="nearest")
                level = torch.cat([x, level], 1)
            x, before = blocks(merge(level)), stride
        assert x is not None
        return x


def _unet_block(dim: int, width: int) -> nn.Sequential:
    """Return two 3x3 convolutions, each followed by batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for before in (dim, width):
        convolution = nn.Conv2d(before, width, 3, padding=1, bias=False)
        nn.init.kaiming_uniform_(convolution.weight, mode="fan_in", nonlinearity="relu")
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
