"""What real thermal cameras do to an image: defocus and motion that vary over it, sensor noise, stripes."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from lit_thermal.data.degradations import Bicubic, Degradation, Range
from lit_thermal.errors import InputError
from lit_thermal.ops.kernels import disc_kernel, filter2d, gaussian_kernel, motion_kernel
from lit_thermal.ops.resize import resize

SpreadFunction = Literal["disc", "gaussian", "either"]

LAYERS = 5
"""Blurs from the weakest to the strongest of an image, between which each pixel is interpolated."""
_GRID = 3
"""Places each way at which the strength of a blur is drawn; it is smooth between them."""
_WEAKEST = 1e-3
"""Pixels: a blur below it is none."""


class Defocus(Degradation):
    """A lens out of focus, by an amount that varies over the image as the depth of the scene does.

    Two radii are drawn from the range and a smooth map between them; a pixel is blurred by the radius of its place
    (interpolated between `LAYERS` blurs). The Gaussian has the standard deviation of the disc, half its radius along
    each axis. The blur is that of the camera: the same in all frames of a clip.

    Args:
        radius: smallest and largest radius of the point spread function, HR pixels. The inputs of the authors'
            FLIR-IISR test pairs fit discs of 4 to 12 HR pixels at x4 best.
        psf: "disc", "gaussian", or "either", each half of the time.
        base: makes the input of the blurred image.

    Source: Pentland, "A New Sense for Depth of Field", 1987, for both point spread functions.
    """

    def __init__(
        self,
        radius: Range = (1.0, 10.0),
        psf: SpreadFunction = "either",
        base: Callable[[], Degradation] = Bicubic,
    ) -> None:
        self.radius = _range(radius, "radius of Defocus")
        if psf not in get_args(SpreadFunction):
            raise InputError(f"psf of Defocus is {psf!r}; choose of {', '.join(get_args(SpreadFunction))}")
        self.psf: SpreadFunction = psf
        self.base = base()

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Blur, then what the base does."""
        return self.base.degrade(self.blur(hr, generator), scale, generator)

    def blur(self, hr: Tensor, generator: torch.Generator) -> Tensor:
        """The image out of focus, at its own size."""
        weak, strong = sorted(_between(self.radius, generator) for _ in range(2))
        disc = self.psf == "disc" or (self.psf == "either" and _drawn(generator) < 0.5)
        kernel = disc_kernel if disc else _gaussian_of_radius
        return _varying(hr, kernel, weak, strong, _map(hr, generator))


class MotionBlur(Degradation):
    """Straight motion while the frame is taken: of the camera, or of a part of the scene.

    One direction is drawn, and a length. Half of the time the whole image moves; else a part of it does, and the length
    falls off smoothly to none. The blur is the same in all frames of a clip.

    Args:
        length: smallest and largest length of the way, HR pixels.
        base: makes the input of the blurred image.
    """

    def __init__(self, length: Range = (4.0, 24.0), base: Callable[[], Degradation] = Bicubic) -> None:
        self.length = _range(length, "length of MotionBlur")
        self.base = base()

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Blur, then what the base does."""
        return self.base.degrade(self.blur(hr, generator), scale, generator)

    def blur(self, hr: Tensor, generator: torch.Generator) -> Tensor:
        """The image in motion, at its own size."""
        length, angle = _between(self.length, generator), math.pi * _drawn(generator)
        weakest = length if _drawn(generator) < 0.5 else 0.0
        return _varying(hr, lambda way: motion_kernel(way, angle), weakest, length, _map(hr, generator))


class NETDNoise(Degradation):
    """The temporal noise of a detector, stated as its noise-equivalent temperature difference; drawn for each frame.

    Values from 0 to 1 span different temperatures in different files, and a degradation does not know which: say it.

    Args:
        netd: smallest and largest standard deviation of the noise of each LR pixel, millikelvin. Cooled cameras have
            20, uncooled ones 30 to 100.
        span: temperature from value 0 to value 1, Kelvin.
        base: what the noise is put on.
    """

    def __init__(
        self, netd: Range = (20.0, 100.0), span: float = 20.0, base: Callable[[], Degradation] = Bicubic
    ) -> None:
        self.netd = _range(netd, "netd of NETDNoise")
        if not 0 < span < math.inf:
            raise InputError(f"span of NETDNoise is {span}; give the Kelvin from black to white, above 0")
        self.span, self.base = span, base()

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """What the base draws comes first, then the noise."""
        return self.add(self.base.degrade(hr, scale, generator).clamp(0, 1), generator)

    def add(self, lr: Tensor, generator: torch.Generator) -> Tensor:
        """The frames with noise."""
        sigma = _between(self.netd, generator) / 1000 / self.span
        return lr + sigma * torch.randn(lr.shape, generator=generator)


class Stripes(Degradation):
    """Offsets that the columns, or the rows, of a detector keep: what is left after its non-uniformity correction.

    Each clip has offsets in one of both, columns four times out of five, as most detectors are read out by columns.

    Args:
        sigma: smallest and largest standard deviation of the offset of an LR column or row, levels of 8 bits.
        base: what the stripes are put on.
    """

    def __init__(self, sigma: Range = (0.0, 2.0), base: Callable[[], Degradation] = Bicubic) -> None:
        self.sigma = _range(sigma, "sigma of Stripes")
        self.base = base()

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """What the base draws comes first, then the stripes."""
        return self.add(self.base.degrade(hr, scale, generator).clamp(0, 1), generator)

    def add(self, lr: Tensor, generator: torch.Generator) -> Tensor:
        """The frames with stripes."""
        sigma = _between(self.sigma, generator) / 255
        shape = (lr.shape[-1],) if _drawn(generator) < 0.8 else (lr.shape[-2], 1)
        return lr + sigma * torch.randn(shape, generator=generator)


class RealThermal(Degradation):
    """A random one of what real thermal cameras do, for each image anew: inputs to train on where no real ones are.

    Blur, by defocus or by motion; antialiased bicubic reduction; detector noise; stripes; rounding. Each strength is
    drawn evenly from its range.

    Args:
        kinds: probabilities of defocus, of motion and of neither; as defocus and motion are in FLIR-IISR, 1,305 and
            152 of 1,457 images, by default.
        radius: `Defocus.radius`.
        psf: `Defocus.psf`.
        length: `MotionBlur.length`.
        noisy: probability of noise.
        netd: `NETDNoise.netd`.
        span: `NETDNoise.span`.
        striped: probability of stripes.
        stripes: `Stripes.sigma`.
        bits: depth to which the frames are rounded.

    Source: Zou et al., "Toward Real-world Infrared Image Super-Resolution", CVPR 2026, for what real inputs suffer
    from; the ranges are ours.
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
        """Draw what happens, and how much of it."""
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

    Computed in float64, so that the result does not depend on how many threads add it up.
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
    """A smooth random map of the size of the image, (H, W) float64 from 0 to 1, both of which it reaches."""
    drawn = torch.rand((_GRID, _GRID), generator=generator, dtype=torch.float64)
    smooth = resize(drawn, (hr.shape[-2], hr.shape[-1]), border="replicate")
    low, high = smooth.min(), smooth.max()
    return (smooth - low) / (high - low).clamp(min=1e-12)


def _gaussian_of_radius(radius: float) -> Tensor:
    """The Gaussian of the standard deviation of a disc."""
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
