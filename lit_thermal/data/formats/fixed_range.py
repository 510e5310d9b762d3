"""Counts that mean the same temperature in every file, for mappings with a fixed range such as "kelvin 270..330"."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.frames import Clip, read_measured
from lit_thermal.data.formats.normalize import Normalize, kelvin_range
from lit_thermal.data.formats.thermogram import CENTIKELVIN, COUNTS, DECIKELVIN, Measured, in_steps, to_kelvin
from lit_thermal.errors import InputError

FINE = 600.0
"""Highest end in Kelvin of a fixed range up to which its counts are 0.01 K; above they are 0.1 K."""


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
