"""How far two views of one scene are displaced, by phase correlation, and what both of them show."""

import math

import torch
from torch import Tensor

from lit_thermal.ops.resize import resize

Displacement = tuple[int, int]
"""Pixels down and to the right."""


LIMIT = 8.0
"""Displacements are looked for up to so many pixels of the input along each axis."""
BLUR = 2.0
"""Standard deviation in pixels of the Gaussian that both images are seen through.

Defocus of radius r turns the sign of frequencies above 0.61 / r: those that this Gaussian leaves are below that for any
r up to 3 pixels of the input.
"""
STEPS = 16
"""Positions per pixel at which the correlation is evaluated."""
_TAPER = 0.1
"""Share of a side over which an image fades out at either end, so that its border is no edge."""


def phase_correlation(x: Tensor, y: Tensor, limit: float = LIMIT, blur: float = BLUR) -> tuple[float, float]:
    """How far `y` is displaced against `x`: what `x` shows at (i, j) is at (i + down, j + right) of `y`.

    The cross-power spectrum is divided by its amplitude, weighted by a Gaussian and transformed back at `STEPS`
    positions per pixel. Gain and offset of either image, and any blur that turns no sign below the Gaussian's
    frequencies, leave the place of its peak as it is. Both images are seen through one window, which draws the peak
    towards 0: cut them to their common view by what was found and ask again.

    Args:
        x: (h, w), any range.
        y: (h, w).
        limit: greatest displacement along an axis in pixels.
        blur: standard deviation in pixels of the Gaussian, which leaves out what noise and blur have destroyed.

    Returns:
        Pixels down and right, multiples of 1 / `STEPS`.

    Raises:
        ValueError: the images are not two of one size.

    Source: Kuglin and Hines, "The phase correlation image alignment method", 1975; the matrices instead of a padded
    transform are those of Guizar-Sicairos et al., "Efficient subpixel image registration algorithms", 2008.
    """
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"phase_correlation takes two images of one size, not {tuple(x.shape)} and {tuple(y.shape)}")
    window = _taper(x.shape[0])[:, None] * _taper(x.shape[1])
    # On the CPU in double precision: the displacement that an image gets is the same on every device.
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
    """How far a target is displaced against its input, in whole pixels of the target, from these two alone.

    Phase correlation of the input with the blurred reduction of the target; then once more on the common view of both.
    A displacement that correlates no better than none is none. Whole pixels: the target is cut, never interpolated.

    Args:
        lr: (1, h, w), any range.
        hr: (1, H, W), larger by one factor each way.

    Returns:
        What `lr`, enlarged, shows at (i, j) is at (i + down, j + right) of `hr`; at most `LIMIT` pixels of `lr`, and a
        quarter of its sides, each way.

    Raises:
        ValueError: the sides of `hr` are not one multiple of those of `lr`.
    """
    (height, width), scale = lr.shape[-2:], hr.shape[-1] // lr.shape[-1]
    if tuple(hr.shape[-2:]) != (height * scale, width * scale):
        raise ValueError(f"a target of {tuple(hr.shape)} is no multiple of an input of {tuple(lr.shape)}")
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
    """Cut (..., H, W) to what both show: (i, j) of `x` and (i + down, j + right) of `y` come to lie at one place."""
    spans = [_spans(length, d) for length, d in zip(x.shape[-2:], displacement, strict=True)]
    (rows, moved_rows), (columns, moved_columns) = spans
    return x[..., rows, columns], y[..., moved_rows, moved_columns]


def _spans(length: int, distance: int) -> tuple[slice, slice]:
    start, stop = max(0, -distance), length - max(0, distance)
    return slice(start, stop), slice(start + distance, stop + distance)


def _correlation(x: Tensor, y: Tensor) -> float:
    """Pearson's; NaN where one is flat."""
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x.norm() * y.norm()))


def _taper(length: int) -> Tensor:
    """(length,) Tukey window: 1 but for a raised cosine at either end."""
    place = (torch.arange(length, dtype=torch.float64) + 0.5) / length
    edge = torch.minimum(place, 1 - place).clamp(max=_TAPER)
    return 0.5 - 0.5 * torch.cos(math.pi * edge / _TAPER)
