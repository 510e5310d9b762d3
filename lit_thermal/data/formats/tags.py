"""Metadata of image files (resolution, text, EXIF and GPS), which are copied to restored images.

A PNG keeps its chunks and a TIFF its tags. A JPEG becomes a PNG or TIFF, which are lossless, with the JPEG's EXIF data.
"""

import logging
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from lit_thermal.errors import InputError, reading
from lit_thermal.files import is_plain, same_name

KEEPS_FORMAT = (".png", ".tif", ".tiff", ".bmp")
"""Suffixes of formats that a restored image keeps; other formats become PNG."""

_TIFF, _JPEG = (".tif", ".tiff"), (".jpg", ".jpeg")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PLAIN_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"cHRM", b"sRGB", b"tIME")
_GRAY_CHUNKS = (b"iCCP", b"sBIT")
"""Chunks that describe the channels of the source, valid for the gray restored image only if the source is gray."""
_XMP = b"XML:com.adobe.xmp"
_TEXT_LIMIT = 1 << 24
_ORIENTATION, _EXIF, _GPS = 274, 34665, 34853
_MAKER_NOTE = 37500
_LENGTHS = (282, 283, 41486, 41487)
"""Tags of pixels per unit of length, in print and on the sensor, which are scaled with the image."""
_SIDES = {256: 1, 257: 0, 40962: 1, 40963: 0}
"""Tags of the width (index 1) and the height (index 0) in pixels."""
# Tags of the pixel layout, thumbnail and colours of the source, which do not apply to the restored image.
_STRUCTURE = {254, 255, *range(256, 260), 262, 263, *range(264, 267), 273, 274, *range(277, 282), 284}
_STRUCTURE |= {*range(288, 294), 296, 301, 317, *range(320, 326), 330, *range(332, 344), 347, *range(512, 522)}
_STRUCTURE |= {*range(529, 533), 34665, 34853, 40965, 50838, 50839}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tags:
    """Metadata that a restored image keeps from its source.

    Attributes:
        chunks: type and data of each PNG chunk.
        directory: mapping from TIFF tags to their type and value; the value of a subdirectory (EXIF, GPS) is a dict.
    """

    chunks: tuple[tuple[bytes, bytes], ...] = ()
    directory: dict[int, tuple[int, Any]] = field(default_factory=dict)


def restored_name(name: str, source: Path | None) -> str:
    """Return the file name of a restored image: the name of its source, with the same format if that is lossless.

    Args:
        name: name of the image in its data set.
        source: file that the image was read from; if None, the restored image is a PNG.
    """
    if source is None:
        return f"{name}.png"
    stem = source.stem if same_name(source.stem) == same_name(name) else name
    return stem + (source.suffix if source.suffix.lower() in KEEPS_FORMAT and not _is_other(source) else ".png")


def _is_other(source: Path) -> bool:
    """Return whether a file with a BMP suffix has another format, perhaps with 16 bits, which BMP does not allow."""
    if source.suffix.lower() != ".bmp" or not is_plain(source):
        return False
    with reading(source, "an image"), source.open("rb") as file:
        return file.read(2) != b"BM"


def read_tags(source: Path, size: tuple[int, int], suffix: str = ".png") -> Tags:
    """Read the metadata of a file for its restored image; damaged metadata give a warning in the log and are left out.

    The restored image is upright, so its orientation is 1. Resolutions, and the pixel size of a GeoTIFF, are scaled
    by the factor of the sides.

    Args:
        source: PNG, TIFF, JPEG or BMP file.
        size: height and width of the restored image.
        suffix: suffix of the restored file if the source is a JPEG; other sources keep their format.
    """
    kind = source.suffix.lower()
    try:
        with reading(source, "an image with tags"):
            if kind in _TIFF or (kind in _JPEG and suffix in _TIFF):
                tags = Tags(directory=_tiff_tags(source, size) if kind in _TIFF else _jpeg_directory(source, size))
                # a damaged value may not be writable as the type of its tag
                encode_tiff(np.zeros((1, 1), np.uint8), tags)
                return tags
            if kind == ".png":
                return Tags(tuple(_png_tags(source, size)))
            if kind in _JPEG:
                return Tags(tuple(_jpeg_tags(source, size)))
    except InputError as error:
        _log.warning("the tags of %s are not copied to the restored image: %s", source.name, error)
    return Tags()


