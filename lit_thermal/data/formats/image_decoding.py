"""Decoding of 8-bit and 16-bit PNG, JPEG, BMP and TIFF files, recognised by their first bytes, to upright arrays.

Image files are opened only here. `lit_thermal.data.formats.frames` makes thermal frames of the decoded images.
"""

import io
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from PIL import Image

from lit_thermal.data.formats.raster import ORIENTATION, Header, Raster, check_size, decoded, upright
from lit_thermal.data.formats.tiff_file import read_tiff, tiff_header
from lit_thermal.errors import InputError, reading
from lit_thermal.files import is_plain

ADVICE = "it is truncated or damaged, replace or remove it"

_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8": "jpeg", b"BM": "bmp"}
_SIGNATURES |= {start: "tiff" for start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")}


def raster_header(path: Path) -> Header:
    """Read the header of an image file without decoding it.

    Raises:
        InputError: the file is missing, not a regular file, truncated, too large, or not an 8-bit or 16-bit image.
    """
    with reading(path, "an image", ADVICE):
        kind = _kind(path)
        if kind == "tiff":
            return tiff_header(path)
        if kind == "png":
            return _png_header(path)[0]
        with Image.open(path, formats=_formats(kind)) as image:
            return _header(path, image)


def read_raster(path: Path, palette: bool = True, page: int | None = None) -> Raster:
    """Decode an image file.

    Args:
        path: path of the file.
        palette: whether to return the palette's colours for an image with a palette, instead of the indices.
        page: number of the page of a TIFF; None means the only page.

    Raises:
        InputError: same as in `raster_header`, or the file cannot be decoded.
    """
    with reading(path, "an image", ADVICE):
        kind = _kind(path)
        if kind == "tiff":
            return read_tiff(path, palette, page)
        if kind != "png":
            with Image.open(path, formats=_formats(kind)) as image:
                header = _header(path, image)
                raster = decoded(image, palette)
                return Raster(
                    upright(raster.pixels, header.orientation), raster.transparent, kind == "jpeg", _radiometric(image)
                )
        header, colour = _png_header(path)
        if header.bits == 16 and colour in (2, 4, 6):
            raster = _deep_png(path, alpha=colour != 2)
        else:
            with Image.open(path, formats=["PNG"]) as image:
                raster = decoded(image, palette)
        return Raster(upright(raster.pixels, header.orientation), raster.transparent)


def image_kind(path: Path) -> str:
    """Return the format of an image file by its first bytes: "png", "jpeg", "bmp" or "tiff".

    Raises:
        InputError: the file is missing, not a regular file, empty, or of another format.
    """
    with reading(path, "an image", ADVICE):
        return _kind(path)


def radiometric_maker(path: Path) -> str:
    """Return the camera maker of a JPEG with radiometric data, without decoding it; else an empty text.

    Raises:
        InputError: the file cannot be read as a JPEG.
    """
    with reading(path, "an image", ADVICE), Image.open(path, formats=_formats("jpeg")) as image:
        return _radiometric(image)


def _kind(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path} is a link to a file that does not exist: remove it")
    if path.exists() and not path.is_dir() and not is_plain(path):
        raise InputError(f"{path} is a pipe, a socket or a device where an image is expected: remove it")
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise InputError(f"{path} is empty: replace or remove it")
    kind = next((kind for signature, kind in _SIGNATURES.items() if start.startswith(signature)), None)
    if kind is None:
        raise ValueError("it is neither a PNG, a JPEG, a BMP nor a TIFF")
    return kind


def _formats(kind: str) -> list[str]:
    """Return the only Pillow formats that may open the file; some of the others start external programs."""
    return {"jpeg": ["JPEG", "MPO"], "bmp": ["BMP"]}[kind]


def _header(path: Path, image: Image.Image) -> Header:
    check_size(path, image.height, image.width)
    orientation = _orientation(image.info.get("exif", b""))
    height, width = (image.width, image.height) if orientation >= 5 else (image.height, image.width)
    return Header(height, width, 16 if image.mode.startswith("I") else 8, orientation)


def _orientation(exif: bytes) -> int:
    """Return the orientation in EXIF data, or 1 if they are damaged, because viewers show such images too."""
    tags = Image.Exif()
    with suppress(Exception):
        tags.load(exif)
        value = tags.get(ORIENTATION, 1)
        return value if isinstance(value, int) and 1 <= value <= 8 else 1
    return 1


def _png_header(path: Path) -> tuple[Header, int]:
    """Return the header of a complete PNG, and its colour type."""
    with path.open("rb") as file:
        head = file.read(33)
        if len(head) < 33 or head[8:16] != b"\0\0\0\rIHDR":
            raise ValueError("its header is missing")
        width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
        check_size(path, height, width)
        exif = _chunk(file, b"eXIf")
    orientation = _orientation(exif)
    if orientation >= 5:
        height, width = width, height
    return Header(height, width, max(depth, 8), orientation), colour


def _chunk(file: BinaryIO, wanted: bytes) -> bytes:
    """Return the contents of a PNG chunk, empty if there is none; all chunks to the last must be present."""
    content = b""
    while True:
        start = file.read(8)
        if len(start) < 8:
            raise ValueError("its end is missing")
        length, kind = struct.unpack(">I4s", start)
        if kind == wanted and not content:
            content = file.read(min(length, 1 << 16))
            length -= len(content)
        file.seek(length + 4, os.SEEK_CUR)
        if kind == b"IEND":
            return content


def _deep_png(path: Path, alpha: bool) -> Raster:
    """Decode a 16-bit PNG in colour or with alpha by FFmpeg, because Pillow silently reduces it to 8 bits."""
    data = path.read_bytes()
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        image.verify()  # FFmpeg does not verify the checksums
    # Opened from memory, because FFmpeg interprets some characters of a file name as a pattern or protocol.
    with av.open(io.BytesIO(data), format="png_pipe") as container:
        frame = next(container.decode(video=0))
        if frame.is_corrupt:
            raise ValueError("its pixels are damaged")
        channels = {"ya16be": 2, "rgb48be": 3, "rgba64be": 4}[frame.format.name]
        plane = frame.planes[0]
        # The raw plane is used, because FFmpeg's conversion of ya16 to gray16 sometimes loses a row.
        rows = np.frombuffer(plane, ">u2").reshape(-1, plane.line_size // 2)[: frame.height, : frame.width * channels]
        pixels = rows.astype(np.uint16).reshape(frame.height, frame.width, channels)
    clear = alpha and bool((pixels[..., -1] < 65535).any())
    return Raster(np.ascontiguousarray(pixels[..., 0] if channels == 2 else pixels[..., :3]), clear)


def _radiometric(image: Image.Image) -> str:
    """Return the camera maker of a JPEG with radiometric data, recognised by its segments, or an empty text."""
    segments = getattr(image, "applist", [])
    if any(name == "APP1" and data.startswith(b"FLIR\0") for name, data in segments):
        return "FLIR"
    if any(name == "APP2" and data[4:10] == b"IJPEG\0" for name, data in segments):
        return "InfiRay"
    parameters = any(name == "APP4" and data.startswith(b"\xaa\x55") for name, data in segments)
    tags = Image.Exif()
    with suppress(Exception):
        tags.load(image.info.get("exif", b""))
    made = str(tags.get(271, "")).strip("\0 ").upper().startswith("DJI")
    if parameters or (made and any(name == "APP3" for name, _ in segments)):
        return "DJI"
    return ""
