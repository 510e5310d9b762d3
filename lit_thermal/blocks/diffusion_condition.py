"""Conditions: what a diffusion network sees of the low-resolution image besides the noisy state."""

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize


class DiffusionCondition(nn.Module, ABC):
    """Base of the family: the low-resolution image to channels that are concatenated to the network's input.

    What must hold: any size of the image and of the state goes, each image of a batch is by itself.

    Attributes:
        channels: of the result.
    """

    channels: int

    @abstractmethod
    def forward(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """Map images (B, 1, h, w) in [-1, 1] to (B, channels, *size), the size of the state."""


class RawLR(DiffusionCondition):
    """The pixels of the low-resolution image, as ResShift, SinSR and the released DifIISR have them.

    With scale 4 and a first stage of factor 4 the image has the size of the state. A smaller one is enlarged to a
    multiple of its size by repeating pixels; for a larger one, `unshuffle` moves pixels into channels. Where a size is
    still left that neither meets, the image is resized bilinearly (antialiased where it shrinks; ours).

    Args:
        copies: of the one thermal channel; the published networks take three.
        unshuffle: sides of the image over those of the state: each block of so many pixels a side becomes channels, as
            in `torch.pixel_unshuffle`. Sides that are no multiple are filled up with the edge pixel.

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

    The paper draws it and says no more, so the architecture is ours: a 3x3 convolution, residual blocks of two 3x3
    convolutions and SiLU at the size of the image, a 3x3 convolution to the result, which is brought to the size of
    the state as in `RawLR`. It is trained with the network.

    Args:
        channels: of the result.
        width: channels inside.
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
    """Bring (B, C, h, w) to a size: by repetition where it is a multiple, else bilinearly."""
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
