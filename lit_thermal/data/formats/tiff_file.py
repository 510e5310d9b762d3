"""Pages of TIFF files, 8 or 16 bit or float, read with tifffile, or with Pillow for compressions that only it knows."""

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
"""Values of `PHOTOMETRIC`, which give the meaning of the pixel values."""
_INTEGERS = ("bool", "uint8", "uint16", "int16")
"""Types of stored numbers that are counts."""
_DEFLATE = (8, 32946, 50013)
_LZMA = 34925
_RATIO = 1032
"""Highest compression ratio of deflate."""
_UNCHECKED = 1 << 26
"""Unpacked size in bytes of a strip up to which its size is not checked."""
_one_at_a_time = threading.Lock()
# A damaged file gives one error of ours; tifffile would log its own before it.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)


def tiff_header(path: Path) -> Header:
    """Read the header of a TIFF. Pixels are decoded only if signed or floating-point, for advice in the error message.

    Raises:
        InputError: the file has several pages, or does not have 8 or 16 bits.
        Exception: any exception that tifffile raises for a damaged file.
    """
    with _page(path) as (_, page):
        if page.dtype == np.int16:
            _signed(path, page.asarray())
        height, width, orientation = page.imagelength, page.imagewidth, _orientation(page)
        _check_channels(path, page)
        if orientation >= 5:
            height, width = width, height
        return Header(height, width, 16 if _bits(page) > 8 else 8, orientation)


def tiff_layout(path: Path) -> tuple[int, bool]:
    """Return the number of pages of a TIFF, and whether the first one holds floating-point numbers.

    Raises:
        Exception: any exception that tifffile raises for a damaged file.
    """
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        if not isinstance(page, tifffile.TiffPage):
            raise ValueError("its first page is missing")
        return len(file.pages), page.dtype is not None and page.dtype.kind == "f"


def read_float_page(path: Path, number: int | None = None) -> np.ndarray:
    """Decode an upright page (H, W) of floating-point numbers.

    Args:
        path: path of the file.
        number: number of the page; None means the only page.

    Raises:
        InputError: there are several pages and no number is given, there are several channels, or the page holds
            integers.
        Exception: any exception that tifffile or Pillow raises for a damaged file.
    """
    with _page(path, number, floats=True) as (file, page):
        pixels = _pixels(path, file, page)
        if pixels.ndim == 3 and pixels.shape[-1] == 1:
            pixels = pixels[..., 0]
        if pixels.shape != (page.imagelength, page.imagewidth):
            raise InputError(f"{path} holds {page.samplesperpixel} channels: keep only the thermal one")
        return upright(pixels, _orientation(page))


