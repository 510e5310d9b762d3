"""CPTV files, thermal videos of the Cacophony Project, read by the package cptv: 16-bit counts and frame times."""

import logging
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from lit_thermal.data.formats.optional_package import needed_for
from lit_thermal.data.formats.raster import check_size
from lit_thermal.data.formats.thermogram import Thermogram
from lit_thermal.errors import InputError, reading

SUFFIX = ".cptv"
WHAT = "a CPTV video"
_MILLI = Fraction(1, 1000)
# A damaged file gives one error of ours; the package would log each part that it does not know.
logging.getLogger("cptv").setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True)
class CptvClip:
    """One CPTV file as a clip; counts have no known temperature. Frames of the background are left out."""

    path: Path
    size: tuple[int, int]
    stamps: tuple[int, ...]
    """Time of each frame in `base` seconds from the first."""
    bits: int = 16
    base: Fraction = _MILLI
    aspect: Fraction = Fraction(1)
    starts_anywhere: bool = True

    @property
    def name(self) -> str:
        """Name of the file without its suffix."""
        return self.path.stem

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.stamps)

    @cached_property
    def fps(self) -> float | None:
        """Frames per second, on average."""
        span = self.stamps[-1] - self.stamps[0]
        return (len(self.stamps) - 1) / float(span * self.base) if span > 0 else None

    @classmethod
    def open(cls, path: Path) -> "CptvClip":
        """Open a file: decode all frames once, to count them.

        Raises:
            InputError: the file is damaged or has no frame, or the package cptv is missing.
        """
        times, size = [], (0, 0)
        for pixels, time in _frames(path):
            times.append(time)
            size = (pixels.shape[0], pixels.shape[1])
        if not times:
            raise InputError(f"{path} holds no video frame: replace or remove it")
        return cls(path, size, tuple(time - times[0] for time in times))

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return frames `start` to `stop - 1` as (T, H, W) uint16 counts, by decoding from the first frame."""
        return np.stack(list(islice(self, start, stop)))

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every frame in turn, (H, W) uint16."""
        return (pixels for pixels, _ in _frames(self.path))


def read_cptv(path: Path) -> Thermogram:
    """Read all frames of a CPTV file, with their times and what the file says about camera and place.

    Raises:
        InputError: same as in `CptvClip.open`.
    """
    clip = CptvClip.open(path)
    check_size(path, clip.length * clip.size[0], clip.size[1])
    with reading(path, WHAT), path.open("rb") as file:
        reader = _reader(path, file)
        names = ("timestamp", "device_name", "device_id", "latitude", "longitude", "altitude", "model", "brand")
        facts = {name: plain for name in names if (plain := _plain(getattr(reader, name, None)))}
    times = tuple(float(stamp * clip.base) for stamp in clip.stamps)
    return Thermogram(clip.read(0, clip.length), times=times, path=path, facts=facts)


def _frames(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    """Yield each frame, (H, W) uint16, with its time in milliseconds; frames without a time are counted."""
    with reading(path, WHAT), path.open("rb") as file:
        reader = _reader(path, file)
        number = 0
        for frame in reader:
            if not frame.background_frame:
                time = number * 111 if frame.time_on is None else round(frame.time_on.total_seconds() * 1000)
                yield frame.pix, time
                number += 1


def _reader(path: Path, file: Any) -> Any:
    module = needed_for(path, WHAT, "cptv", "cptv")
    with redirect_stdout(None):  # the package prints about wrong dates
        reader = module.CPTVReader(file)
    check_size(path, reader.y_resolution, reader.x_resolution)
    reader.s = _Limited(reader.s, 4 * (reader.y_resolution * reader.x_resolution + 2))
    return reader


class _Limited:
    """An unpacked file that gives at most the bytes of one frame at once: a small file may unpack to many gigabytes."""

    def __init__(self, file: Any, most: int) -> None:
        self._file, self._most = file, most

    def read(self, count: int) -> bytes:
        if count > self._most:
            raise ValueError(f"it declares a frame of {count} bytes")
        return self._file.read(count)

    def seek(self, place: int) -> None:
        self._file.seek(place)


def _plain(value: Any) -> Any:
    """Return a value of the file as JSON can hold it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
