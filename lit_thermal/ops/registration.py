"""Registration of two views of one scene: their displacement by phase correlation, and their common view."""

import math

import torch
from torch import Tensor

from lit_thermal.ops.resize import resize

Displacement = tuple[int, int]
"""Pixels down and to the right."""


LIMIT = 8.0
"""Largest displacement along each axis that the search covers, in pixels of the input."""
BLUR = 2.0
"""Standard deviation in pixels of the Gaussian filter of both images.

Defocus of radius r inverts the sign of frequencies above 0.61 / r. The frequencies that pass this Gaussian are below
that for any r up to 3 pixels of the input.
"""
STEPS = 16
"""Positions per pixel at which the correlation is evaluated."""
_TAPER = 0.1
"""Fraction of a side over which an image fades out at either end, so that its border is not an edge."""


def phase_correlation(x: Tensor, y: Tensor, limit: float = LIMIT, blur: float = BLUR) -> tuple[float, float]:
    """Return the displacement of `y` relative to `x`: the content of `x` at (i, j) is at (i + down, j + right) of `y`.

    The cross-power spectrum is divided by its amplitude, weighted by a Gaussian and transformed back at `STEPS`
    positions per pixel. The position of the peak does not depend on gain and offset of either image, nor on a blur that
    does not invert the sign of frequencies that pass the Gaussian. Both images are multiplied by the same window, which
    draws the peak towards 0: cut them to their common view with the result and call the function again.

    Args:
        x: first image (h, w), any range.
        y: second image (h, w), any range.
        limit: largest displacement along an axis in pixels.
        blur: standard deviation in pixels of the Gaussian, which removes frequencies destroyed by noise and blur.

    Returns:
        Pixels down and right, multiples of 1 / `STEPS`.

    Raises:
        ValueError: the arguments are not two images of the same size.

    Source: Kuglin and Hines, "The phase correlation image alignment method", 1975; the matrix products instead of a
    padded transform follow Guizar-Sicairos et al., "Efficient subpixel image registration algorithms", 2008.
    """
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"phase_correlation takes two images of one size, not {tuple(x.shape)} and {tuple(y.shape)}")
    window = _taper(x.shape[0])[:, None] * _taper(x.shape[1])
    # Computed on the CPU in double precision, so that the displacement of an image is the same on every device.
    first, second = (
        torch.fft.fft2((image - (image * window).sum() / window.sum()) * window)
        for image in (x.detach().cpu().double(), y.detach().cpu().double())
    )
    power = second * first.conj()
    down, right = (torch.fft.fftfreq(length, dtype=torch.float64) for length in x.shape)
    weight = torch.exp(-2 * (math.pi * blur) ** 2 * (down[:, None] ** 2 + right**2))
    power = power / (power.abs() + torch.finfo(torch.float64).tiny) * weight
    steps = math.floor(limit * STEPS)
    places = torch.arange(-steps, steps + 1, dtype=torch.float64) / STEPS
    rows, columns = (torch.exp(2j * math.pi * places[:, None] * f) for f in (down, right))
    peak = int((rows @ power @ columns.mT).real.argmax())
    return float(places[peak // len(places)]), float(places[peak % len(places)])


def register(lr: Tensor, hr: Tensor) -> Displacement:
    """Return the displacement of a target relative to its input, in whole pixels of the target.

    The input is phase-correlated with the reduced target, and then again on their common view. The displacement is 0 if
    it does not correlate better than none. It is rounded to whole pixels, so that targets are cut, never interpolated.

    Args:
        lr: input image (1, h, w), any range.
        hr: target image (1, H, W), larger by the same factor along both axes.

    Returns:
        Pixels (down, right): the content of the enlarged `lr` at (i, j) is at (i + down, j + right) of `hr`. They are
        limited to `LIMIT` pixels of `lr` and a quarter of its sides.

    Raises:
        ValueError: the sides of `hr` are not the same multiple of those of `lr`.
    """
    (height, width), scale = lr.shape[-2:], hr.shape[-1] // lr.shape[-1]
    if tuple(hr.shape[-2:]) != (height * scale, width * scale):
        raise ValueError(f"a target of {tuple(hr.shape)} is not a multiple of an input of {tuple(lr.shape)}")
    lr, hr = lr[0].detach().cpu().double(), hr[0].detach().cpu().double()
    small, limit = resize(hr, (height, width)), min(LIMIT, height / 4, width / 4)
    down = right = 0.0
    for _ in range(2):
        whole = (round(down), round(right))
        more = phase_correlation(*common_view(lr, small, whole), limit)
        down, right = (min(max(w + m, -limit), limit) for w, m in zip(whole, more, strict=True))
    displacement = (round(scale * down), round(scale * right))
    large, moved = common_view(resize(lr, (height * scale, width * scale)), hr, displacement)
    still, _ = common_view(hr, hr, displacement)
    return displacement if _correlation(large, moved) > _correlation(large, still) else (0, 0)


def common_view(x: Tensor, y: Tensor, displacement: Displacement) -> tuple[Tensor, Tensor]:
    """Cut two images (..., H, W) to their common view, which aligns (i, j) of `x` with (i + down, j + right) of `y`."""
    spans = [_spans(length, d) for length, d in zip(x.shape[-2:], displacement, strict=True)]
    (rows, moved_rows), (columns, moved_columns) = spans
    return x[..., rows, columns], y[..., moved_rows, moved_columns]


def _spans(length: int, distance: int) -> tuple[slice, slice]:
    start, stop = max(0, -distance), length - max(0, distance)
    return slice(start, stop), slice(start + distance, stop + distance)


def _correlation(x: Tensor, y: Tensor) -> float:
    """Return Pearson's correlation, which is NaN if one image is flat."""
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x.norm() * y.norm()))


def _taper(length: int) -> Tensor:
    """Return a Tukey window (length,): 1 except for a raised cosine at either end."""
    place = (torch.arange(length, dtype=torch.float64) + 0.5) / length
    edge = torch.minimum(place, 1 - place).clamp(max=_TAPER)
    return 0.5 - 0.5 * torch.cos(math.pi * edge / _TAPER)
