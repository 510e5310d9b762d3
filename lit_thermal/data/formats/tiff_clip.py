"""TIFF files of several pages as clips that are read page by page."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.thermal_tiff import first_page, read_page, tiff_pages
from lit_thermal.errors import InputError

SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class PagesClip:
    """A TIFF whose pages are the frames of a clip."""

    path: Path
    length: int
    size: tuple[int, int]
    bits: int
    scale: Radiometry
    """Mapping from the counts to Kelvin."""
    unit: str = ""
    """Unit of float pixels."""
    fps: None = None

    @property
    def name(self) -> str:
        """Name of the file without its suffix."""
        return self.path.stem

    @classmethod
    def open(cls, path: Path) -> "PagesClip":
        """Open a file: count its pages and decode the first one.

        Raises:
            InputError: the file is damaged.
        """
        first, unit = first_page(path)
        counts, scale = first.measured()
        height, width = counts.shape
        return cls(path, tiff_pages(path), (height, width), 8 * counts.itemsize, scale, unit)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return frames `start` to `stop - 1` as (T, H, W) uint8 or uint16 counts."""
        return np.stack([self._page(number) for number in range(start, stop)])

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every frame in turn, (H, W) uint8 or uint16."""
        return (self._page(number) for number in range(self.length))

    def _page(self, number: int) -> np.ndarray:
        counts, scale = read_page(self.path, number, self.unit).measured()
        if counts.shape != self.size or 8 * counts.itemsize != self.bits:
            raise InputError(f"{self.path} has pages of different size or depth: write one frame per file")
        if scale.constants != self.scale.constants:
            raise InputError(f"page {number} of {self.path} is hotter than 655.35 K, unlike page 0: split it there")
        return counts


def is_pages(path: Path) -> bool:
    """Return whether a file is a TIFF of several pages; damaged files are not."""
    if path.suffix.lower() not in SUFFIXES:
        return False
    try:
        return tiff_pages(path) > 1
    except InputError:
        return False
