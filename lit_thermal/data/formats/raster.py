"""Decoded contents of image files of any format: size, pixels and orientation."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lit_thermal.errors import InputError

MAX_PIXELS = 300_000_000
"""Default of the environment variable `LIT_THERMAL_MAX_PIXELS`, the largest number of pixels of an image."""
ORIENTATION = 274
"""EXIF and TIFF tag of the orientation."""

# `check_size` is the limit, before anything is allocated. Pillow also warns of damage that it ignores.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")


class Header(NamedTuple):
    """Properties of an image that its header gives.

    Attributes:
        height: height of the upright image.
        width: width of the upright image.
        bits: bit depth, 8 or 16.
        orientation: orientation of the stored pixels, 1 to 8 as in EXIF.
    """

    height: int
    width: int
    bits: int
    orientation: int


@dataclass(frozen=True)
class Raster:
    """A decoded, upright image.

    Attributes:
        pixels: (H, W) or (H, W, 3) uint8 or uint16, without transparency.
        transparent: whether some pixels are not opaque.
        lossy: whether the file is a JPEG.
        radiometric: maker of the camera, if the file also holds its radiometric data; else empty.
    """

    pixels: np.ndarray
    transparent: bool = False
    lossy: bool = False
    radiometric: str = ""


def check_size(path: Path, height: int, width: int) -> None:
    """Check the size that a file declares, before memory is allocated for it.

    Raises:
        ValueError: the image is empty.
        InputError: the image has more pixels than `LIT_THERMAL_MAX_PIXELS` or `MAX_PIXELS` allows.
    """
    text = os.environ.get("LIT_THERMAL_MAX_PIXELS", "").strip() or str(MAX_PIXELS)
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) > 0):
        raise InputError(f"LIT_THERMAL_MAX_PIXELS is {text[:40]!r}; set it to a number of pixels, such as {MAX_PIXELS}")
    if height < 1 or width < 1:
        raise ValueError(f"it declares {width}x{height} pixels")
    if height * width > int(text):
        raise InputError(
            f"{path} declares {width}x{height} pixels, more than the limit of {text}: crop it, or, if you trust "
            "the file, set the environment variable LIT_THERMAL_MAX_PIXELS to a larger number"
        )


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and mirror stored pixels (H, W) or (H, W, C) by an EXIF orientation, 1 to 8, so that they are upright."""
    if orientation >= 5:
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def decoded(image: Image.Image, palette: bool) -> Raster:
    """Decode a Pillow image without rotating it."""
    if image.mode.startswith("I"):
        return Raster(np.asarray(image).astype(np.uint16))
    if image.mode == "P" and not palette:
        return Raster(np.array(image))
    clear = False
    if image.has_transparency_data:
        clear = bool(image.convert("RGBA").getextrema()[3][0] < 255)  # type: ignore[index, misc]
    return Raster(np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")), clear)
