"""Small files of thermal cameras for tests, written here byte by byte as the cameras write them."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

CONSTANTS = {"R1": 16000.0, "R2": 0.0125, "B": 1430.0, "F": 1.5, "O": -7000}
SETTINGS = (0.92, 4.0, 295.5, 291.25, 290.0, 0.97)
"""Emissivity, distance, reflected, air and window temperature, and transmission of the window."""
HUMIDITY = 0.4
ATMOSPHERE = (0.0066, 0.0126, -0.0023, -0.0067, 1.9)


def scene(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    """Return smooth counts (H, W) uint16 of some 280 to 300 K."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).integers(0, 5, (height, width))
    return (15200 + 300 * np.sin(x / 5) + 200 * np.cos(y / 4) + noise).astype(np.uint16)


def camera_record(order: str) -> bytes:
    """Return the record of a FLIR camera's constants and settings."""
    record = bytearray(900)

    def put(place: int, form: str, *values: float) -> None:
        struct.pack_into(order + form, record, place, *values)

    put(0, "H", 2)
    emissivity, distance, reflected, air, window, transmission = SETTINGS
    put(32, "6f", emissivity, distance, reflected, air, window, transmission)
    put(60, "f", HUMIDITY)
    put(88, "3f", CONSTANTS["R1"], CONSTANTS["B"], CONSTANTS["F"])
    put(112, "5f", *ATMOSPHERE)
    put(776, "i", CONSTANTS["O"])
    put(780, "f", CONSTANTS["R2"])
    return bytes(record)


def flir_jpeg(
    path: Path,
    counts: np.ndarray,
    *,
    order: str = "<",
    png: bool = True,
    photo: np.ndarray | None = None,
    raw: bool = True,
    exif: Image.Exif | None = None,
) -> Path:
    """Write a radiometric JPEG whose picture is a colour map of the counts, at twice their size.

    Args:
        path: file to write.
        counts: raw counts.
        order: byte order of the records.
        png: whether the raw counts are stored as a PNG, otherwise as plain numbers.
        photo: visible photo to embed.
        raw: whether there are raw counts at all.
        exif: EXIF data of the picture.
    """
    height, width = counts.shape
    header = struct.pack(order + "HHH", 2, width, height).ljust(32, b"\0")
    body = counts.astype(f"{order}u2").tobytes()
    if png:
        buffer = io.BytesIO()
        stored = counts.byteswap() if order == "<" else counts
        Image.fromarray(stored).save(buffer, format="PNG")
        body = buffer.getvalue()
    records = {32: camera_record(order)} | ({1: header + body} if raw else {})
    if photo is not None:
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, format="PNG")
        size = struct.pack("<HHH", 2, photo.shape[1], photo.shape[0]).ljust(32, b"\0")
        records[14] = size + buffer.getvalue()
        records[42] = struct.pack("<f6h", 1.5, -3, 7, 0, width, 0, height)
    start = 64 + 32 * len(records)
    listed, bodies = b"", b""
    for kind, record in records.items():
        place = start + len(bodies)
        listed += struct.pack(">HHIIII", kind, 3, 100, 1, place, len(record)).ljust(32, b"\0")
        bodies += record
    data = b"FFF\0".ljust(20, b"\0") + struct.pack(">III", 100, 64, len(records))
    data = data.ljust(64, b"\0") + listed + bodies
    parts = [data[n : n + 60000] for n in range(0, len(data), 60000)]
    segments = b"".join(
        b"\xff\xe1" + struct.pack(">H", len(part) + 10) + b"FLIR\0\1" + bytes([number, len(parts) - 1]) + part
        for number, part in enumerate(parts)
    )
    level = ((counts - counts.min()) / max(1, int(np.ptp(counts))) * 255).astype(np.uint8)
    picture = np.stack([level, level // 2, 255 - level], -1).repeat(2, 0).repeat(2, 1)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", **({"exif": exif} if exif else {}))
    whole = buffer.getvalue()
    path.write_bytes(whole[:2] + segments + whole[2:])
    return path


def irg(path: Path, kelvin: np.ndarray, photo: np.ndarray | None = None) -> Path:
    """Write an IRG of a C201 camera, whose counts are 1/16 K."""
    height, width = kelvin.shape
    picture = b""
    if photo is not None:
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, format="JPEG", quality=95)
        picture = buffer.getvalue()
    header = struct.pack("<HH", 0xACCA, 128)
    header += struct.pack("<IHHHHHHHIHHI", height * width, height, width, 0, 384, 0, 1, 256, len(picture), 0, 0, 9500)
    header += struct.pack("<9IHHI", 2730000, 2730000, 2500, *[0] * 6, 0, 0, 1)
    header = header.ljust(126, b"\0") + b"\xac\xca"
    coarse = np.zeros((height, width), np.uint8).tobytes()
    fine = np.rint(kelvin * 16).astype("<u2").tobytes()
    path.write_bytes(header + coarse + fine + picture)
    return path


def cptv(path: Path, frames: np.ndarray, step: int = 111) -> Path:
    """Write a CPTV of 120 rows and 160 columns, with frames every `step` milliseconds."""
    from datetime import datetime, timedelta, timezone

    from cptv import CPTVWriter, Frame

    with path.open("wb") as file:
        writer = CPTVWriter(file)
        writer.timestamp = datetime(2020, 1, 2, tzinfo=timezone.utc)
        writer.device_name = b"hedge"
        writer.latitude, writer.longitude = -36.5, 174.25
        writer.write_header()
        for number, pixels in enumerate(frames):
            time = timedelta(milliseconds=5000 + step * number)
            writer.write_frame(Frame(pixels, time, timedelta(0), 20.0, 20.0))
        writer.close()
    return path
