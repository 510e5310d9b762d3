"""Between a clip's counts and values in [0, 1]: one fixed mapping per clip, never per frame."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.frames import Clip
from lit_thermal.data.formats.normalize import NORMALIZE, Normalize

ROOM = 300.0
"""Kelvin: the temperature at which noise is stated."""
MARGIN = 0.05
"""Room left below and above the range of a 16-bit clip, as a share of it: a restoration may overshoot."""
USUAL = 0.005
"""Share of the pixels at each end of a histogram that do not belong to the usual range.

It is at least `FEWEST` pixels, and one line of the frame more where the frame has over 20 lines.
"""
FEWEST = 4
NARROWEST = 16
"""Counts: a usual range that is narrower is taken for as wide."""


def histogram(frames: Iterable[np.ndarray], bits: int) -> np.ndarray:
    """How often each count occurs in all frames, (2**bits,) int64; holds one frame at a time."""
    total = np.zeros(2**bits, np.int64)
    for frame in frames:
        counts = np.bincount(frame.reshape(-1))
        total[: len(counts)] += counts
    return total


def percentile(counts: np.ndarray, percent: float) -> int:
    """The smallest count that at least `percent` of all pixels in a histogram do not exceed."""
    cumulative = np.cumsum(counts)
    return int(np.searchsorted(cumulative, max(1.0, percent / 100 * cumulative[-1])))


def clip_radiometry(clip: Clip, normalize: Normalize = NORMALIZE) -> Radiometry:
    """The mapping between a clip's counts and [0, 1]; of a 16-bit clip every frame is read once or twice, in turn."""
    if clip.bits == 8:
        return Radiometry()
    if normalize == "full":
        return Radiometry(0.0, 65535.0, 16)
    return radiometry_of(histogram(clip, clip.bits), normalize, clip)


def image_radiometry(image: np.ndarray, normalize: Normalize = NORMALIZE) -> Radiometry:
    """The mapping between the counts of one image (H, W), uint8 or uint16, and [0, 1]."""
    return radiometry_of(np.bincount(image.reshape(-1), minlength=2 ** (8 * image.itemsize)), normalize, [image])


def radiometry_of(counts: np.ndarray, normalize: Normalize, frames: Iterable[np.ndarray]) -> Radiometry:
    """The mapping between counts and [0, 1] for a clip of this histogram, (256,) or (65536,).

    8-bit clips are divided by 255. A camera's scene spans a few hundred counts of 65536, so for 16 bit the range
    is taken from the clip.

    Args:
        counts: how often each count occurs in the clip.
        normalize: for 16 bit: "robust" maps the range of all pixels but isolated outliers (with `MARGIN`): dead and
            hot pixels that lie farther from the usual range than its width, while the median of the nine pixels
            around does not (`isolated`); what is larger than that, such as a hot object, is not clipped. "minmax" maps
            the clip's whole range (with `MARGIN`); "percentile" maps 0.1 % to 99.9 % of it and clips what lies
            outside; "full" divides by 65535.
        frames: (H, W) counts of all frames; "robust" looks at the size of the first, and at all of them where there
            is something far outside.
    """
    if len(counts) == 256:
        return Radiometry()
    if normalize == "full":
        return Radiometry(0.0, 65535.0, 16)
    if normalize == "robust":
        counts = _without_outliers(counts, frames)
    share = 0.1 if normalize == "percentile" else 0.0
    low, high = percentile(counts, share), percentile(counts, 100 - share)
    margin = max(1.0, MARGIN * (high - low))
    return Radiometry(low - margin, high - low + 2 * margin, 16)


def isolated(frame: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels outside of [low, high] around which the median of 3 x 3 pixels lies inside.

    Single dead or hot pixels, pairs, 2 x 2 blocks, and lines of one pixel are isolated, an object of 3 x 3 is not.
    """
    rows, columns = np.nonzero((frame < low) | (frame > high))
    if not len(rows):
        return rows, columns
    # Mirrored at the border, so that a line along it does not become two.
    padded = np.pad(frame, 1, mode="reflect" if min(frame.shape) > 1 else "edge")
    around = np.median([padded[rows + y, columns + x] for y in range(3) for x in range(3)], axis=0)
    inside = (around >= low) & (around <= high)
    return rows[inside], columns[inside]


def _without_outliers(counts: np.ndarray, frames: Iterable[np.ndarray]) -> np.ndarray:
    """The histogram (65536,) of a clip without its isolated outliers."""
    pixels = int(counts.sum())
    line = pixels / min(next(iter(frames)).shape)
    # of a frame of few lines, one is too large a share to be set apart
    apart = min(max(FEWEST, USUAL * pixels, min(line + FEWEST, pixels / 20)), pixels / 3)
    cumulative = np.cumsum(counts)
    low, high = (int(np.searchsorted(cumulative, rank, side="right")) for rank in (apart, pixels - apart - 0.5))
    width = max(high - low, NARROWEST)
    low, high = low - width, high + width
    there = np.flatnonzero(counts)
    if low <= there[0] and there[-1] <= high:
        return counts
    counts = counts.copy()
    for frame in frames:
        np.subtract.at(counts, frame[isolated(frame, low, high)], 1)
    return counts


def display_range(counts: np.ndarray, radiometry: Radiometry) -> tuple[float, float]:
    """The values in [0, 1] to show as black and white: all of 8 bit, 0.5 % to 99.5 % of a 16-bit clip's pixels."""
    if len(counts) == 256:
        return 0.0, 1.0
    low, high = (percentile(counts, share) for share in (0.5, 99.5))
    high = max(high, low + 1)
    return (low - radiometry.offset) / radiometry.gain, (high - radiometry.offset) / radiometry.gain


def to_values(counts: np.ndarray, radiometry: Radiometry, clip: bool = True) -> Tensor:
    """Map counts of any shape to float32 values.

    Args:
        counts: uint8 or uint16.
        radiometry: offset and gain.
        clip: clip what lies outside of the mapped range to [0, 1], as a network expects; False keeps it, for
            measuring and for what is put back.
    """
    values = (counts.astype(np.float32) - np.float32(radiometry.offset)) / np.float32(radiometry.gain)
    return torch.from_numpy(values).clamp_(0.0, 1.0) if clip else torch.from_numpy(values)


def beyond(counts: np.ndarray, radiometry: Radiometry) -> Tensor:
    """What clipping takes away of the values of counts of any shape: 0 inside of the mapped range, float32."""
    values = to_values(counts, radiometry, clip=False)
    return values - values.clamp(0.0, 1.0)


def kelvin_per_value(radiometry: Radiometry) -> float | None:
    """Kelvin from value 0 to value 1 by the slope at `ROOM`, as noise is stated; None where it is not known."""
    if radiometry.unit == "linear":
        return radiometry.constants[1] * radiometry.gain
    if radiometry.unit == "planck":
        r1, r2, b, f, _ = radiometry.constants
        power = math.exp(b / ROOM)
        return radiometry.gain * r2 * ROOM**2 * (power - f) ** 2 / (r1 * b * power)
    return None
