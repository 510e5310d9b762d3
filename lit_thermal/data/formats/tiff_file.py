"""TIFF files of one page of 8 or 16 bit: tifffile reads them, and Pillow those whose compression it alone knows."""

import io
import json
import logging
import lzma
import math
import os
import shlex
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from lit_thermal.data.formats.raster import ORIENTATION, Header, Raster, check_size, decoded, upright
from lit_thermal.errors import InputError

PHOTOMETRIC = 262
WHITE, BLACK, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
"""Values of `PHOTOMETRIC`: what the numbers of the pixels mean."""
_DEFLATE = (8, 32946, 50013)
_LZMA = 34925
_RATIO = 1032
"""By how much deflate shrinks at most."""
_UNCHECKED = 1 << 26
"""Bytes that a strip may unpack to before its size is checked."""
_one_at_a_time = threading.Lock()
# A damaged file gets our sentence; tifffile would log its own before it.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)


def tiff_header(path: Path) -> Header:
    """Look at a TIFF; only signed and floating point pixels are decoded, to tell what to do about them.

    Raises:
        InputError: it has several pages, or is not of 8 or 16 bit.
        Exception: whatever a damaged file makes tifffile raise.
    """
    with _page(path) as (_, page):
        if page.dtype == np.int16:
            _signed(path, page.asarray())
        height, width, orientation = page.imagelength, page.imagewidth, _orientation(page)
        _check_channels(path, page)
        if orientation >= 5:
            height, width = width, height
        return Header(height, width, 16 if _bits(page) > 8 else 8, orientation)