def read_tiff(path: Path, palette: bool, number: int | None = None) -> Raster:
    """Decode a TIFF, as `lit_thermal.data.formats.image_decoding.read_raster` does.

    Args:
        path: path of the file.
        palette: whether to return the palette's colours for an image with a palette, instead of the indices.
        number: number of the page; None means the only page.

    Raises:
        InputError: the file has several pages, does not have 8 or 16 bits, or has an unknown compression.
        Exception: any exception that tifffile or Pillow raises for a damaged file.
    """
    with _page(path, number) as (file, page):
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
def _page(
    path: Path, number: int | None = None, floats: bool = False
) -> Iterator[tuple[tifffile.TiffFile, tifffile.TiffPage]]:
    """Open a TIFF and yield the file and a page, by default the only one, after checks that its data are complete."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[number or 0]
        if not isinstance(page, tifffile.TiffPage):
            raise ValueError("a page is missing")
        check_size(path, page.imagelength, page.imagewidth)
        pages = len(file.pages)
        count = pages if number is None else 1
        # frames behind a page are no pages: a file that has them is read only if they are its pages too
        if page.imagedepth > 1 or (pages == 1 and _stacked(file, page) > 1):
            count = max(page.imagedepth, _stacked(file, page))
        if count > 1:
            raise InputError(f"{path} holds {count} pages: write one frame per file")
        if page.samplesperpixel > 4:
            raise InputError(f"{path} holds {page.samplesperpixel} channels: keep only the thermal one")
        _check_data(path, page)
        kind = str(page.dtype)
        wanted = page.dtype is not None and page.dtype.kind == "f" if floats else kind in _INTEGERS
        if not wanted:
            raise InputError(f"{path} holds {_advice(path, file, page)}")
        _check_bomb(file, page)
        yield file, page


def _bits(page: tifffile.TiffPage) -> int:
    """Return the number of bits per stored sample, 1 to 16."""
    bits = page.bitspersample
    return int(bits if isinstance(bits, int) else max(bits))


def _orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(ORIENTATION)
    value = 1 if tag is None else tag.value
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def _stacked(file: tifffile.TiffFile, page: tifffile.TiffPage) -> int:
    """Return the number of frames stored behind one page, which ImageJ and tifffile record in the description."""
    images = 1
    if page.is_imagej:
        images = int((file.imagej_metadata or {}).get("images", 1))
    elif page.is_shaped:
        shape = json.loads(page.description).get("shape", []) if page.description.startswith("{") else []
        images = math.prod(map(int, shape)) // max(1, page.size) if shape else 1
    return images


def _check_channels(path: Path, page: tifffile.TiffPage) -> None:
    if int(page.photometric) not in (WHITE, BLACK, RGB, PALETTE, CMYK, YCBCR):
        raise InputError(f"{path} is a TIFF with photometric {page.photometric!s}, not gray: convert it to gray")


def _check_data(path: Path, page: tifffile.TiffPage) -> None:
    """Check that all strips or tiles are present."""
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if len(ends) < math.prod(page.chunked) or not all(page.databytecounts):
        raise ValueError("a part of its pixels is missing")
    if max(ends) > path.stat().st_size:
        raise ValueError("its end is missing")
    stored = page.imagewidth * page.imagelength * page.samplesperpixel * _bits(page) // 8
    if page.compression == 1 and int(page.photometric) != YCBCR and sum(page.databytecounts) < stored:
        raise ValueError("a part of its pixels is missing")


def _check_bomb(file: tifffile.TiffFile, page: tifffile.TiffPage) -> None:
    """Check that no strip unpacks to more than its pixels; tifffile itself unpacks without a limit."""
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
    """Return the stored values, (H, W) or (H, W, C) with all channels, neither rotated nor inverted."""
    if int(page.photometric) not in (CMYK, YCBCR):
        try:
            pixels = page.asarray()
        except Exception as error:
            # imagecodecs is missing, or this version of Python lacks a module that tifffile needs
            if "imagecodecs" not in str(error) and not isinstance(error, ImportError):
                raise
        else:
            pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
            planar = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3
            return np.moveaxis(pixels, 0, -1) if planar else pixels
    return _by_pillow(path, file, page)


def _by_pillow(path: Path, file: tifffile.TiffFile, page: tifffile.TiffPage) -> np.ndarray:
    """Return the same as `_pixels` for compressions that tifffile does not support."""
    bits = _bits(page)
    data = bytearray(path.read_bytes())
    # Pillow would rotate the image, and invert some images whose lowest value is white: these two tags are reset.
    for code, value in ((ORIENTATION, 1), (PHOTOMETRIC, BLACK if page.photometric == WHITE else None)):
        if value is not None and (tag := page.tags.get(code)) is not None:
            size = struct.calcsize(file.byteorder + {3: "H", 4: "I"}[int(tag.dtype)])
            data[tag.valueoffset : tag.valueoffset + size] = value.to_bytes(
                size, "little" if file.byteorder == "<" else "big"
            )
    with _muted(), Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
        image.seek(page.index)
        if image.size != (page.imagewidth, page.imagelength):
            raise ValueError("its size is recorded in two different ways")
        if (bits > 8) != image.mode.startswith("I;16"):
            raise InputError(
                f"{path} holds {bits}-bit pixels in an unsupported form: write it without compression, for example by "
                f"'tiffcp -c none {shlex.quote(path.name)} OUT.tif', or pip install 'lit_thermal[radiometric]'"
            )
        if image.mode in ("L", "1", "LA", "P", "RGB", "RGBA") or image.mode.startswith("I;16"):
            pixels = np.array(image)
        else:
            pixels = decoded(image, palette=True).pixels
    if pixels.dtype == bool:
        return pixels
    # Pillow spreads gray levels of less than 8 bits over the 8-bit range.
    return pixels // (255 // (2**bits - 1)) if bits < 8 and page.photometric != PALETTE else pixels


@contextmanager
def _muted() -> Iterator[None]:
    """Silence libtiff, which Pillow uses and which reports damage directly to the file descriptor of standard error."""
    with _one_at_a_time, ExitStack() as stack:
        with suppress(OSError):  # there may be no standard error
            kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, kept)
            stack.callback(os.close, nowhere)
            stack.callback(os.dup2, kept, 2)
            os.dup2(nowhere, 2)
        yield


def _colours(table: np.ndarray) -> np.ndarray:
    """Convert a palette (3, n) uint16 to levels (n, 3) uint8; some programs write 8-bit levels into it."""
    table = np.asarray(table)
    return (table if table.max() < 256 else table >> 8).T.astype(np.uint8)


def _signed(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Convert signed counts to unsigned ones; negative counts raise an `InputError`."""
    if (least := int(pixels.min())) < 0:
        raise InputError(
            f"{path} holds int16 values down to {least}, not 8-bit or 16-bit counts: convert it to uint16, such as by "
            + _command(path, f"x + {-least}")
        )
    return pixels.astype(np.uint16)


def _advice(path: Path, file: tifffile.TiffFile, page: tifffile.TiffPage) -> str:
    """Describe the contents of a page with neither 8 nor 16 bits, and give a command that converts it to 16 bits."""
    kind = str(page.dtype)
    if page.dtype is None or page.dtype.kind not in "iuf":
        return f"pixels of type {kind}, not 8-bit or 16-bit counts: convert it to uint16"
    _check_bomb(file, page)
    pixels = _pixels(path, file, page)
    finite = pixels[np.isfinite(pixels)] if page.dtype.kind == "f" else pixels
    if lost := pixels.size - finite.size:
        kind += f" with {lost} pixels that are NaN or infinite"
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if page.dtype.kind != "f" and 0 <= low <= high < 2**16:
        formula = "x"
    elif page.dtype.kind == "f" and 0 <= low <= high < 655:
        formula = "x * 100"  # hundredths of a Kelvin, a common unit of cameras
    else:
        formula = f"(x - {low:.9g}) * {60000 / max(high - low, 1e-9):.9g}"
    fill = f"numpy.nan_to_num({formula})" if lost else formula
    return f"{kind}, not 8-bit or 16-bit counts: convert it to uint16, such as by {_command(path, fill)}"


def _command(path: Path, formula: str) -> str:
    code = (
        f"import numpy, tifffile; x = tifffile.imread({path.name!r}).astype(float); "
        f"tifffile.imwrite('OUT.tif', ({formula}).round().astype('uint16'))"
    )
    return f"python -c {shlex.quote(code)}" if '"' in code else f'python -c "{code}"'
