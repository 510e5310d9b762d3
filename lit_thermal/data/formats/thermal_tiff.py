"""TIFF files of thermal cameras: counts, hundredths of a Kelvin, or float Kelvin or degrees Celsius, on any pages."""

from pathlib import Path

import numpy as np

from lit_thermal.data.formats.gray_image import read_gray, warn_once
from lit_thermal.data.formats.image_decoding import ADVICE, raster_header
from lit_thermal.data.formats.raster import check_size
from lit_thermal.data.formats.sidecar import Sidecar, read_sidecar
from lit_thermal.data.formats.thermogram import KELVIN, Thermogram
from lit_thermal.data.formats.tiff_file import read_float_page, tiff_layout
from lit_thermal.errors import InputError, reading

ZERO = 273.15
COLDEST = 150.0
"""Temperature in Kelvin, and in degrees Celsius below 0, that separates the two units: no scene is colder, and a scene
in degrees Celsius has a pixel below 150 degrees."""
HOTTEST = 10_000.0


def read_tiff_file(path: Path, tolerance: int = 0, *, pages: bool = True) -> Thermogram:
    """Read a TIFF.

    The unit of float pixels is the one that the file beside it gives (`lit_thermal.data.formats.sidecar`). Without such
    a file, pixels of at least 150 are Kelvin, and others are degrees Celsius. Integers are counts of unknown
    temperature, unless the file beside gives their scale.

    Args:
        path: path of the file.
        tolerance: largest allowed difference between the channels of integers, in 8-bit levels.
        pages: whether to read all pages; otherwise the file must have one.

    Raises:
        InputError: the file is damaged, pages differ in size, or float pixels are no temperatures.
    """
    with reading(path, "an image", ADVICE):
        beside = read_sidecar(path)
        count, floats = tiff_layout(path)
        numbers: list[int | None] = list(range(count)) if pages and count > 1 else [None]
        read = _read_kelvin if floats else _read_counts
        frames: list[np.ndarray] = []
        for number in numbers:
            frames.append(read(path, tolerance, number, beside))
            check_size(path, len(numbers) * frames[0].shape[0], frames[0].shape[1])
            if frames[-1].shape != frames[0].shape or frames[-1].dtype != frames[0].dtype:
                raise InputError(f"{path} has pages of different size or depth: write one frame per file")
        scale = KELVIN._replace(reading=beside.radiometry.reading) if floats else beside.radiometry
        pixels = np.stack(frames)
        if pixels.dtype == np.uint8:
            scale = scale._replace(bits=8)
        return Thermogram(pixels, scale, beside.settings, times=beside.times, path=path, facts=beside.facts)


def tiff_size(path: Path) -> tuple[int, int, int]:
    """Return height, width and bit depth of the counts of a single-page TIFF.

    Raises:
        InputError: same as in `read_tiff_file`.
    """
    with reading(path, "an image", ADVICE):
        if tiff_layout(path)[1]:
            return *_read_kelvin(path, 0, None, read_sidecar(path)).shape, 16
    header = raster_header(path)
    return header.height, header.width, header.bits


def tiff_pages(path: Path) -> int:
    """Return the number of pages of a TIFF.

    Raises:
        InputError: the file is damaged.
    """
    with reading(path, "an image", ADVICE):
        return tiff_layout(path)[0]


def read_page(path: Path, number: int) -> Thermogram:
    """Read one page of a TIFF, as `read_tiff_file` reads all.

    Args:
        path: path of the file.
        number: number of the page from 0.

    Raises:
        InputError: same as in `read_tiff_file`.
    """
    with reading(path, "an image", ADVICE):
        beside = read_sidecar(path)
        floats = tiff_layout(path)[1]
        pixels = (_read_kelvin if floats else _read_counts)(path, 0, number, beside)
        scale = KELVIN._replace(reading=beside.radiometry.reading) if floats else beside.radiometry
        return Thermogram(pixels[None], scale, beside.settings, path=path)


def _read_counts(path: Path, tolerance: int, number: int | None, beside: Sidecar) -> np.ndarray:
    return read_gray(path, tolerance, number)


def _read_kelvin(path: Path, tolerance: int, number: int | None, beside: Sidecar) -> np.ndarray:
    """Return a page of float temperatures, (H, W) float32 Kelvin."""
    pixels = read_float_page(path, number)
    unit = beside.unit or _unit(pixels)
    if not unit or not np.isfinite(pixels).all():
        read_gray(path, tolerance, number)  # raises an error that describes the numbers
        raise InputError(f"{path} holds numbers that are not temperatures: convert it to uint16 counts")
    if unit == "celsius":
        if not beside.unit:
            warn_once(path, "celsius", "holds numbers below 150, which are taken as degrees Celsius")
        pixels = pixels.astype(np.float64) + ZERO
    if pixels.min() < 0:
        raise InputError(f"{path} holds {unit} below absolute zero: correct the unit in {path.stem}.json")
    return np.ascontiguousarray(pixels, np.float32)


def _unit(pixels: np.ndarray) -> str:
    """Return the unit of float pixels by their range, or an empty text if they are no temperatures."""
    low, high = float(pixels.min()), float(pixels.max())
    if not (-COLDEST < low <= high < HOTTEST) or (low >= 0 and high <= 1):
        return ""
    return "kelvin" if low >= COLDEST else "celsius"
