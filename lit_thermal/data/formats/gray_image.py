"""Gray images of 8 or 16 bit: reduction of equal channels, and warnings about what a file holds besides its levels."""

import logging
import shlex
from pathlib import Path

import numpy as np

from lit_thermal.data.formats.image_decoding import read_raster
from lit_thermal.errors import InputError

GRAY_TOLERANCE = 2
"""Largest allowed difference between the channels of a lossy gray image, in 8-bit levels."""

_log = logging.getLogger(__name__)
_warned: set[tuple[Path, str]] = set()
"""Folders, and the reasons of the warnings that were logged for images in them."""


def read_gray(path: Path, tolerance: int = 0, page: int | None = None) -> np.ndarray:
    """Decode one image to upright (H, W) uint8 or uint16 counts.

    A three-channel image is reduced to one channel if its channels are equal. They may differ by `tolerance`, and are
    then averaged; in a lossy file they may differ by `GRAY_TOLERANCE`, and the first is used. A warning is logged once
    per folder if pixels are not opaque, if channels were averaged, or if a JPEG of a camera is read as its picture.

    Args:
        path: path of the file.
        tolerance: largest allowed difference between channels in 8-bit levels.
        page: number of the page of a TIFF; None means the only page.

    Raises:
        InputError: the file is missing, truncated or in colour, or does not have 8 or 16 bits.
    """
    raster = read_raster(path, page=page)
    pixels = raster.pixels
    step = 257 if pixels.dtype == np.uint16 else 1
    allowed = max(tolerance, GRAY_TOLERANCE if raster.lossy else 0) * step
    if raster.transparent:
        warn_once(path, "transparent", "has transparent pixels: their gray levels are used")
    try:
        gray = reduce_to_gray(pixels, allowed, str(path))
    except InputError as error:
        raise InputError(f"{error}{_measured(path, raster.radiometric)}") from error
    if raster.radiometric:
        warn_once(path, "radiometric", f"is read as its 8-bit picture only{_measured(path, raster.radiometric)}")
    if pixels.ndim == 3 and not raster.lossy and (worst := _spread(pixels)):
        far = f"{worst / step:.2g}"
        warn_once(path, "averaged", f"has channels that differ by up to {far} 8-bit levels: they are averaged")
        gray = np.rint(pixels.mean(-1)).astype(pixels.dtype)
    return gray


def reduce_to_gray(pixels: np.ndarray, tolerance: int, where: str) -> np.ndarray:
    """Reduce (H, W) or (H, W, 3) counts to (H, W), the first channel of an image with equal channels.

    Raises:
        InputError: channels differ by more than `tolerance` counts; the message names the file by `where`.
    """
    if pixels.ndim == 2:
        return pixels
    worst = _spread(pixels)
    if worst > tolerance:
        raise InputError(
            f"{where} is in colour (channels differ by up to {worst} levels, {tolerance} allowed), "
            "but thermal frames are gray: undo the colour map or convert them"
        )
    return np.ascontiguousarray(pixels[..., 0])


def _spread(pixels: np.ndarray) -> int:
    """Return the largest difference between the channels of (H, W, 3) counts."""
    red, green, blue = (pixels[..., channel] for channel in range(3))
    highest = np.maximum(np.maximum(red, green), blue)
    return int((highest - np.minimum(np.minimum(red, green), blue)).max())


def _measured(path: Path, maker: str) -> str:
    """Return the part of a message about radiometric data in a JPEG, empty if there are none."""
    if not maker:
        return ""
    if maker == "FLIR":
        return "; it has records of a FLIR camera, but no radiometric data among them"
    return (
        f"; it also holds radiometric data ({maker}), which are not supported: convert it first, for example by the "
        f"maker's program, to a float TIFF of temperatures named {shlex.quote(path.stem)}.tif"
    )


def warn_once(path: Path, reason: str, text: str) -> None:
    """Log a warning about an image, only once per process for each folder and reason."""
    if (path.parent, reason) not in _warned:
        _warned.add((path.parent, reason))
        _log.warning("%s %s (further images in this folder are not reported)", path, text)
