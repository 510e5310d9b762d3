"""Readers of images: each format in the forms that its decoders treat differently."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from fuzz_harness import Reader
from PIL import Image

from lit_thermal.data.formats.class_masks import read_mask
from lit_thermal.data.formats.frames import read_frame, read_header
from lit_thermal.data.formats.guides import read_guide


def _frame(path: Path) -> None:
    """Read the header and the pixels, which must agree."""
    height, width, bits = read_header(path)
    pixels = read_frame(path, tolerance=255)
    assert pixels.shape == (height, width) and pixels.dtype.itemsize * 8 == bits, (pixels.shape, height, width, bits)


def _guide(path: Path) -> None:
    assert read_guide(path, (12, 16)).shape == (3, 12, 16)


def _mask(path: Path) -> None:
    read_mask(path, 14)


def _gray(bits: int = 8) -> np.ndarray:
    y, x = np.mgrid[:20, :24]
    return ((y * x + 7 * y) * (1 if bits == 8 else 120)).astype(np.uint8 if bits == 8 else np.uint16)


def _saved(*images: tuple[Image.Image, dict[str, object]], form: str) -> Callable[[Path], list[bytes]]:
    def make(folder: Path) -> list[bytes]:
        found = []
        for image, options in images:
            buffer = io.BytesIO()
            image.save(buffer, form, **options)
            found.append(buffer.getvalue())
        return found

    return make


def _tiffs(*all_options: dict[str, object]) -> Callable[[Path], list[bytes]]:
    def make(folder: Path) -> list[bytes]:
        found = []
        for options in all_options:
            options = {"data": _gray(16), **options}
            buffer = io.BytesIO()
            tifffile.imwrite(buffer, **options)  # type: ignore[arg-type]
            found.append(buffer.getvalue())
        return found

    return make


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _deep_png(folder: Path) -> list[bytes]:
    """PNGs of 16 bit in colour and with alpha."""
    found = []
    for colour, channels in ((2, 3), (4, 2), (6, 4)):
        image = np.repeat(_gray(16)[..., None], channels, -1)
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in image)
        header = struct.pack(">IIBBBBB", 24, 20, 16, colour, 0, 0, 0)
        parts = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
        found.append(b"\x89PNG\r\n\x1a\n" + parts)
    return found


def _resealed(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """Read a PNG whose check sums are right again, so that the damage reaches the decoders."""

    def reader(path: Path) -> None:
        data, place = bytearray(path.read_bytes()), 8
        while place + 12 <= len(data):
            length = int.from_bytes(data[place : place + 4], "big")
            end = place + 8 + length
            if end + 4 > len(data):
                break
            data[end : end + 4] = zlib.crc32(data[place + 4 : end]).to_bytes(4, "big")
            place = end + 4
        path.write_bytes(data)
        read(path)

    return reader


_EXIF = Image.Exif()
_EXIF[274] = 6
_GRAY, _DEEP = Image.fromarray(_gray()), Image.fromarray(_gray(16))
_COLOUR = Image.fromarray(np.stack([_gray(), _gray()[::-1], _gray()[:, ::-1]], -1))
_PALETTE = _GRAY.convert("P")
_BILEVEL = _GRAY.convert("1")

_PNG_8 = _saved(
    (_GRAY, {"exif": _EXIF}),
    (_COLOUR, {}),
    (_PALETTE, {}),
    (_BILEVEL, {}),
    (_GRAY.convert("LA"), {}),
    (_COLOUR.convert("RGBA"), {}),
    (_GRAY, {"transparency": 3}),
    form="PNG",
)
_PNG_16 = _saved((_DEEP, {}), (_DEEP, {"exif": _EXIF}), form="PNG")

READERS = [
    Reader("png_8", ".png", _PNG_8, _frame),
    Reader("png_8_resealed", ".png", _PNG_8, _resealed(_frame)),
    Reader("png_16", ".png", _PNG_16, _frame),
    Reader("png_16_resealed", ".png", _PNG_16, _resealed(_frame)),
    Reader("png_16_colour", ".png", _deep_png, _frame),
    Reader("png_16_colour_resealed", ".png", _deep_png, _resealed(_frame)),
    Reader(
        "jpeg",
        ".jpg",
        _saved((_GRAY, {"exif": _EXIF}), (_COLOUR, {}), (_GRAY, {"progressive": True}), form="JPEG"),
        _frame,
    ),
    Reader("bmp", ".bmp", _saved((_GRAY, {}), (_COLOUR, {}), (_PALETTE, {}), (_BILEVEL, {}), form="BMP"), _frame),
    Reader(
        "tiff_raw",
        ".tif",
        _tiffs(
            {},
            {"data": _gray(), "photometric": "miniswhite", "extratags": [(274, "H", 1, 6, True)]},
            {"byteorder": ">"},
            {"bigtiff": True},
            {"data": np.repeat(_gray()[..., None], 3, -1), "photometric": "rgb"},
            {"data": np.repeat(_gray()[None], 3, 0), "photometric": "rgb", "planarconfig": "separate"},
            {"data": _gray() > 100},
            {"imagej": True},
            {"data": (_gray(16) % 30000).astype(np.int16)},
        ),
        _frame,
    ),
    Reader(
        "tiff_compressed",
        ".tif",
        _tiffs({"compression": "zlib"}, {"compression": "zlib", "predictor": True}, {"compression": "lzma"}),
        _frame,
    ),
    Reader("tiff_tiled", ".tif", _tiffs({"tile": (16, 16)}, {"tile": (16, 16), "compression": "zlib"}), _frame),
    Reader(
        "tiff_float",
        ".tif",
        _tiffs({"data": _gray().astype(np.float32)}, {"data": _gray().astype(np.float64), "compression": "zlib"}),
        _frame,
    ),
    Reader(
        "tiff_libtiff",
        ".tif",
        _saved(
            (_GRAY, {"compression": "tiff_lzw", "tiffinfo": {274: 8}}),
            (_DEEP, {"compression": "tiff_lzw"}),
            (_DEEP, {"compression": "packbits"}),
            (_COLOUR, {"compression": "jpeg"}),
            (_PALETTE, {"compression": "tiff_lzw"}),
            (_BILEVEL, {"compression": "group4"}),
            form="TIFF",
        ),
        _frame,
    ),
    Reader("guide", ".png", _PNG_8, _resealed(_guide)),
    Reader("class_mask", ".png", _saved((_PALETTE, {}), (_GRAY, {}), form="PNG"), _resealed(_mask)),
]
