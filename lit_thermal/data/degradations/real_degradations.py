"""Degradations of real thermal cameras: spatially varying defocus and motion blur, sensor noise, stripes."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from lit_thermal.data.degradations.degradation import Bicubic, Degradation, Range
from lit_thermal.errors import InputError, check_choice
from lit_thermal.ops.kernels import disc_kernel, filter2d, gaussian_kernel, motion_kernel
from lit_thermal.ops.resize import resize

SpreadFunction = Literal["disc", "gaussian", "either"]

LAYERS = 5
"""Number of blurs from the weakest to the strongest of an image, between which each pixel is interpolated."""
_GRID = 3
"""Number of positions per axis at which the strength of a blur is drawn; it is smooth in between."""
_WEAKEST = 1e-3
"""Size in pixels below which a blur has no effect."""


class Defocus(Degradation):
    """A lens out of focus, by an amount that varies over the image like the depth of the scene.

    Two radii are drawn from the range, and a smooth map between them; each pixel is blurred by its local radius
    (interpolated between `LAYERS` blurs). The Gaussian has the standard deviation of the disc, half its radius along
    each axis. The blur belongs to the camera, so it is the same in all frames of a clip.

    Args:
        radius: smallest and largest radius of the point spread function in HR pixels. The inputs of the authors'
            FLIR-IISR test pairs best fit discs of 4 to 12 HR pixels at x4.
        psf: point spread function: "disc", "gaussian", or "either", each half of the time.
        base: degradation that makes the input from the blurred image.

    Source: Pentland, "A New Sense for Depth of Field", 1987, for both point spread functions.
    """

    def __init__(
        self,
        radius: Range = (1.0, 10.0),
        psf: SpreadFunction = "either",
        base: Callable[[], Degradation] = Bicubic,
    ) -> None:
        self.radius = _range(radius, "radius of Defocus")
        check_choice(psf, SpreadFunction, "psf of Defocus")
        self.psf: SpreadFunction = psf
        self.base = base()

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Blur the frames, then apply the base."""
        return self.base.degrade(self.blur(hr, generator), scale, generator)

    def blur(self, hr: Tensor, generator: torch.Generator) -> Tensor:
        """Return the image out of focus, at its own size."""
        weak, strong = sorted(_between(self.radius, generator) for _ in range(2))
        disc = self.psf == "disc" or (self.psf == "either" and _drawn(generator) < 0.5)
        kernel = disc_kernel if disc else _gaussian_of_radius
        return _varying(hr, kernel, weak, strong, _map(hr, generator))


class MotionBlur(Degradation):
    """Blur by straight motion of the camera, or of a part of the scene, during the exposure.

    One direction and one length are drawn. Half of the time the whole image moves; otherwise only a part of it moves,
    and the length falls smoothly to zero around that part. The blur is the same in all frames of a clip.

    Args:
        length: smallest and largest length of the motion in HR pixels.
        base: degradation that makes the input from the blurred image.
    """

    def __init__(self, length: Range = (4.0, 24.0), base: Callable[[], Degradation] = Bicubic) -> None:
        self.length = _range(length, "length of MotionBlur")
        self.base = base()

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Blur the frames, then apply the base."""
        return self.base.degrade(self.blur(hr, generator), scale, generator)

    def blur(self, hr: Tensor, generator: torch.Generator) -> Tensor:
        """Return the image in motion, at its own size."""
        length, angle = _between(self.length, generator), math.pi * _drawn(generator)
        weakest = length if _drawn(generator) < 0.5 else 0.0
        return _varying(hr, lambda way: motion_kernel(way, angle), weakest, length, _map(hr, generator))


class NETDNoise(Degradation):
    """Temporal noise of a detector, given as its noise-equivalent temperature difference; drawn for each frame.

    Values from 0 to 1 span different temperatures in different files, which a degradation cannot know, so set `span`.

    Args:
        netd: smallest and largest standard deviation of the noise of each LR pixel in millikelvin. Cooled cameras have
            20, uncooled ones 30 to 100.
        span: temperature difference between value 0 and value 1 in Kelvin.
        base: degradation to whose result the noise is added.
    """

    def __init__(
        self, netd: Range = (20.0, 100.0), span: float = 20.0, base: Callable[[], Degradation] = Bicubic
    ) -> None:
        self.netd = _range(netd, "netd of NETDNoise")
        if not 0 < span < math.inf:
            raise InputError(f"span of NETDNoise is {span}; give the Kelvin from black to white, above 0")
        self.span, self.base = span, base()

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Apply the base, which makes its random draws first, then add the noise."""
        return self.add(self.base.degrade(hr, scale, generator).clamp(0, 1), generator)

    def add(self, lr: Tensor, generator: torch.Generator) -> Tensor:
        """Return the frames with noise."""
        sigma = _between(self.netd, generator) / 1000 / self.span
        return lr + sigma * torch.randn(lr.shape, generator=generator)


