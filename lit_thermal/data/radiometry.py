"""Between a clip's counts and values in [0, 1]: one fixed mapping per clip, never per frame."""

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.frames import Clip

Normalize = Literal["minmax", "percentile", "full"]
ROOM = 300.0
"""Kelvin: the temperature at which noise is stated."""
MARGIN = 0.05
"""Room left below and above the range of a 16-bit clip, as a share of it: a restoration may overshoot."""


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


def clip_radiometry(clip: Clip, normalize: Normalize = "minmax") -> Radiometry:
    """The mapping between a clip's counts and [0, 1]; of a 16-bit clip every frame is read once, in turn."""
    if clip.bits == 8:
        return Radiometry()
    if normalize == "full":
        return Radiometry(0.0, 65535.0, 16)
    return radiometry_of(histogram(clip, clip.bits), normalize)


def radiometry_of(counts: np.ndarray, normalize: Normalize) -> Radiometry:
    """The mapping between counts and [0, 1] for a clip of this histogram, (256,) or (65536,).

    8-bit clips are divided by 255. A camera's scene spans a few hundred counts of 65536, so for 16 bit the range
    is taken from the clip.

    Args:
        counts: how often each count occurs in the clip.
        normalize: for 16 bit: "minmax" maps the clip's whole range (with `MARGIN`) and is exactly
            invertible; "percentile" maps 0.1 % to 99.9 % of it, for clips with a few dead pixels or a very hot
            spot, and clips what lies outside; "full" divides by 65535.
    """
    if len(counts) == 256:
        return Radiometry()
    if normalize == "full":
        return Radiometry(0.0, 65535.0, 16)
    share = 0.1 if normalize == "percentile" else 0.0
    low, high = percentile(counts, share), percentile(counts, 100 - share)
    margin = max(1.0, MARGIN * (high - low))
    return Radiometry(low - margin, high - low + 2 * margin, 16)


def display_range(counts: np.ndarray, radiometry: Radiometry) -> tuple[float, float]:
    """The values in [0, 1] to show as black and white: all of 8 bit, 0.5 % to 99.5 % of a 16-bit clip's pixels."""
    if len(counts) == 256:
        return 0.0, 1.0
    low, high = (percentile(counts, share) for share in (0.5, 99.5))
    high = max(high, low + 1)
    return (low - radiometry.offset) / radiometry.gain, (high - radiometry.offset) / radiometry.gain


def to_values(counts: np.ndarray, radiometry: Radiometry) -> Tensor:
    """Map counts of any shape to float32 values; what lies outside the mapped range is clipped to [0, 1]."""
    values = (counts.astype(np.float32) - np.float32(radiometry.offset)) / np.float32(radiometry.gain)
    return torch.from_numpy(values).clamp_(0.0, 1.0)


def kelvin_per_value(radiometry: Radiometry) -> float | None:
    """Kelvin from value 0 to value 1 by the slope at `ROOM`, as noise is stated; None where it is not known."""
    if radiometry.unit == "linear":
        return radiometry.constants[1] * radiometry.gain
    if radiometry.unit == "planck":
        r1, r2, b, f, _ = radiometry.constants
        power = math.exp(b / ROOM)
        return radiometry.gain * r2 * ROOM**2 * (power - f) ** 2 / (r1 * b * power)
    return None
