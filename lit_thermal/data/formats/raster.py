"""What image files hold once they are decoded, whatever their format: size, pixels, and which way up."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lit_thermal.errors import InputError

MAX_PIXELS = 300_000_000
"""Pixels that an image may have unless the environment variable `LIT_THERMAL_MAX_PIXELS` says another number."""
ORIENTATION = 274
"""Tag of EXIF and TIFF that says how an image is to be turned."""

# The limit is ours, which comes before anything is allocated. Pillow warns of damage that it reads over.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")


class Header(NamedTuple):
    """What an image is, without its pixels.

    Attributes:
        height: of the upright image.
        width: of the upright image.
        bits: 8 or 16.
        orientation: 1 to 8 as in EXIF; how the stored pixels are turned.
    """

    height: int
    width: int
    bits: int
    orientation: int


@dataclass(frozen=True)
class Raster:
    """A decoded image, upright.

    Attributes:
        pixels: (H, W) or (H, W, 3) uint8 or uint16; transparency is left out.
        transparent: some pixels are not opaque.
        lossy: it was a JPEG.
        radiometric: maker of the camera whose measurements are in the file beside the picture, or nothing.
    """

    pixels: np.ndarray
    transparent: bool = False
    lossy: bool = False
    radiometric: str = ""


def check_size(path: Path, height: int, width: int) -> None:
    """Check the size that a file declares, before memory is taken for it.

    Raises:
        InputError: it is empty, or has more pixels than `LIT_THERMAL_MAX_PIXELS` or `MAX_PIXELS` allows.
    """
    text = os.environ.get("LIT_THERMAL_MAX_PIXELS", "").strip() or str(MAX_PIXELS)
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) > 0):
        raise InputError(f"LIT_THERMAL_MAX_PIXELS is {text[:40]!r}; set it to a number of pixels, such as {MAX_PIXELS}")
    if height < 1 or width < 1:
        raise ValueError(f"it declares {width}x{height} pixels")
    if height * width > int(text):
        raise InputError(
            f"{path} declares {width}x{height} pixels, more than the limit of {text}: cut it, or, if you trust the "
            "file, set the environment variable LIT_THERMAL_MAX_PIXELS to a larger number"
        )


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels (H, W) or (H, W, C) as an orientation of EXIF, 1 to 8, says."""
    if orientation >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def decoded(image: Image.Image, palette: bool) -> Raster:
    """Decode a Pillow image as it is stored."""
    if image.mode.startswith("I"):
        return Raster(np.asarray(image).astype(np.uint16))
    if image.mode == "P" and not palette:
        return Raster(np.array(image))
    clear = False
    if image.has_transparency_data:
        clear = bool(image.convert("RGBA").getextrema()[3][0] < 255)  # type: ignore[index, misc]
    return Raster(np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")), clear)