class Stripes(Degradation):
    """Fixed offsets of a detector's columns or rows, which remain after its non-uniformity correction.

    Each clip has offsets in either columns or rows; in columns with probability 0.8, since most detectors are read out
    by columns.

    Args:
        sigma: smallest and largest standard deviation of the offset of an LR column or row, in 8-bit levels.
        base: degradation to whose result the stripes are added.
    """

    def __init__(self, sigma: Range = (0.0, 2.0), base: Callable[[], Degradation] = Bicubic) -> None:
        self.sigma = _range(sigma, "sigma of Stripes")
        self.base = base()

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Apply the base, which makes its random draws first, then add the stripes."""
        return self.add(self.base.degrade(hr, scale, generator).clamp(0, 1), generator)

    def add(self, lr: Tensor, generator: torch.Generator) -> Tensor:
        """Return the frames with stripes."""
        sigma = _between(self.sigma, generator) / 255
        shape = (lr.shape[-1],) if _drawn(generator) < 0.8 else (lr.shape[-2], 1)
        return lr + sigma * torch.randn(shape, generator=generator)


class RealThermal(Degradation):
    """A random degradation of real thermal cameras, drawn for each image: training inputs if real ones are missing.

    The steps are blur by defocus or motion, antialiased bicubic reduction, detector noise, stripes, and rounding. Each
    strength is drawn uniformly from its range.

    Args:
        kinds: probabilities of defocus, of motion and of neither; the default has defocus and motion as often as
            FLIR-IISR, in 1,305 and 152 of 1,457 images.
        radius: smallest and largest radius of defocus, `Defocus.radius`.
        psf: point spread function of defocus, `Defocus.psf`.
        length: smallest and largest length of motion, `MotionBlur.length`.
        noisy: probability of noise.
        netd: smallest and largest noise, `NETDNoise.netd`.
        span: temperature range of the values, `NETDNoise.span`.
        striped: probability of stripes.
        stripes: smallest and largest strength of stripes, `Stripes.sigma`.
        bits: bit depth that the frames are rounded to.

    Source: Zou et al., "Toward Real-world Infrared Image Super-Resolution", CVPR 2026, for the defects of real inputs;
    the ranges are this project's.
    """

    def __init__(
        self,
        kinds: tuple[float, float, float] = (0.896, 0.104, 0.0),
        radius: Range = (1.0, 10.0),
        psf: SpreadFunction = "either",
        length: Range = (4.0, 24.0),
        noisy: float = 0.8,
        netd: Range = (20.0, 100.0),
        span: float = 20.0,
        striped: float = 0.3,
        stripes: Range = (0.0, 2.0),
        bits: int = 8,
    ) -> None:
        if len(kinds) != 3 or min(kinds) < 0 or not abs(sum(kinds) - 1) < 1e-6:
            raise InputError(f"kinds of RealThermal is {list(kinds)}; give three probabilities that sum to 1")
        for name, share in {"noisy": noisy, "striped": striped}.items():
            if not 0 <= share <= 1:
                raise InputError(f"{name} of RealThermal is {share}; give a probability")
        if not 1 <= bits <= 16:
            raise InputError(f"bits of RealThermal is {bits}; give a depth from 1 to 16")
        self.kinds, self.noisy, self.striped, self.levels = tuple(kinds), noisy, striped, 2**bits - 1
        self.defocus, self.motion = Defocus(radius, psf), MotionBlur(length)
        self.noise, self.stripes = NETDNoise(netd, span), Stripes(stripes)

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Draw the degradations and their strengths, and apply them."""
        kind = _drawn(generator)
        if kind < self.kinds[0]:
            hr = self.defocus.blur(hr, generator)
        elif kind < self.kinds[0] + self.kinds[1]:
            hr = self.motion.blur(hr, generator)
        lr = Bicubic().degrade(hr, scale, generator).clamp(0, 1)
        if _drawn(generator) < self.noisy:
            lr = self.noise.add(lr, generator)
        if _drawn(generator) < self.striped:
            lr = self.stripes.add(lr, generator)
        return (lr.clamp(0, 1) * self.levels).round() / self.levels


def _varying(
    hr: Tensor, kernel: Callable[[float], Tensor], weakest: float, strongest: float, strength: Tensor
) -> Tensor:
    """Blur each pixel of (..., H, W) by a kernel of its own size, from `weakest` at strength 0 to `strongest` at 1.

    It is computed in float64, so that the result does not depend on the number of threads that sum it up.
    """
    x = hr.double()
    if strongest - weakest < _WEAKEST:
        return filter2d(x, kernel(strongest)).to(hr.dtype)
    result = torch.zeros_like(x)
    for layer, size in enumerate(torch.linspace(weakest, strongest, LAYERS, dtype=torch.float64).tolist()):
        # Linear interpolation between the two layers around each pixel's strength; all weights of a pixel sum to 1.
        weight = (1 - (strength * (LAYERS - 1) - layer).abs()).clamp(min=0)
        result += weight * filter2d(x, kernel(size))
    return result.to(hr.dtype)


def _map(hr: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a smooth random map of the size of the image, (H, W) float64, whose minimum is 0 and whose maximum is 1."""
    drawn = torch.rand((_GRID, _GRID), generator=generator, dtype=torch.float64)
    smooth = resize(drawn, (hr.shape[-2], hr.shape[-1]), border="replicate")
    low, high = smooth.min(), smooth.max()
    return (smooth - low) / (high - low).clamp(min=1e-12)


def _gaussian_of_radius(radius: float) -> Tensor:
    """Return the Gaussian with the standard deviation of a disc."""
    if radius < _WEAKEST:
        return torch.ones(1, 1, dtype=torch.float64)
    return gaussian_kernel(2 * math.ceil(2 * radius) + 1, radius / 2)


def _range(given: Sequence[float], what: str) -> Range:
    if len(given) != 2 or not 0 <= given[0] <= given[1] < math.inf:
        raise InputError(f"{what} is {given}; give two numbers, 0 <= low <= high")
    return given[0], given[1]


def _between(ends: Range, generator: torch.Generator) -> float:
    return ends[0] + (ends[1] - ends[0]) * _drawn(generator)


def _drawn(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
