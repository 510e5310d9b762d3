"""Output of restored clips as a TIFF with one page per frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tifffile
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.frames import check_no_nan, to_counts
from lit_thermal.data.formats.sidecar import write_scale
from lit_thermal.data.formats.tiff_clip import SUFFIXES
from lit_thermal.files import replacing
from lit_thermal.inference.output import Write

LARGEST = (1 << 32) - (1 << 25)
"""Largest number of bytes of pixels in a classic TIFF, whose offsets have 32 bits."""


def is_pages_path(path: Path) -> bool:
    """Return whether the output of a clip is a TIFF of several pages."""
    return path.suffix.lower() in SUFFIXES


@contextmanager
def open_pages(target: Path, *, pixels: int, radiometry: Radiometry) -> Iterator[Write]:
    """Open a TIFF for writing page by page; it appears complete or not at all.

    If temperatures are known, a JSON file beside says how counts become Kelvin.

    Args:
        target: file to write.
        pixels: number of pixels of all pages.
        radiometry: mapping of frames to counts.

    Raises:
        InputError: a value is NaN, or the file cannot be written.
    """
    with replacing(target) as aside:
        large = pixels * radiometry.bits // 8 > LARGEST
        with tifffile.TiffWriter(aside, bigtiff=large) as file:

            def write(values: Tensor, stamp: int | None = None) -> None:
                check_no_nan(values, target.name)
                counts = to_counts(values[0], radiometry)
                file.write(counts, photometric="minisblack", contiguous=False, metadata=None)

            yield write
        # the scale first: a file without its scale would be read as other temperatures
        if radiometry.unit != "counts":
            write_scale(target, radiometry)