def read_tiff(path: Path, palette: bool) -> Raster:
    """Decode a TIFF, as `lit_thermal.data.formats.raster.read_raster`.

    Raises:
        InputError: it has several pages, or is not of 8 or 16 bit, or its compression is not known.
        Exception: whatever a damaged file makes tifffile or Pillow raise.
    """
    with _page(path) as (file, page):
        _check_channels(path, page)
        pixels = _pixels(path, file, page)
        if pixels.shape[:2] != (page.imagelength, page.imagewidth):
            raise ValueError(f"it holds {pixels.shape} numbers for {page.imagewidth}x{page.imagelength} pixels")
        photometric, bits = int(page.photometric), _bits(page)
        if pixels.dtype == np.int16:
            pixels = _signed(path, pixels)
        transparent = False
        if pixels.ndim == 3:
            colours = 1 if pixels.shape[-1] < 3 else 3
            alpha, pixels = pixels[..., colours:], pixels[..., :colours]
            transparent = bool((alpha < 2**bits - 1).any())
            pixels = pixels[..., 0] if colours == 1 else pixels
        if photometric == PALETTE and palette:
            assert page.colormap is not None
            pixels = _colours(page.colormap)[pixels]
        elif photometric != PALETTE:
            pixels = pixels.astype(np.uint8) if bits < 8 else pixels
            if photometric == WHITE:
                pixels = pixels.dtype.type(2**bits - 1) - pixels
            if bits < 8:
                pixels = pixels * pixels.dtype.type(255 // (2**bits - 1))
        return Raster(upright(pixels.astype(np.uint16 if bits > 8 else np.uint8), _orientation(page)), transparent)


@contextmanager
def _page(path: Path) -> Iterator[tuple[tifffile.TiffFile, tifffile.TiffPage]]:
    """The one page of a TIFF whose data is there."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        if not isinstance(page, tifffile.TiffPage):
            raise ValueError("its first page is missing")
        check_size(path, page.imagelength, page.imagewidth)
        count = max(len(file.pages), page.imagedepth, _stacked(file, page))
        if count > 1:
            raise InputError(f"{path} holds {count} pages: write one frame per file")
        if page.samplesperpixel > 4:
            raise InputError(f"{path} holds {page.samplesperpixel} channels: keep the thermal one alone")
        _check_data(path, page)
        kind = str(page.dtype)
        if kind not in ("bool", "uint8", "uint16", "int16"):
            raise InputError(f"{path} holds {_advice(path, file, page)}")
        _check_bomb(file, page)
        yield file, page


def _bits(page: tifffile.TiffPage) -> int:
    """Bits of a pixel as it is stored: 1 to 16."""
    bits = page.bitspersample
    return int(bits if isinstance(bits, int) else max(bits))


def _orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(ORIENTATION)
    value = 1 if tag is None else tag.value
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def _stacked(file: tifffile.TiffFile, page: tifffile.TiffPage) -> int:
    """Number of frames that lie behind one page, as ImageJ and tifffile write them and say in the description."""
    images = 1
    if page.is_imagej:
        images = int((file.imagej_metadata or {}).get("images", 1))
    elif page.is_shaped:
        shape = json.loads(page.description).get("shape", []) if page.description.startswith("{") else []
        images = math.prod(map(int, shape)) // max(1, page.size) if shape else 1
    return images


def _check_channels(path: Path, page: tifffile.TiffPage) -> None:
    if int(page.photometric) not in (WHITE, BLACK, RGB, PALETTE, CMYK, YCBCR):
        raise InputError(f"{path} is a TIFF of the kind {page.photometric!s}, not of gray levels: convert it to gray")


def _check_data(path: Path, page: tifffile.TiffPage) -> None:
    """Check that all strips or tiles are there."""
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if len(ends) < math.prod(page.chunked) or not all(page.databytecounts):
        raise ValueError("a part of its pixels is missing")
    if max(ends) > path.stat().st_size:
        raise ValueError("its end is missing")
    stored = page.imagewidth * page.imagelength * page.samplesperpixel * _bits(page) // 8
    if page.compression == 1 and int(page.photometric) != YCBCR and sum(page.databytecounts) < stored:
        raise ValueError("a part of its pixels is missing")


def _check_bomb(file: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Check that no strip unpacks to more than its pixels, which tifffile does without a limit."""
    if page.compression not in (*_DEFLATE, _LZMA):
        return
    room = math.prod(page.chunks) * max(1, _bits(page) // 8) + (1 << 16)
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if page.compression != _LZMA and count * _RATIO <= max(_UNCHECKED, 4 * room):
            continue
        file.filehandle.seek(offset)
        packed = file.filehandle.read(count)
        unpack = lzma.LZMADecompressor() if page.compression == _LZMA else zlib.decompressobj()
        if len(unpack.decompress(packed, room)) >= room:
            raise ValueError("it unpacks to more than its pixels")


def _pixels(path: Path, file: tifffile.TiffFile, page: tifffile.TiffPage) -> np.ndarray:
    """The numbers in the file, (H, W) or (H, W, C) with all its channels, neither turned nor inverted."""
    if int(page.photometric) not in (CMYK, YCBCR):
        try:
            pixels = page.asarray()
        except Exception as error:
            # the package that tifffile would need, or a part of Python of which this one is too old
            if "imagecodecs" not in str(error) and not isinstance(error, ImportError):
                raise
        else:
            pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
            planar = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3
            return np.moveaxis(pixels, 0, -1) if planar else pixels
    return _by_pillow(path, file, page)


def _by_pillow(path: Path, file: tifffile.TiffFile, page: tifffile.TiffPage) -> np.ndarray:
    """As `_pixels`, for compressions that tifffile does not know."""
    bits = _bits(page)
    data = bytearray(path.read_bytes())
    # Pillow turns images, and inverts some of those whose least number is white: it is told that there is no need.
    for code, value in ((ORIENTATION, 1), (PHOTOMETRIC, BLACK if page.photometric == WHITE else None)):
        if value is not None and (tag := page.tags.get(code)) is not None:
            size = struct.calcsize(file.byteorder + {3: "H", 4: "I"}[int(tag.dtype)])
            data[tag.valueoffset : tag.valueoffset + size] = value.to_bytes(
                size, "little" if file.byteorder == "<" else "big"
            )
    with _muted(), Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
        if image.size != (page.imagewidth, page.imagelength):
            raise ValueError("its size is told in two ways")
        if (bits > 8) != image.mode.startswith("I;16"):
            raise InputError(
                f"{path} holds {bits} bit in a form that cannot be read: write it without compression, as by "
                f"'tiffcp -c none {shlex.quote(path.name)} OUT.tif'"
            )
        if image.mode in ("L", "1", "LA", "P", "RGB", "RGBA") or image.mode.startswith("I;16"):
            pixels = np.array(image)
        else:
            pixels = decoded(image, palette=True).pixels
    if pixels.dtype == bool:
        return pixels
    # Pillow spreads gray of less than 8 bit over all of it.
    return pixels // (255 // (2**bits - 1)) if bits < 8 and page.photometric != PALETTE else pixels


@contextmanager
def _muted() -> Iterator[None]:
    """Keep libtiff, which Pillow reads with, from writing about damage to standard error past all of Python."""
    with _one_at_a_time, ExitStack() as stack:
        with suppress(OSError):  # there may be no standard error
            kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, kept)
            stack.callback(os.close, nowhere)
            stack.callback(os.dup2, kept, 2)
            os.dup2(nowhere, 2)
        yield


def _colours(table: np.ndarray) -> np.ndarray:
    """A palette (3, n) uint16 as levels (n, 3) uint8; some programs write levels of 8 bit into it."""
    table = np.asarray(table)
    return (table if table.max() < 256 else table >> 8).T.astype(np.uint8)


def _signed(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Signed counts as unsigned ones, where none is below 0."""
    if (least := int(pixels.min())) < 0:
        raise InputError(
            f"{path} holds int16 down to {least}, not counts of 8 or 16 bit: convert it to uint16, as by "
            + _command(path, f"x + {-least}")
        )
    return pixels.astype(np.uint16)


def _advice(path: Path, file: tifffile.TiffFile, page: tifffile.TiffPage) -> str:
    """What a page holds that is neither 8 nor 16 bit, and a command that makes 16 bit of it."""
    kind = str(page.dtype)
    if page.dtype is None or page.dtype.kind not in "iuf":
        return f"pixels of the type {kind}, not counts of 8 or 16 bit: convert it to uint16"
    _check_bomb(file, page)
    pixels = _pixels(path, file, page)
    finite = pixels[np.isfinite(pixels)] if page.dtype.kind == "f" else pixels
    if lost := pixels.size - finite.size:
        kind += f" with {lost} pixels that are NaN or infinite"
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if page.dtype.kind != "f" and 0 <= low <= high < 2**16:
        formula = "x"
    elif page.dtype.kind == "f" and 0 <= low <= high < 655:
        formula = "x * 100"  # hundredths of a kelvin, as cameras write them
    else:
        formula = f"(x - {low:.9g}) * {60000 / max(high - low, 1e-9):.9g}"
    fill = f"numpy.nan_to_num({formula})" if lost else formula
    return f"{kind}, not counts of 8 or 16 bit: convert it to uint16, as by {_command(path, fill)}"


def _command(path: Path, formula: str) -> str:
    code = (
        f"import numpy, tifffile; x = tifffile.imread({path.name!r}).astype(float); "
        f"tifffile.imwrite('OUT.tif', ({formula}).round().astype('uint16'))"
    )
    return f"python -c {shlex.quote(code)}" if '"' in code else f'python -c "{code}"'
