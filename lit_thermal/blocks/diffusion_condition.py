"""Conditions: channels made from the low-resolution image that a diffusion network sees next to the noisy state."""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize


class DiffusionCondition(nn.Module, ABC):
    """Base of the family: maps the low-resolution image to channels that are concatenated to the network's input.

    Subclasses must accept any size of image and state, and process each image of a batch independently.

    Attributes:
        channels: number of channels of the result.
    """

    channels: int

    @abstractmethod
    def forward(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """Map images (B, 1, h, w) in [-1, 1] to (B, channels, *size), where `size` is that of the state."""


class RawLR(DiffusionCondition):
    """The pixels of the low-resolution image, as in ResShift, SinSR and the released DifIISR.

    With scale 4 and a first stage of factor 4 the image has the size of the state. A smaller image is enlarged by
    repeating pixels if the state is a multiple of its size; for a larger one, `unshuffle` moves pixels into channels.
    In all other cases the image is resized bilinearly (antialiased when it shrinks), which is our addition.

    Args:
        copies: number of copies of the thermal channel; the published networks take three.
        unshuffle: factor by which the image is larger than the state. Each block of that many pixels a side becomes
            channels, as in `torch.pixel_unshuffle`; sides that are not a multiple are padded with the edge pixel.

    Raises:
        InputError: a number is not positive.
    """

    def __init__(self, copies: int = 3, unshuffle: int = 1) -> None:
        super().__init__()
        _check_positive(self, copies=copies, unshuffle=unshuffle)
        self.copies, self.unshuffle = copies, unshuffle
        self.channels = copies * unshuffle**2

    def forward(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """Map images (B, 1, h, w) in [-1, 1] to (B, channels, *size), in [-1, 1]."""
        condition = lr.expand(-1, self.copies, -1, -1)
        if self.unshuffle > 1:
            bottom, right = (-side % self.unshuffle for side in lr.shape[-2:])
            condition = F.pixel_unshuffle(F.pad(condition, (0, right, 0, bottom), mode="replicate"), self.unshuffle)
        return _to_size(condition, size)


class ConditionEncoder(DiffusionCondition):
    """A small convolutional encoder of the low-resolution image: the image encoder in DifIISR's Fig. 2.

    The paper draws it without details, so the architecture is ours: a 3x3 convolution, residual blocks of two 3x3
    convolutions and SiLU at the size of the image, and a 3x3 convolution to the result, which is brought to the size
    of the state as in `RawLR`. The encoder is trained with the network.

    Args:
        channels: number of channels of the result.
        width: number of channels inside the encoder.
        depth: number of residual blocks.

    Raises:
        InputError: a number is not positive.
    """

    def __init__(self, channels: int = 16, width: int = 32, depth: int = 2) -> None:
        super().__init__()
        _check_positive(self, channels=channels, width=width, depth=depth)
        self.channels = channels
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)
            )
            for _ in range(depth)
        )
        self.last = nn.Sequential(nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """Map images (B, 1, h, w) in [-1, 1] to (B, channels, *size)."""
        features = self.first(lr)
        for block in self.blocks:
            features = features + block(features)
        return _to_size(self.last(features), size)


def _to_size(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, C, h, w) by repeating pixels if the size is a multiple of (h, w), and bilinearly otherwise."""
    height, width = x.shape[-2:]
    if (height, width) == tuple(size):
        return x
    if size[0] % height == 0 and size[1] % width == 0:
        return F.interpolate(x, size, mode="nearest")
    return resize(x, size, kernel="linear", border="replicate")


def _check_positive(condition: DiffusionCondition, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{type(condition).__name__}'s {name} is {number} and must be at least 1")
