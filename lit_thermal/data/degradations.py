"""How low-resolution frames are made from high-resolution ones: one family, a class for each way."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lit_thermal.errors import InputError
from lit_thermal.ops.blur import gaussian_blur
from lit_thermal.ops.resize import resize

Range = tuple[float, float]


class Degradation(ABC):
    """A camera of lower resolution looking at the same scene.

    A member maps (T, 1, H, W) or (1, H, W) in [0, 1] to (..., H / scale, W / scale) in [0, 1]. What it draws at random
    depends on `seed` alone, so that one seed gives the same frames on every worker and at every epoch. What belongs to
    the camera (blur, stripes) is the same in all frames of a clip; temporal noise is not.
    """

    def __call__(self, hr: Tensor, *, scale: int, seed: int) -> Tensor:
        """Degrade a clip or an image; H and W must be multiples of `scale`.

        Raises:
            InputError: a side is not a multiple of `scale`.
        """
        height, width = hr.shape[-2:]
        if height % scale or width % scale:
            raise InputError(f"frames of {height}x{width} cannot be reduced by {scale}; crop them to multiples of it")
        return self.degrade(hr, scale, torch.Generator().manual_seed(seed)).clamp(0, 1)

    @abstractmethod
    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """The member's own work; the result is clipped to [0, 1] afterwards."""


class Bicubic(Degradation):
    """Antialiased bicubic reduction (a = -0.5), as MATLAB's imresize and Pillow do."""

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Reduce each frame; draws nothing."""
        return _reduce(hr, scale)


class BlurNoise(Degradation):
    """Defocus, reduction, sensor noise, column stripes, 8-bit rounding: the harder track.

    Each range is drawn from evenly, once a clip. Noise is given in grey levels of 8 bits, since how many millikelvin
    a level is depends on the clip's range.

    Args:
        blur: standard deviation of the Gaussian before reduction, HR pixels.
        noise: standard deviation of the noise of each LR pixel in each frame, levels of 8 bits.
        stripes: the same, of the offset that an LR column keeps through the clip.
        bits: depth to which the frames are rounded.
    """

    def __init__(
        self, blur: Range = (0.6, 2.0), noise: Range = (0.5, 4.0), stripes: Range = (0.0, 1.5), bits: int = 8
    ) -> None:
        for name, (low, high) in {"blur": blur, "noise": noise, "stripes": stripes}.items():
            if not 0 <= low <= high:
                raise InputError(f"{name} of BlurNoise is ({low}, {high}); give two numbers, 0 <= low <= high")
        if not 1 <= bits <= 16:
            raise InputError(f"bits of BlurNoise is {bits}; give a depth from 1 to 16")
        self.blur, self.noise, self.stripes, self.bits = blur, noise, stripes, bits

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """One draw of the ranges for the clip, new temporal noise for each frame."""
        blur, noise, stripes = (
            low + (high - low) * float(torch.rand((), generator=generator))
            for low, high in (self.blur, self.noise, self.stripes)
        )
        lr = _reduce(gaussian_blur(hr, blur), scale)
        lr = lr + torch.randn(lr.shape, generator=generator) * (noise / 255)
        lr = lr + torch.randn(lr.shape[-1], generator=generator) * (stripes / 255)
        levels = 2**self.bits - 1
        return (lr.clamp(0, 1) * levels).round() / levels


def _reduce(hr: Tensor, scale: int) -> Tensor:
    """Antialiased bicubic by an integer factor."""
    return resize(hr, (hr.shape[-2] // scale, hr.shape[-1] // scale))