def encode_png(counts: np.ndarray, tags: Tags) -> bytes:
    """Encode counts (H, W), uint8 or uint16, as a gray PNG with the chunks of `tags`."""
    buffer = BytesIO()
    # On large frames level 3 is three times as fast as the default, and files are only about 5 % larger.
    Image.fromarray(counts).save(buffer, format="PNG", compress_level=3)
    data = buffer.getvalue()
    header = len(_PNG_START) + 25
    chunks = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in tags.chunks
    )
    return data[:header] + chunks + data[header:]


def encode_tiff(counts: np.ndarray, tags: Tags) -> bytes:
    """Encode pages (H, W) or (T, H, W), uint8, uint16 or float32, as a gray TIFF with the tags of `tags`."""
    directory = ImageFileDirectory_v2()
    for tag, (kind, value) in tags.directory.items():
        directory.tagtype[tag] = kind
        directory[tag] = value
    buffer = BytesIO()
    first, *others = [Image.fromarray(page) for page in counts.reshape(-1, *counts.shape[-2:])]
    first.save(buffer, format="TIFF", tiffinfo=directory, save_all=bool(others), append_images=others)
    return buffer.getvalue()


def _enlarged(sides: tuple[int, int], size: tuple[int, int]) -> int:
    """Return the scale factor of the restored image, whose sides may be cropped to multiples of it."""
    return max(1, round(max(size) / max(sides)))


