"""Blur kernels of random degradations, and the convolution that applies one."""

import math

import torch
from torch import Tensor


def gaussian_kernel(size: int, sigma: float | tuple[float, float], angle: float = 0.0, beta: float = 1.0) -> Tensor:
    """Return the kernel exp(-q^beta / 2) with the quadratic form q = p' S^-1 p over pixel positions p; it sums to 1.

    This is the generalised Gaussian.

    Args:
        size: side of the kernel in pixels, odd.
        sigma: standard deviations in pixels along both axes of the ellipse; a single number is isotropic.
        angle: angle of the first axis to the horizontal in radians.
        beta: shape exponent; 1 is the Gaussian, smaller values have heavier tails, larger values are flatter.

    Returns:
        (size, size) float64 on the CPU, symmetric under rotation by 180 degrees.

    Raises:
        ValueError: the size is even or not positive, or a standard deviation is not positive.

    Source: Liu et al., "Estimating Generalized Gaussian Blur Kernels for Out-of-Focus Image Deblurring", TCSVT 2020.
    """
    kernel = torch.exp(-(_quadratic_form(size, sigma, angle) ** beta) / 2)
    return kernel / kernel.sum()


def plateau_kernel(size: int, sigma: float | tuple[float, float], angle: float = 0.0, beta: float = 1.0) -> Tensor:
    """Return the plateau-shaped kernel 1 / (1 + q^beta); arguments, result and errors are as for `gaussian_kernel`.

    Source: Wang et al., "Real-ESRGAN", ICCV workshops 2021, section 3.1.
    """
    kernel = 1 / (1 + _quadratic_form(size, sigma, angle) ** beta)
    return kernel / kernel.sum()


def sinc_kernel(size: int, cutoff: float) -> Tensor:
    """Return a circular low-pass filter cut to a square: cutoff / (2 pi r) J1(cutoff r) at distance r; it sums to 1.

    The filter causes ringing like that of sharpening and compression; some of its values are negative.

    Args:
        size: side of the kernel in pixels, odd.
        cutoff: angular cut-off frequency in radians per pixel; above pi, only corners of the spectrum are cut.

    Returns:
        (size, size) float64 on the CPU, symmetric under quarter turns and mirroring.

    Raises:
        ValueError: the size is even or not positive, or the cut-off is not positive.

    Source: Wang et al., "Real-ESRGAN", ICCV workshops 2021, section 3.3.
    """
    if not cutoff > 0:
        raise ValueError(f"the cut-off of a sinc kernel is {cutoff}; it must be above 0")
    x, y = _positions(size)
    distance = torch.sqrt(x**2 + y**2)
    kernel = cutoff * torch.special.bessel_j1(cutoff * distance) / (2 * math.pi * distance)
    # J1(z) / z is 1/2 at 0.
    kernel[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
    return kernel / kernel.sum()


def disc_kernel(radius: float) -> Tensor:
    """Return a uniform disc, the blur of a defocused lens: pixels are weighted by their covered area; it sums to 1.

    Args:
        radius: radius of the disc in pixels; 0 does not blur.

    Returns:
        (k, k) float64 on the CPU, k odd, symmetric under quarter turns and mirroring.

    Raises:
        ValueError: the radius is negative or not finite.
    """
    _check_length(radius, "radius of a disc kernel")
    reach = max(0, math.ceil(radius - 0.5))
    offset = _fine(2 * reach + 1)
    # A disc smaller than one cell may cover no sample point, but still belongs to its pixel.
    covered = (offset[:, None] ** 2 + offset**2 <= max(radius, 1 / _FINE) ** 2).double()
    kernel = covered.reshape(2 * reach + 1, _FINE, 2 * reach + 1, _FINE).sum((1, 3))
    return kernel / kernel.sum()


def motion_kernel(length: float, angle: float) -> Tensor:
    """Return the blur of straight motion at constant speed: a linearly interpolated line through the middle.

    The kernel sums to 1.

    Args:
        length: length of the motion in pixels; 0 does not blur.
        angle: angle of the motion to the horizontal in radians, counterclockwise on the screen.

    Returns:
        (k, k) float64 on the CPU, k odd, symmetric under rotation by 180 degrees.

    Raises:
        ValueError: the length is negative or not finite.
    """
    _check_length(length, "length of a motion kernel")
    count = max(1, math.ceil(length * _FINE))
    way = length * ((torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5)
    reach = math.ceil(length / 2)
    offset = torch.arange(2 * reach + 1, dtype=torch.float64) - reach
    across, down = (
        (1 - (offset - place[:, None]).abs()).clamp(min=0) for place in (way * math.cos(angle), -way * math.sin(angle))
    )
    kernel = down.mT @ across
    # Make the kernel exactly symmetric, because a blur must not displace the image.
    kernel = kernel + kernel.flip(0, 1)
    return kernel / kernel.sum()


def filter2d(x: Tensor, kernel: Tensor) -> Tensor:
    """Filter (..., H, W) with one kernel by correlation, as `conv2d` does, differentiably.

    The image is extended by mirroring, edge not repeated, and may be smaller than the kernel. The Fourier transform is
    used, whose cost hardly grows with the kernel.

    Args:
        x: images (..., H, W), float32 or float64, of any value range and device.
        kernel: floating point kernel (k, k), k odd.

    Returns:
        Tensor of the shape, dtype and device of `x`.
    """
    height, width = x.shape[-2:]
    radius = kernel.shape[-1] // 2
    rows, columns = (_mirrored(length, radius, x.device) for length in (height, width))
    padded = x.index_select(-2, rows).index_select(-1, columns)
    size = (height + 2 * radius, width + 2 * radius)
    # The conjugate turns the convolution into a correlation, whose valid results begin at the first pixel.
    weights = torch.fft.rfft2(kernel.to(x), s=size).conj()
    return torch.fft.irfft2(torch.fft.rfft2(padded) * weights, s=size)[..., :height, :width]


_FINE = 16
"""Sample points per pixel along each axis, for shapes that cover a pixel partly."""


def _fine(size: int) -> Tensor:
    """Return the positions of the sample points along an axis of `size` pixels, relative to its middle."""
    return (torch.arange(size * _FINE, dtype=torch.float64) + 0.5) / _FINE - size / 2


def _check_length(value: float, what: str) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"the {what} is {value}; it must be a number of pixels that is not negative")


def _quadratic_form(size: int, sigma: float | tuple[float, float], angle: float) -> Tensor:
    """Return p' S^-1 p at each position p, where S has standard deviations `sigma` along axes rotated by `angle`."""
    first, second = (sigma, sigma) if isinstance(sigma, int | float) else sigma
    if not min(first, second) > 0:
        raise ValueError(f"the standard deviations of a kernel are {sigma}; they must be above 0")
    x, y = _positions(size)
    along, across = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
    return (along / first) ** 2 + (across / second) ** 2


def _positions(size: int) -> tuple[Tensor, Tensor]:
    """Return x and y of each pixel of a kernel relative to its middle, (size, size) float64."""
    if size < 1 or size % 2 == 0:
        raise ValueError(f"a kernel of {size} pixels has no middle; the size must be odd")
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    return x, y


def _mirrored(length: int, radius: int, device: torch.device) -> Tensor:
    """Return indices that extend an axis by `radius` at both ends by mirroring, edge not repeated."""
    period = max(1, 2 * (length - 1))
    index = torch.arange(-radius, length + radius, device=device) % period
    return torch.minimum(index, period - index)
