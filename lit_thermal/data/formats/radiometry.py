"""Mapping between a clip's counts and values in [0, 1], which is fixed per clip, never per frame."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.frames import Clip, read_measured
from lit_thermal.data.formats.normalize import NORMALIZE, Normalize, kelvin_range
from lit_thermal.data.formats.thermogram import CENTIKELVIN, COUNTS, DECIKELVIN, Measured, in_steps, to_kelvin
from lit_thermal.errors import InputError

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
FINE = 600.0
"""Highest end in Kelvin of a fixed range up to which its counts are 0.01 K; above they are 0.1 K."""


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


def read_counts(path: Path, normalize: Normalize, tolerance: int = 0) -> Measured:
    """Read a thermal image in the counts that a mapping is defined for.

    Args:
        path: path of the file.
        normalize: mapping to [0, 1].
        tolerance: largest allowed difference between channels, as in `read_frame`.

    Raises:
        InputError: the file cannot be read, or the range is fixed and the file's temperatures are unknown.
    """
    return in_common_counts(read_measured(path, tolerance), normalize, path)


def in_common_counts(measured: Measured, normalize: Normalize, where: object) -> Measured:
    """Return an image in the counts that a mapping is defined for.

    A fixed range of temperatures needs counts that mean the same in every file, so that images become counts of 0.01 K
    (0.1 K for ranges above `FINE`) of apparent temperature. For other mappings, images are unchanged.

    Args:
        measured: counts and their scale.
        normalize: mapping to [0, 1].
        where: file, for the error message.

    Raises:
        InputError: the range is fixed, and the file's temperatures are unknown.
    """
    ends = kelvin_range(normalize)
    if ends is None:
        return measured
    if measured.scale.unit == "counts":
        raise InputError(
            f"{where} does not say how its counts become temperatures, which the fixed range {normalize!r} needs: give "
            "the camera's constants in a file of the same name that ends in .json, or choose another normalize"
        )
    steps = CENTIKELVIN if ends[1] <= FINE else DECIKELVIN
    if measured.scale.constants == steps.constants:
        return measured
    kelvin = to_kelvin(measured.counts, measured.scale, where)
    return in_steps(kelvin, measured.scale.reading, fine=steps is CENTIKELVIN)


@dataclass(frozen=True)
class KelvinClip:
    """A clip whose frames are read in the counts of a fixed range of temperatures (`in_common_counts`)."""

    clip: Clip
    scale: Radiometry
    """Scale of the frames of `clip`."""
    normalize: Normalize
    bits: int = 16

    @property
    def path(self) -> Path:
        """Folder or file of the clip."""
        return self.clip.path

    @property
    def files(self) -> Sequence[Path]:
        """Files of the frames, if they are separate."""
        return getattr(self.clip, "files", ())

    @property
    def name(self) -> str:
        """Name of the clip."""
        return self.clip.name

    @property
    def length(self) -> int:
        """Number of frames."""
        return self.clip.length

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.clip.size

    @property
    def fps(self) -> float | None:
        """Frames per second, if the file states it."""
        return self.clip.fps

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop - 1` as (T, H, W) uint16 counts."""
        return self._converted(self.clip.read(start, stop))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every frame, (H, W) uint16."""
        return (self._converted(frame) for frame in self.clip)

    def _converted(self, counts: np.ndarray) -> np.ndarray:
        return in_common_counts(Measured(counts, self.scale), self.normalize, self.path).counts


def clip_in_common_counts(clip: Clip, normalize: Normalize) -> Clip:
    """Return a clip in the counts that a mapping is defined for, as `in_common_counts` does for an image.

    Raises:
        InputError: the range is fixed, and the clip's temperatures are unknown.
    """
    if kelvin_range(normalize) is None:
        return clip
    scale = scale_of(clip)
    in_common_counts(Measured(np.zeros((1, 1), np.uint16), scale), normalize, clip.path)
    return KelvinClip(clip, scale, normalize)


def scale_of(clip: Clip) -> Radiometry:
    """Return the mapping from the counts of a clip to Kelvin; videos for playback have none."""
    if isinstance(clip, KelvinClip):
        ends = kelvin_range(clip.normalize)
        assert ends is not None
        return (CENTIKELVIN if ends[1] <= FINE else DECIKELVIN)._replace(reading=clip.scale.reading)
    return getattr(clip, "scale", COUNTS)


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
