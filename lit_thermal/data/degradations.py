"""How low-resolution frames are made from high-resolution ones: one family, a class for each way."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
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


class MatlabBicubic(Degradation):
    """`Bicubic` as MATLAB's imresize computes it of an image of whole levels.

    It reduces the height, rounds, reduces the width and rounds again, halves upwards. Not checked against MATLAB
    itself; the rounding is that of its published re-implementations.

    Args:
        bits: depth of the levels over [0, 1], to which the frames are rounded before and after: 8, or 16 for 16-bit
            files, of which 256 levels would leave little.
    """

    def __init__(self, bits: int = 8) -> None:
        self.levels = _levels(bits, "MatlabBicubic")

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Reduce each frame; draws nothing."""
        height, width = hr.shape[-2:]
        levels = (hr.double() * self.levels).round()
        for size in ((height // scale, width), (height // scale, width // scale)):
            levels = (resize(levels, size) + 0.5).floor().clamp(0, self.levels)
        return (levels / self.levels).to(hr.dtype)


class PillowBicubic(Degradation):
    """Pillow's `resize(BICUBIC)`, by Pillow itself: the low-resolution files of DifIISR's M3FD, bit for bit.

    It differs from `MatlabBicubic` at the border, which it leaves out of the mean instead of mirroring it.

    Args:
        bits: depth of the levels over [0, 1], to which the frames are rounded before and after. With 8 Pillow
            works in whole levels; with any other depth in floating point, since it takes bicubic of 8 bits only.
    """

    def __init__(self, bits: int = 8) -> None:
        self.levels = _levels(bits, "PillowBicubic")

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Reduce each frame; draws nothing."""
        height, width = hr.shape[-2:]
        kind = np.uint8 if self.levels == 255 else np.float32
        frames = (hr * self.levels).round().reshape(-1, height, width).numpy().astype(kind)
        size = (width // scale, height // scale)
        small = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)) for frame in frames]
        levels = torch.from_numpy(np.stack(small)).to(hr.dtype).round()
        return levels.reshape(*hr.shape[:-2], size[1], size[0]) / self.levels


class OpenCVBilinear(Degradation):
    """OpenCV's `resize(INTER_LINEAR)`, which does not blur: the low-resolution files of the PBVS challenge.

    An LR pixel is the mean of the two by two pixels in the middle of its cell where the scale is even, and the middle
    pixel where it is odd; all others are not looked at, so that detail aliases. Half a level is rounded upwards, as
    OpenCV does for 8 bits.

    Args:
        bits: depth of the levels over [0, 1], to which the frames are rounded before and after: 8, or 16 for 16-bit
            files, of which 256 levels would leave little.
    """

    def __init__(self, bits: int = 8) -> None:
        self.levels = _levels(bits, "OpenCVBilinear")

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Reduce each frame; draws nothing."""
        levels = (hr * self.levels).round()
        middle = scale // 2
        if scale % 2:
            return levels[..., middle::scale, middle::scale] / self.levels
        corners = [levels[..., y::scale, x::scale] for y in (middle - 1, middle) for x in (middle - 1, middle)]
        return ((sum(corners[1:], corners[0]) + 2) / 4).floor() / self.levels


class Noisy(Degradation):
    """Another degradation with Gaussian noise on top, which is not rounded.

    Args:
        sigma: standard deviation of the noise of each LR pixel in each frame, levels of 8 bits.
        base: what the noise is put on.
    """

    def __init__(self, sigma: float = 2.0, base: Callable[[], Degradation] = Bicubic) -> None:
        if not 0 <= sigma < float("inf"):
            raise InputError(f"sigma of Noisy is {sigma}; give a number of grey levels that is not negative")
        self.sigma, self.base = sigma, base()

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """What the base draws comes first, then the noise."""
        lr = self.base.degrade(hr, scale, generator).clamp(0, 1)
        return lr + torch.randn(lr.shape, generator=generator) * (self.sigma / 255)


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
        self.blur, self.noise, self.stripes = blur, noise, stripes
        self.levels = _levels(bits, "BlurNoise")

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """One draw of the ranges for the clip, new temporal noise for each frame."""
        blur, noise, stripes = (
            low + (high - low) * float(torch.rand((), generator=generator))
            for low, high in (self.blur, self.noise, self.stripes)
        )
        lr = _reduce(gaussian_blur(hr.double(), blur), scale).to(hr.dtype)
        lr = lr + torch.randn(lr.shape, generator=generator) * (noise / 255)
        lr = lr + torch.randn(lr.shape[-1], generator=generator) * (stripes / 255)
        return (lr.clamp(0, 1) * self.levels).round() / self.levels


def _reduce(hr: Tensor, scale: int) -> Tensor:
    """Antialiased bicubic by an integer factor.

    Computed in float64, so that what is kept of it does not depend on how many threads add it up: a worker process has
    one, the training process several.
    """
    return resize(hr.double(), (hr.shape[-2] // scale, hr.shape[-1] // scale)).to(hr.dtype)


def _levels(bits: int, where: str) -> int:
    """The highest level of a depth."""
    if not 1 <= bits <= 16:
        raise InputError(f"bits of {where} is {bits}; give a depth from 1 to 16")
    return 2**bits - 1