def _png_tags(source: Path, size: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    exif = None
    ratio, gray = 1, False
    for kind, data in _png_chunks(source):
        if kind == b"IHDR":
            width, height = struct.unpack(">II", data[:8])
            ratio, gray = _enlarged((height, width), size), data[9] in (0, 4)
        elif kind == b"eXIf":
            exif = data
        elif kind == b"pHYs":
            x, y, unit = struct.unpack(">IIB", data)
            # not swapped for a rotated image, because both are nearly always equal
            yield kind, struct.pack(">IIB", *(min(round(n * ratio), 2**32 - 1) for n in (x, y)), unit)
        elif kind == b"zTXt" and data.startswith((b"Raw profile type exif\0", b"Raw profile type APP1\0")):
            exif = exif or _raw_profile(data)
        elif kind == b"iTXt" and data.startswith(_XMP + b"\0"):
            yield kind, _xmp_chunk(_xmp_text(data))
        elif kind in _PLAIN_CHUNKS or (gray and kind in _GRAY_CHUNKS):
            # with alpha, sBIT holds two channels, of which the restored image has the first
            yield kind, data[:1] if kind == b"sBIT" else data
    if exif is not None:
        yield b"eXIf", upright_exif(exif, ratio, size)


def _png_chunks(source: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and data of every intact chunk except the pixels."""
    with source.open("rb") as file:
        if file.read(8) != _PNG_START:
            raise ValueError("it is not a PNG")
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IDAT" or length > _TEXT_LIMIT:
                file.seek(length + 4, 1)
                continue
            data, check = file.read(length), file.read(4)
            if check == struct.pack(">I", zlib.crc32(kind + data)):
                yield kind, data
            if kind == b"IEND":
                return


def _jpeg_tags(source: Path, size: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    with Image.open(source) as image:
        info, sides, gray = image.info, image.size, image.mode == "L"
    ratio = _enlarged(sides, size)
    if "jfif_density" in info:
        per_metre = {1: Fraction(10000, 254), 2: Fraction(100)}.get(info.get("jfif_unit", 0), Fraction(1))
        x, y = (min(round(n * per_metre * ratio), 2**32 - 1) for n in info["jfif_density"])
        yield b"pHYs", struct.pack(">IIB", x, y, int(info.get("jfif_unit", 0) in (1, 2)))
    if gray and "icc_profile" in info:
        yield b"iCCP", b"ICC Profile\0\0" + zlib.compress(info["icc_profile"])
    if info.get("comment"):
        yield b"tEXt", b"Comment\0" + info["comment"].replace(b"\0", b" ")
    if info.get("xmp"):
        yield b"iTXt", _xmp_chunk(info["xmp"])
    if info.get("exif"):
        yield b"eXIf", upright_exif(info["exif"], ratio, size)


def upright_exif(exif: bytes, ratio: int, size: tuple[int, int]) -> bytes:
    """Return EXIF data with orientation, size and resolution of the restored image; all else, like maker notes, stays.

    Args:
        exif: EXIF data of a JPEG or a PNG.
        ratio: scale factor of the sides.
        size: height and width of the restored image.

    Raises:
        ValueError, struct.error: the EXIF data are damaged.
    """
    data = bytearray(exif.removeprefix(b"Exif\0\0"))
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None:
        raise ValueError("its EXIF is damaged")
    first = struct.unpack_from(order + "I", data, 4)[0]
    for where in (first, *_pointers(data, order, first)):
        for at, tag, kind, count in _entries(data, order, where):
            if tag == _ORIENTATION:
                struct.pack_into(order + "HIHH", data, at + 2, 3, 1, 1, 0)
            elif tag in _SIDES:
                struct.pack_into(order + "HII", data, at + 2, 4, 1, size[_SIDES[tag]])
            elif tag in _LENGTHS and kind == 5 and count == 1:
                place = struct.unpack_from(order + "I", data, at + 8)[0]
                above, below = struct.unpack_from(order + "II", data, place)
                if below:
                    value = (Fraction(above, below) * ratio).limit_denominator(10000)
                    struct.pack_into(order + "II", data, place, min(value.numerator, 2**32 - 1), value.denominator)
    # remove the link to the thumbnail, which shows the source
    after = first + 2 + 12 * struct.unpack_from(order + "H", data, first)[0]
    if after + 4 <= len(data):
        struct.pack_into(order + "I", data, after, 0)
    return bytes(data)


def _entries(data: bytes | bytearray, order: str, where: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the offset, tag, type and count of each entry of a directory."""
    for index in range(struct.unpack_from(order + "H", data, where)[0]):
        at = where + 2 + 12 * index
        yield at, *struct.unpack_from(order + "HHI", data, at)


def _pointers(data: bytes | bytearray, order: str, where: int) -> list[int]:
    return [
        struct.unpack_from(order + "I", data, at + 8)[0] for at, tag, *_ in _entries(data, order, where) if tag == _EXIF
    ]


def _raw_profile(data: bytes) -> bytes | None:
    """Return EXIF data from ImageMagick's text chunk, used before PNG had an EXIF chunk."""
    text = zlib.decompressobj().decompress(data[data.index(b"\0") + 2 :], _TEXT_LIMIT)
    try:
        exif = bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return None
    return exif if exif.startswith((b"Exif\0\0", b"II", b"MM")) else None


def _xmp_text(data: bytes) -> bytes:
    """Return the text of an international text chunk."""
    rest = data[len(_XMP) + 1 :]
    packed, rest = rest[0], rest[2:]
    text = rest.split(b"\0", 2)[2]
    return zlib.decompressobj().decompress(text, _TEXT_LIMIT) if packed else text


def _xmp_chunk(text: bytes) -> bytes:
    return _XMP + b"\0\0\0\0\0" + _upright_xmp(text)


def _upright_xmp(text: bytes) -> bytes:
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[0-9]", rb"\g<1>1", text)


def _tiff_tags(source: Path, size: tuple[int, int]) -> dict[int, tuple[int, Any]]:
    with source.open("rb") as file:
        first = _directory(file, None, None)
        return _copied(file, size, _enlarged((int(first[257]), int(first[256])), size))


def _jpeg_directory(source: Path, size: tuple[int, int]) -> dict[int, tuple[int, Any]]:
    """Return the EXIF data of a JPEG, which have the form of a TIFF, as tags of a TIFF."""
    with Image.open(source) as image:
        exif, sides, xmp = image.info.get("exif", b""), (image.height, image.width), image.info.get("xmp")
    found: dict[int, tuple[int, Any]] = {}
    if exif:
        found = _copied(BytesIO(exif.removeprefix(b"Exif\0\0")), size, _enlarged(sides, size))
        found.get(_EXIF, (4, {}))[1].pop(_MAKER_NOTE, None)  # its offsets are valid only inside the JPEG
    return found | ({700: (1, _upright_xmp(xmp))} if xmp else {})


def _copied(file: Any, size: tuple[int, int], ratio: int) -> dict[int, tuple[int, Any]]:
    """Return the tags of a TIFF that its restored image keeps, corrected for the image's size."""
    first = _directory(file, None, None)
    gray = first.get(262, 1) in (0, 1)
    found = {tag: _value(first, tag) for tag in first if tag not in _STRUCTURE}
    for tag in (_EXIF, _GPS):
        if tag in first:
            part = _directory(file, int(first[tag]), tag)
            values = {key: part[key] for key in part if key != 40965}
            values |= {key: size[side] for key, side in _SIDES.items() if key in values}
            values |= {key: _scaled(values[key], ratio) for key in _LENGTHS if key in values}
            found[tag] = (4, values)
    for key in found.keys() & set(_LENGTHS):
        kind, value = found[key]
        found[key] = (5 if kind in (3, 4) else kind, _scaled(value, ratio))  # some programs write integers
    if 296 in first and 282 in found:
        found[296] = (3, first[296])
    found[_ORIENTATION] = (3, 1)
    if not gray:
        found.pop(34675, None)
    _describe(found, size)
    _place(found, ratio)
    return found


def _directory(file: Any, offset: int | None, group: int | None) -> ImageFileDirectory_v2:
    """Read the directory of a TIFF at an offset, or the first one if no offset is given."""
    file.seek(0)
    head = file.read(8)
    if 43 in head[2:4]:
        head += file.read(8)
    directory = ImageFileDirectory_v2(head, group=group)
    file.seek(directory.next if offset is None else offset)
    directory.load(file)
    return directory


def _value(directory: ImageFileDirectory_v2, tag: int) -> tuple[int, Any]:
    kind, value = directory.tagtype[tag], directory[tag]
    if kind == 2 and isinstance(value, str) and not value.isascii():
        value = value.encode("latin-1", "replace")  # Latin-1, as it was read; Pillow would write question marks
    if tag == 700 and isinstance(value, bytes):
        value = _upright_xmp(value)
    return kind, value


def _scaled(value: Any, ratio: int) -> Any:
    number = float(value)
    # an undefined resolution (0/0) stays undefined
    return value if number != number else float(number * ratio)


def _describe(found: dict[int, tuple[int, Any]], size: tuple[int, int]) -> None:
    """Correct the image size in descriptions of tifffile and OME, which programs read."""
    kind, text = found.get(270, (2, ""))
    if not isinstance(text, str):
        return
    if text.startswith('{"shape":'):
        del found[270]
    elif "<OME" in text:
        for side, length in (("Y", size[0]), ("X", size[1])):
            text = re.sub(rf'(\sSize{side}=")\d+"', rf'\g<1>{length}"', text)
        found[270] = (kind, text)


def _place(found: dict[int, tuple[int, Any]], ratio: int) -> None:
    """Correct the georeference of a GeoTIFF for the smaller pixels of the restored image."""
    if 33550 in found:
        kind, (x, y, *rest) = found[33550]
        found[33550] = (kind, (x / ratio, y / ratio, *rest))
    if 33922 in found:
        kind, values = found[33922]
        found[33922] = (kind, tuple(v * ratio if i % 6 < 2 else v for i, v in enumerate(values)))
    if 34264 in found:
        kind, values = found[34264]
        found[34264] = (kind, tuple(v / ratio if i % 4 < 2 else v for i, v in enumerate(values)))
