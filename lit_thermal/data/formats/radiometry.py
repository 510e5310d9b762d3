"""Mapping between a clip's counts and values in [0, 1], which is fixed per clip, never per frame."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.fixed_range import scale_of
from lit_thermal.data.formats.frames import Clip
from lit_thermal.data.formats.normalize import NORMALIZE, Normalize, kelvin_range
from lit_thermal.data.formats.thermogram import COUNTS

ROOM = 300.0
"""Temperature in Kelvin at which noise is stated."""
MARGIN = 0.05
"""Margin below and above the range of a 16-bit clip, as a share of it, because a restoration may overshoot."""
USUAL = 0.005
"""Share of the pixels at each end of a histogram that are outside the usual range.

The number is at least `FEWEST` pixels, plus one line of the frame if the frame has more than 20 lines.
"""
FEWEST = 4
NARROWEST = 16
"""Smallest width in counts of the usual range; a narrower range is widened to it."""


def histogram(frames: Iterable[np.ndarray], bits: int) -> np.ndarray:
    """Return the number of pixels with each count over all frames, (2**bits,) int64, with one frame in memory."""
    total = np.zeros(2**bits, np.int64)
    for frame in frames:
        counts = np.bincount(frame.reshape(-1))
        total[: len(counts)] += counts
    return total


def percentile(counts: np.ndarray, percent: float) -> int:
    """Return the smallest count that at least `percent` of all pixels in a histogram do not exceed."""
    cumulative = np.cumsum(counts)
    return int(np.searchsorted(cumulative, max(1.0, percent / 100 * cumulative[-1])))


def clip_radiometry(clip: Clip, normalize: Normalize = NORMALIZE) -> Radiometry:
    """Return the mapping between a clip's counts and [0, 1]; a 16-bit clip is read through once or twice.

    A fixed range of temperatures needs a clip from `clip_in_common_counts`.
    """
    scale = scale_of(clip)
    if normalize == "full" or clip.bits == 8 or kelvin_range(normalize):
        return radiometry_of(np.zeros(2**clip.bits, np.int64), normalize, clip, scale)
    return radiometry_of(histogram(clip, clip.bits), normalize, clip, scale)


def image_radiometry(image: np.ndarray, normalize: Normalize = NORMALIZE, scale: Radiometry = COUNTS) -> Radiometry:
    """Return the mapping between the counts of one image (H, W), uint8 or uint16, and [0, 1].

    Args:
        image: counts; for a fixed range of temperatures they are those of `in_common_counts`.
        normalize: mapping to [0, 1].
        scale: mapping from counts to Kelvin.
    """
    counts = np.bincount(image.reshape(-1), minlength=2 ** (8 * image.itemsize))
    return radiometry_of(counts, normalize, [image], scale)


def radiometry_of(
    counts: np.ndarray, normalize: Normalize, frames: Iterable[np.ndarray], scale: Radiometry = COUNTS
) -> Radiometry:
    """Return the mapping between counts and [0, 1] for a clip with this histogram, (256,) or (65536,).

    8-bit clips are divided by 255. A typical scene spans only a few hundred of the 65536 counts of a 16-bit camera, so
    the range of a 16-bit clip is determined from the clip.

    Args:
        counts: number of occurrences of each count in the clip.
        normalize: range of a 16-bit clip. "robust" maps the range of all pixels except isolated outliers (with
            `MARGIN`). Isolated outliers are dead and hot pixels that are farther from the usual range than its width,
            while the median of the 3 x 3 pixels around them is not (`isolated`); larger areas, such as a hot object,
            are not clipped. "minmax" maps the clip's whole range (with `MARGIN`). "percentile" maps the range from
            the 0.1 to the 99.9 percentile and clips the rest. "full" divides by 65535. "kelvin 270..330" maps this
            range of temperatures, the same for all clips.
        frames: counts (H, W) of all frames. "robust" uses the size of the first frame, and reads all frames if there
            are counts far outside the usual range.
        scale: mapping from counts to Kelvin.
    """
    known = {"unit": scale.unit, "constants": scale.constants, "reading": scale.reading}
    if len(counts) == 256:
        return Radiometry(**known)  # type: ignore[arg-type]
    if normalize == "full":
        return Radiometry(0.0, 65535.0, 16, **known)  # type: ignore[arg-type]
    if (ends := kelvin_range(normalize)) is not None:
        (zero, step), (low, high) = scale.constants, ends
        return Radiometry((low - zero) / step, (high - low) / step, 16, **known)  # type: ignore[arg-type]
    if normalize == "robust":
        counts = _without_outliers(counts, frames)
    share = 0.1 if normalize == "percentile" else 0.0
    low, high = percentile(counts, share), percentile(counts, 100 - share)
    margin = max(1.0, MARGIN * (high - low))
    return Radiometry(low - margin, high - low + 2 * margin, 16, **known)  # type: ignore[arg-type]


def isolated(frame: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the pixels outside [low, high] for which the median of the 3 x 3 pixels is inside.

    Single dead or hot pixels, pairs, 2 x 2 blocks and lines one pixel wide are isolated; an object of 3 x 3 is not.
    """
    rows, columns = np.nonzero((frame < low) | (frame > high))
    if not len(rows):
        return rows, columns
    # Mirror padding: edge padding would make a line along the border two pixels wide.
    padded = np.pad(frame, 1, mode="reflect" if min(frame.shape) > 1 else "edge")
    around = np.median([padded[rows + y, columns + x] for y in range(3) for x in range(3)], axis=0)
    inside = (around >= low) & (around <= high)
    return rows[inside], columns[inside]


def _without_outliers(counts: np.ndarray, frames: Iterable[np.ndarray]) -> np.ndarray:
    """Return the histogram (65536,) of a clip without its isolated outliers."""
    pixels = int(counts.sum())
    line = pixels / min(next(iter(frames)).shape)
    # in a frame of few lines, one line is too large a share to be excluded
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
    """Return the values to display as black and white: 0 and 1 for 8 bits, the 0.5 and 99.5 percentiles for 16 bits."""
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
        clip: clip values to [0, 1], as a network expects. False keeps values outside the mapped range, for metrics and
            for the part that writers add back.
    """
    values = (counts.astype(np.float32) - np.float32(radiometry.offset)) / np.float32(radiometry.gain)
    return torch.from_numpy(values).clamp_(0.0, 1.0) if clip else torch.from_numpy(values)


def beyond(counts: np.ndarray, radiometry: Radiometry) -> Tensor:
    """Return the part of the values that clipping removes, float32 of the shape of `counts`; 0 in the mapped range."""
    values = to_values(counts, radiometry, clip=False)
    return values - values.clamp(0.0, 1.0)


def kelvin_per_value(radiometry: Radiometry) -> float | None:
    """Return the Kelvin from value 0 to value 1 by the slope at `ROOM`, or None if temperatures are unknown."""
    if radiometry.unit == "linear":
        return radiometry.constants[1] * radiometry.gain
    if radiometry.unit == "planck":
        r1, r2, b, f, _ = radiometry.constants
        power = math.exp(b / ROOM)
        return radiometry.gain * r2 * ROOM**2 * (power - f) ** 2 / (r1 * b * power)
    return None
