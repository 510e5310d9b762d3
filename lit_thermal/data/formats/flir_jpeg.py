"""Radiometric JPEGs of FLIR cameras: raw counts, constants of the camera and the visible photo beside the picture.

The package flyr joins the parts of the records and reads the camera's settings. The raw counts are decoded here, since
flyr decodes pixel by pixel and refuses files whose numbers have the other byte order. ExifTool's documentation of the
FLIR tags describes the format.
"""

import io
import logging
import math
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.object_settings import ObjectSettings
from lit_thermal.data.formats.optional_package import needed_for
from lit_thermal.data.formats.raster import check_size
from lit_thermal.data.formats.thermogram import Thermogram
from lit_thermal.errors import InputError, reading
from lit_thermal.plain_files import read_bytes

WHAT = "FLIR radiometric data"
_RAW, _PHOTO, _CAMERA, _PLACE = 1, 14, 32, 42
"""Numbers of the kinds of records."""
_MOST = 1024
"""Largest number of records in a file."""
_VERSION = 20
"""Place of the format's version, a small number, before those of the place and length of the list of records."""
_HEADER = 32
"""Length in bytes of the header of a record with an image."""
_STARTS = (b"FFF\0", b"AFF\0")
"""First bytes of the records."""
_PNG = b"\x89PNG"
_log = logging.getLogger(__name__)

Records = Mapping[int, bytes]


def read_flir(path: Path) -> Thermogram | None:
    """Read a JPEG of a FLIR camera; None if it holds no raw counts, such as a picture that was saved for display.

    Raises:
        InputError: the radiometric data are damaged, or the package flyr is missing.
    """
    with reading(path, WHAT, "it is truncated or damaged, replace or remove it"):
        records = _records(path)
        if _RAW not in records:
            return None
        counts = _raw(path, records[_RAW])
        radiometry, settings = _camera(path, records)
        photo, facts = _photo(path, records)
        return Thermogram(counts[None], radiometry, settings, photo, path=path, facts=facts)


def flir_size(path: Path) -> tuple[int, int] | None:
    """Return height and width of the raw counts of a JPEG of a FLIR camera; None if it holds none.

    Raises:
        InputError: same as in `read_flir`.
    """
    with reading(path, WHAT, "it is truncated or damaged, replace or remove it"):
        records = _records(path)
        return _size(path, records[_RAW])[:2] if _RAW in records else None


def _records(path: Path) -> Records:
    """Return the contents of all records by the number of their kind."""
    whole = read_bytes(path, WHAT)
    if not any(start in whole for start in _STARTS):
        return {}
    flyr = needed_for(path, WHAT, "flyr.records", "flyr")
    stream = flyr.extract_flir_app1(io.BytesIO(whole))
    data = stream.getvalue()
    if not data.startswith(_STARTS):
        raise ValueError("its records have no beginning")
    # read here, because flyr counts the entries from the file's beginning and so misses the last two
    order = ">" if data[_VERSION : _VERSION + 2] == b"\0\0" else "<"
    first, count = struct.unpack_from(order + "II", data, _VERSION + 4)
    found: dict[int, bytes] = {}
    for entry in range(min(count, _MOST)):
        kind, _, _, _, start, length = struct.unpack_from(order + "HHIIII", data, first + 32 * entry)
        if kind:
            found.setdefault(kind, data[start : start + length])
    return found


def _size(path: Path, record: bytes) -> tuple[int, int, str]:
    """Return height and width that the header of an image record gives, and its byte order, "<" or ">"."""
    if len(record) <= _HEADER:
        raise ValueError("its raw counts are missing")
    # the first number is 2 in the record's own byte order
    order = "<" if record[:2] == b"\2\0" else ">"
    width, height = np.frombuffer(record, f"{order}u2", 2, 2).tolist()
    check_size(path, height, width)
    return height, width, order


def _raw(path: Path, record: bytes) -> np.ndarray:
    """Decode raw counts, (H, W) uint16."""
    height, width, order = _size(path, record)
    if not record.startswith(_PNG, _HEADER):
        return np.frombuffer(record, f"{order}u2", height * width, _HEADER).reshape(height, width).astype(np.uint16)
    with Image.open(io.BytesIO(record[_HEADER:]), formats=["PNG"]) as image:
        if image.size != (width, height):
            raise ValueError(f"its raw counts are {image.width}x{image.height}, but declared as {width}x{height}")
        counts = np.asarray(image).astype(np.uint16)
    # a PNG stores the high byte first; the camera put its own order into it
    return counts.byteswap() if order == "<" else counts


def _camera(path: Path, records: Records) -> tuple[Radiometry, ObjectSettings | None]:
    """Return the camera's constants, and its settings if they are plausible."""
    record = records[_CAMERA]
    if record[:2] != b"\2\0":  # flyr reads numbers with the low byte first
        record = np.frombuffer(record[: len(record) // 4 * 4], np.uint32).byteswap().tobytes()
    thermal = needed_for(path, WHAT, "flyr.thermal", "flyr")
    known = thermal.parse_camera_info(io.BytesIO(record), (0, _CAMERA, 0, len(record)))
    constants = tuple(float(known[f"planck_{letter}"]) for letter in ("r1", "r2", "b", "f", "o"))
    if not all(map(math.isfinite, constants)) or min(constants[:3]) <= 0:
        raise InputError(f"{path} has constants of the camera that give no temperature: replace or remove it")
    settings = ObjectSettings(
        emissivity=known["emissivity"],
        distance=known["object_distance"],
        humidity=known["relative_humidity"],
        reflected=known["reflected_apparent_temperature"],
        air=known["atmospheric_temperature"],
        window=known["ir_window_temperature"],
        window_transmission=known["ir_window_transmission"],
        atmosphere=(
            known["atmospheric_trans_alpha1"],
            known["atmospheric_trans_alpha2"],
            known["atmospheric_trans_beta1"],
            known["atmospheric_trans_beta2"],
            known["atmospheric_trans_x"],
        ),
    )
    usable = settings.plausible()
    return Radiometry(0.0, 1.0, 16, "planck", constants, "apparent"), settings if usable else None


def _photo(path: Path, records: Records) -> tuple[np.ndarray | None, dict[str, Any]]:
    """Return the visible photo (h, w, 3), if there is an intact one, and its placement on the thermal image."""
    facts: dict[str, Any] = {}
    if _PLACE in records:
        with suppress(Exception):
            parse = needed_for(path, WHAT, "flyr.picture_in_picture", "flyr").parse_pip_info
            place = parse(io.BytesIO(records[_PLACE]), (0, _PLACE, 0, 0))
            facts["photo_placement"] = {
                "width_of_photo_over_thermal_view": place.real_to_ir,
                "right": place.offset_x,
                "down": place.offset_y,
            }
    if _PHOTO not in records:
        return None, facts
    try:
        with Image.open(io.BytesIO(records[_PHOTO][_HEADER:]), formats=["JPEG", "PNG"]) as image:
            check_size(path, image.height, image.width)
            return np.array(image.convert("RGB")), facts
    except InputError:
        raise
    except Exception as error:
        _log.warning("the visible photo inside %s cannot be read and is left out: %s", path, error)
        return None, facts
