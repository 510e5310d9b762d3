"""Degradations that make low-resolution frames from high-resolution ones, with a class for each method."""

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
    """Base of the degradations, which simulate a camera of lower resolution viewing the same scene.

    A degradation maps (T, 1, H, W) or (1, H, W) in [0, 1] to (..., H / scale, W / scale) in [0, 1]. Its random draws
    depend only on `seed`, so that one seed gives the same frames on every worker and in every epoch. Properties of the
    camera (blur, stripes) are the same in all frames of a clip; temporal noise is not.
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
        """Degrade the frames; the result is clipped to [0, 1] afterwards."""


class Bicubic(Degradation):
    """Antialiased bicubic reduction (a = -0.5), as MATLAB's imresize and Pillow do."""

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Downsample each frame, without random draws."""
        return _reduce(hr, scale)


class MatlabBicubic(Degradation):
    """`Bicubic` as MATLAB's imresize computes it for an image with integer levels.

    It reduces the height, rounds, reduces the width and rounds again, with halves rounded up. It was not compared with
    MATLAB itself; rounding follows its published re-implementations.

    Args:
        bits: bit depth of the levels over [0, 1] that the frames are rounded to before and after: 8, or 16 for 16-bit
            files, for which 256 levels would be too coarse.
    """

    def __init__(self, bits: int = 8) -> None:
        self.levels = _levels(bits, "MatlabBicubic")

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Downsample each frame, without random draws."""
        height, width = hr.shape[-2:]
        levels = (hr.double() * self.levels).round()
        for size in ((height // scale, width), (height // scale, width // scale)):
            levels = (resize(levels, size) + 0.5).floor().clamp(0, self.levels)
        return (levels / self.levels).to(hr.dtype)


class PillowBicubic(Degradation):
    """Pillow's own `resize(BICUBIC)`, which reproduces the low-resolution files of DifIISR's M3FD bit for bit.

    It differs from `MatlabBicubic` at the border: pixels outside of the image are excluded from the mean instead of
    being mirrored.

    Args:
        bits: bit depth of the levels over [0, 1] to which frames are rounded before and after. With 8, Pillow works in
            integer levels; with any other depth in floating point, since it supports bicubic only for 8 bits.
    """

    def __init__(self, bits: int = 8) -> None:
        self.levels = _levels(bits, "PillowBicubic")

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Downsample each frame, without random draws."""
        height, width = hr.shape[-2:]
        kind = np.uint8 if self.levels == 255 else np.float32
        frames = (hr * self.levels).round().reshape(-1, height, width).numpy().astype(kind)
        size = (width // scale, height // scale)
        small = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)) for frame in frames]
        levels = torch.from_numpy(np.stack(small)).to(hr.dtype).round()
        return levels.reshape(*hr.shape[:-2], size[1], size[0]) / self.levels


class OpenCVBilinear(Degradation):
    """OpenCV's `resize(INTER_LINEAR)`, which does not blur: the low-resolution files of the PBVS challenge.

    If the scale is even, an LR pixel is the mean of the two by two pixels in the middle of its cell; if it is odd, it
    is the middle pixel. All other pixels are ignored, so that detail aliases. Half a level is rounded up, as OpenCV
    does for 8 bits.

    Args:
        bits: bit depth of the levels over [0, 1] that the frames are rounded to before and after: 8, or 16 for 16-bit
            files, for which 256 levels would be too coarse.
    """

    def __init__(self, bits: int = 8) -> None:
        self.levels = _levels(bits, "OpenCVBilinear")

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Downsample each frame, without random draws."""
        levels = (hr * self.levels).round()
        middle = scale // 2
        if scale % 2:
            return levels[..., middle::scale, middle::scale] / self.levels
        corners = [levels[..., y::scale, x::scale] for y in (middle - 1, middle) for x in (middle - 1, middle)]
        return ((sum(corners[1:], corners[0]) + 2) / 4).floor() / self.levels


class Noisy(Degradation):
    """Another degradation followed by Gaussian noise, which is not rounded.

    Args:
        sigma: standard deviation of the noise of each LR pixel in each frame, in 8-bit levels.
        base: degradation that the noise is added to.
    """

    def __init__(self, sigma: float = 2.0, base: Callable[[], Degradation] = Bicubic) -> None:
        if not 0 <= sigma < float("inf"):
            raise InputError(f"sigma of Noisy is {sigma}; give a number of grey levels that is not negative")
        self.sigma, self.base = sigma, base()

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Apply the base, which makes its random draws first, then add the noise."""
        lr = self.base.degrade(hr, scale, generator).clamp(0, 1)
        return lr + torch.randn(lr.shape, generator=generator) * (self.sigma / 255)


class BlurNoise(Degradation):
    """Defocus, reduction, sensor noise, column stripes and 8-bit rounding: the harder track.

    Each range is sampled uniformly, once per clip. Noise is given in 8-bit levels, since the millikelvin per level
    depend on the clip's range.

    Args:
        blur: standard deviation of the Gaussian before reduction, in HR pixels.
        noise: standard deviation of the noise of each LR pixel in each frame, in 8-bit levels.
        stripes: standard deviation of the offset that an LR column keeps through the clip, in 8-bit levels.
        bits: bit depth that the frames are rounded to.
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
        """Degrade with one draw of the ranges per clip and new temporal noise for each frame."""
        blur, noise, stripes = (
            low + (high - low) * float(torch.rand((), generator=generator))
            for low, high in (self.blur, self.noise, self.stripes)
        )
        lr = _reduce(gaussian_blur(hr.double(), blur), scale).to(hr.dtype)
        lr = lr + torch.randn(lr.shape, generator=generator) * (noise / 255)
        lr = lr + torch.randn(lr.shape[-1], generator=generator) * (stripes / 255)
        return (lr.clamp(0, 1) * self.levels).round() / self.levels


def _reduce(hr: Tensor, scale: int) -> Tensor:
    """Reduce by an integer factor with antialiased bicubic.

    The sum is computed in float64, so that the rounded result does not depend on the number of threads: worker
    processes have one, the training process has several.
    """
    return resize(hr.double(), (hr.shape[-2] // scale, hr.shape[-1] // scale)).to(hr.dtype)


def _levels(bits: int, where: str) -> int:
    """Return the highest level of a bit depth."""
    if not 1 <= bits <= 16:
        raise InputError(f"bits of {where} is {bits}; give a depth from 1 to 16")
    return 2**bits - 1
