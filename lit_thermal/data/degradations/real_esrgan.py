"""Two rounds of random blur, resizing, noise and compression: a synthetic degradation beyond any single camera."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.data.degradations.degradation import Degradation, Range
from lit_thermal.errors import InputError
from lit_thermal.ops.jpeg import TIE, jpeg
from lit_thermal.ops.kernels import filter2d, gaussian_kernel, plateau_kernel, sinc_kernel

Three = tuple[float, float, float]
Six = tuple[float, float, float, float, float, float]
MODES = ("area", "bilinear", "bicubic")
"""Interpolation modes, equally likely; none is antialiased."""
WIDE = 13
"""Kernel size in pixels from which `wide_cutoff` applies."""


class RealESRGAN(Degradation):
    """The two-stage degradation of Real-ESRGAN for one channel, with the ranges of DifIISR's trainer.

    Stage 1 is blur, resizing, noise and JPEG. Stage 2, skipped half of the time, is blur (also optional), resizing and
    noise. At the end the image is resized to 1 / scale, filtered by a sinc and compressed, the last two in random
    order. The parameters of each step are drawn uniformly from their ranges; the result is rounded to integer levels.

    All random draws, including noise, come from the CPU generator of the seed, and the rest is computed in float64, so
    that an image is degraded identically on any device that supports float64, alone or in a batch. In a clip only the
    noise differs from frame to frame. Since images have one channel instead of three, there is neither colour noise nor
    a probability of gray noise, and JPEG encodes luminance only. Resizing keeps both borders in place.

    Args:
        kernel_size: smallest and largest side of the blur kernels of stage 1, odd, in pixels.
        second_kernel_size: smallest and largest side of the blur kernels of stage 2 and of the last sinc.
        kernels: probabilities of the kinds of blur: isotropic and anisotropic Gaussian, isotropic and anisotropic
            generalised Gaussian, isotropic and anisotropic plateau.
        sigma: range of the standard deviation along each axis of the blur of stage 1, in pixels.
        second_sigma: range of the standard deviation along each axis of the blur of stage 2, in pixels.
        beta_general: range of the shape of the generalised Gaussians, below and above 1 equally often.
        beta_plateau: range of the shape of the plateaus, below and above 1 equally often.
        sinc: probability that a sinc kernel replaces a blur.
        cutoff: range of the cut-off angular frequency of a sinc, in units of pi per pixel.
        wide_cutoff: the same range for sincs that replace a blur of 13 pixels or more.
        up_down_keep: probabilities of enlarging, reducing and keeping the size in stage 1.
        second_up_down_keep: probabilities of enlarging, reducing and keeping the size in stage 2.
        resize: smallest (at most 1) and largest (at least 1) size after stage 1, as a share of the target's.
        second_resize: smallest (at most 1) and largest (at least 1) size after stage 2, as a share of the input's.
        gaussian: probability of Gaussian noise; otherwise it is Poisson noise, whose counts go from 0 to the number of
            8-bit levels that occur in the image, rounded up to a power of 2.
        noise: range of the standard deviation of the Gaussian noise of stage 1, in 8-bit levels.
        second_noise: range of the standard deviation of the Gaussian noise of stage 2, in 8-bit levels.
        poisson: range of the factor on the Poisson noise of stage 1.
        second_poisson: range of the factor on the Poisson noise of stage 2.
        jpeg_quality: range of the quality of both compressions, 1 to 100 on libjpeg's scale.
        second_stage: probability of stage 2.
        second_blur: probability of a blur in stage 2.
        last_sinc: probability of the last sinc.
        bits: bit depth that the result is rounded to: 8, or 16 for 16-bit files, for which 256 levels would be too
            coarse.

    Raises:
        InputError: a number is out of range.

    Source: Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data", ICCV
    workshops 2021.
    """

    def __init__(
        self,
        kernel_size: tuple[int, int] = (3, 19),
        second_kernel_size: tuple[int, int] = (3, 13),
        kernels: Six = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03),
        sigma: Range = (0.2, 3.0),
        second_sigma: Range = (0.2, 1.5),
        beta_general: Range = (0.5, 4.0),
        beta_plateau: Range = (1.0, 2.0),
        sinc: float = 0.1,
        cutoff: Range = (1 / 3, 1.0),
        wide_cutoff: Range = (0.2, 1.0),
        up_down_keep: Three = (0.2, 0.7, 0.1),
        second_up_down_keep: Three = (0.3, 0.4, 0.3),
        resize: Range = (0.15, 1.5),
        second_resize: Range = (0.3, 1.2),
        gaussian: float = 0.5,
        noise: Range = (1.0, 30.0),
        second_noise: Range = (1.0, 25.0),
        poisson: Range = (0.05, 3.0),
        second_poisson: Range = (0.05, 2.5),
        jpeg_quality: Range = (30.0, 95.0),
        second_stage: float = 0.5,
        second_blur: float = 0.8,
        last_sinc: float = 0.8,
        bits: int = 8,
    ) -> None:
        for size in (kernel_size, second_kernel_size):
            if not 1 <= size[0] <= size[1] or not size[0] % 2 == size[1] % 2 == 1:
                raise InputError(
                    f"a kernel size of RealESRGAN is {tuple(size)}; give two odd numbers, the smaller first"
                )
        _check_ranges(0, noise=noise, second_noise=second_noise, poisson=poisson, second_poisson=second_poisson)
        _check_ranges(0.01, sigma=sigma, second_sigma=second_sigma, beta_general=beta_general)
        _check_ranges(0.01, beta_plateau=beta_plateau, cutoff=cutoff, wide_cutoff=wide_cutoff)
        _check_ranges(1, 100, jpeg_quality=jpeg_quality)
        _check_shares(kernels=kernels, up_down_keep=up_down_keep, second_up_down_keep=second_up_down_keep)
        for name, (low, high) in {"resize": resize, "second_resize": second_resize}.items():
            if not 0 < low <= 1 <= high < math.inf:
                raise InputError(f"{name} of RealESRGAN is ({low}, {high}); give a range with 1 in it, above 0")
        chances = {"sinc": sinc, "gaussian": gaussian, "second_stage": second_stage, "second_blur": second_blur}
        for name, chance in (chances | {"last_sinc": last_sinc}).items():
            if not 0 <= chance <= 1:
                raise InputError(f"{name} of RealESRGAN is {chance}; it must be a probability from 0 to 1")
        if not 1 <= bits <= 16:
            raise InputError(f"bits of RealESRGAN is {bits}; give a depth from 1 to 16")
        self.kernel_size, self.second_kernel_size, self.kernels = kernel_size, second_kernel_size, kernels
        self.sigma, self.second_sigma = sigma, second_sigma
        self.beta_general, self.beta_plateau = beta_general, beta_plateau
        self.sinc, self.cutoff, self.wide_cutoff = sinc, cutoff, wide_cutoff
        self.up_down_keep, self.second_up_down_keep = up_down_keep, second_up_down_keep
        self.resize, self.second_resize = resize, second_resize
        self.gaussian, self.noise, self.second_noise = gaussian, noise, second_noise
        self.poisson, self.second_poisson, self.jpeg_quality = poisson, second_poisson, jpeg_quality
        self.second_stage, self.second_blur, self.last_sinc = second_stage, second_blur, last_sinc
        self.levels = 2**bits - 1

    def batch(self, hr: Tensor, *, scale: int, seeds: Sequence[int]) -> Tensor:
        """Degrade (B, 1, H, W) in [0, 1] on its device to (B, 1, H / scale, W / scale), each image by its own seed.

        Each image gets the same result as in a separate call. Sizes between the stages differ between images, so they
        are processed one after another.

        Raises:
            InputError: the number of seeds differs from that of images, or a side is not a multiple of `scale`.
        """
        if len(seeds) != len(hr):
            raise InputError(f"RealESRGAN got {len(hr)} images and {len(seeds)} seeds; give one seed an image")
        return torch.stack([self(image, scale=scale, seed=seed) for image, seed in zip(hr, seeds, strict=True)])

    def degrade(self, hr: Tensor, scale: int, generator: torch.Generator) -> Tensor:
        """Apply both stages and the end, with one set of draws for all frames except for their noise."""
        height, width = hr.shape[-2:]
        small = (height // scale, width // scale)
        draw = _Draws(generator)
        x = hr.double().reshape(-1, 1, height, width)
        x = filter2d(x, self._blur(draw, self.kernel_size, self.sigma))
        x = _resized(x, draw, (height, width), draw.ratio(self.up_down_keep, self.resize))
        x = self._noisy(x, draw, self.noise, self.poisson)
        x = jpeg(x, draw.between(self.jpeg_quality))
        if draw.chance(self.second_stage):
            if draw.chance(self.second_blur):
                x = filter2d(x, self._blur(draw, self.second_kernel_size, self.second_sigma))
            x = _resized(x, draw, small, draw.ratio(self.second_up_down_keep, self.second_resize))
            x = self._noisy(x, draw, self.second_noise, self.second_poisson)
        compress_first = draw.chance(0.5)
        if compress_first:
            x = jpeg(x, draw.between(self.jpeg_quality))
        x = _resized(x, draw, small)
        if draw.chance(self.last_sinc):
            size, cutoff = draw.odd(self.second_kernel_size), draw.between(self.cutoff)
            x = filter2d(x, sinc_kernel(size, math.pi * cutoff))
        if not compress_first:
            x = jpeg(x, draw.between(self.jpeg_quality))
        x = _whole(x.clamp(0, 1) * self.levels) / self.levels
        return x.reshape(*hr.shape[:-2], *small).to(hr.dtype)

    def _blur(self, draw: "_Draws", sizes: tuple[int, int], sigmas: Range) -> Tensor:
        """Return a kernel of a random kind, size and shape."""
        size = draw.odd(sizes)
        if draw.chance(self.sinc):
            return sinc_kernel(size, math.pi * draw.between(self.wide_cutoff if size >= WIDE else self.cutoff))
        kind, elongated = divmod(draw.one_of(self.kernels), 2)
        first = draw.between(sigmas)
        second, angle = (draw.between(sigmas), draw.between((-math.pi, math.pi))) if elongated else (first, 0.0)
        if kind == 0:
            return gaussian_kernel(size, (first, second), angle)
        shape, betas = ((gaussian_kernel, self.beta_general), (plateau_kernel, self.beta_plateau))[kind - 1]
        middle = min(max(1.0, betas[0]), betas[1])
        beta = draw.between((betas[0], middle) if draw.chance(0.5) else (middle, betas[1]))
        return shape(size, (first, second), angle, beta)

    def _noisy(self, x: Tensor, draw: "_Draws", sigmas: Range, factors: Range) -> Tensor:
        """Add Gaussian or Poisson noise to (N, 1, H, W) and clip it to [0, 1]."""
        if draw.chance(self.gaussian):
            return (x + draw.between(sigmas) / 255 * draw.normal(x.shape).to(x.device)).clamp(0, 1)
        return (x + draw.between(factors) * draw.shot_noise(_whole(x.clamp(0, 1) * 255).cpu()).to(x.device)).clamp(0, 1)


class _Draws:
    """Random numbers of one sample, all from one CPU generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def between(self, ends: Range) -> float:
        """Draw a uniform number from a range."""
        return ends[0] + (ends[1] - ends[0]) * float(torch.rand((), generator=self._generator, dtype=torch.float64))

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return self.between((0.0, 1.0)) < probability

    def odd(self, ends: tuple[int, int]) -> int:
        """Draw an odd number between two odd numbers, both included."""
        return ends[0] + 2 * int(torch.randint((ends[1] - ends[0]) // 2 + 1, (), generator=self._generator))

    def one_of(self, shares: Sequence[float]) -> int:
        """Draw an index; `shares` are the probabilities."""
        return int(torch.multinomial(torch.tensor(shares, dtype=torch.float64), 1, generator=self._generator))

    def ratio(self, up_down_keep: Three, ends: Range) -> float:
        """Draw a resizing factor: above 1, below it, or 1."""
        return self.between(((1.0, ends[1]), (ends[0], 1.0), (1.0, 1.0))[self.one_of(up_down_keep)])

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Draw unit Gaussian noise, float64 on the CPU."""
        return torch.randn(tuple(shape), generator=self._generator, dtype=torch.float64)

    def shot_noise(self, levels: Tensor) -> Tensor:
        """Draw the deviations, in [0, 1], of Poisson counts from whole 8-bit levels (N, 1, H, W), float64 on the CPU.

        The number of random numbers used depends on the input, so this must be bit-identical on every device.
        """
        occurring = [int((torch.bincount(frame.flatten().long(), minlength=256) > 0).sum()) for frame in levels]
        most = torch.tensor([2 ** (count - 1).bit_length() for count in occurring], dtype=torch.float64)
        most, values = most.reshape(-1, 1, 1, 1), levels / 255
        return torch.poisson(values * most, generator=self._generator) / most - values


def _resized(x: Tensor, draw: _Draws, size: tuple[int, int], ratio: float = 1.0) -> Tensor:
    """Interpolate (N, 1, H, W) to a share of a size, in a random mode."""
    mode = MODES[draw.one_of((1.0, 1.0, 1.0))]
    return F.interpolate(x, [max(1, int(side * ratio)) for side in size], mode=mode)


def _whole(levels: Tensor) -> Tensor:
    """Round to the nearest integer levels; halves are rounded up on every device."""
    return (levels + (0.5 + TIE)).floor()


def _check_ranges(least: float, most: float = math.inf, **ranges: Range) -> None:
    for name, (low, high) in ranges.items():
        if not least <= low <= high <= most or high == math.inf:
            limits = f"{least} <= low <= high" + (f" <= {most}" if most < math.inf else "")
            raise InputError(f"{name} of RealESRGAN is ({low}, {high}); give two numbers, {limits}")


def _check_shares(**shares: Sequence[float]) -> None:
    for name, share in shares.items():
        if not (min(share) >= 0 and abs(sum(share) - 1) < 1e-6):
            raise InputError(f"{name} of RealESRGAN is {list(share)}; probabilities are at least 0 and sum to 1")
