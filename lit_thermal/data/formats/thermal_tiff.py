"""TIFF files of thermal cameras: counts, hundredths of a Kelvin, or float Kelvin or degrees Celsius, on any pages."""

from pathlib import Path
from typing import NoReturn

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
"""Number that separates the two units: no scene is colder than 150 K or than -150 degrees Celsius, and most pixels of a
scene in degrees Celsius are below 150."""
HOTTEST = 10_000.0


def read_tiff_file(path: Path, tolerance: int = 0, *, several: bool = True) -> Thermogram:
    """Read a TIFF.

    The unit of float pixels is the one that the file beside it gives (`lit_thermal.data.formats.sidecar`). Without such
    a file, pixels of at least 150 are Kelvin, and pixels with a median below 150 are degrees Celsius; the first page
    decides for all. Integers are counts of unknown temperature, unless the file beside gives their scale.

    Args:
        path: path of the file.
        tolerance: largest allowed difference between the channels of integers, in 8-bit levels.
        several: whether to read all pages; otherwise the file must have one.

    Raises:
        InputError: the file is damaged, pages differ in size, or float pixels are no temperatures.
    """
    with reading(path, "an image", ADVICE):
        beside = read_sidecar(path)
        count, floats = tiff_layout(path)
        numbers: list[int | None] = list(range(count)) if several and count > 1 else [None]
        unit, frames = beside.unit, []
        for number in numbers:
            if floats:
                pixels, unit = _read_kelvin(path, number, unit)
            else:
                pixels = read_gray(path, tolerance, number)
            frames.append(pixels)
            check_size(path, len(numbers) * pixels.shape[0], pixels.shape[1])
            if pixels.shape != frames[0].shape or pixels.dtype != frames[0].dtype:
                raise InputError(f"{path} has pages of different size or depth: write one frame per file")
        return _thermogram(path, np.stack(frames), beside)


def tiff_size(path: Path) -> tuple[int, int, int]:
    """Return height, width and bit depth of the counts of a single-page TIFF.

    Raises:
        InputError: same as in `read_tiff_file`.
    """
    with reading(path, "an image", ADVICE):
        if tiff_layout(path)[1]:
            return *_read_kelvin(path, None, read_sidecar(path).unit)[0].shape, 16
    header = raster_header(path)
    return header.height, header.width, header.bits


def tiff_pages(path: Path) -> int:
    """Return the number of pages of a TIFF.

    Raises:
        InputError: the file is damaged.
    """
    with reading(path, "an image", ADVICE):
        return tiff_layout(path)[0]


def first_page(path: Path) -> tuple[Thermogram, str]:
    """Read the first page of a TIFF, and return the unit of its float pixels for `read_page`.

    Raises:
        InputError: same as in `read_tiff_file`.
    """
    with reading(path, "an image", ADVICE):
        beside = read_sidecar(path)
        if not tiff_layout(path)[1]:
            return _thermogram(path, read_gray(path, page=0)[None], beside), ""
        pixels, unit = _read_kelvin(path, 0, beside.unit)
        return _thermogram(path, pixels[None], beside), unit


def read_page(path: Path, number: int, unit: str) -> Thermogram:
    """Read one page of a TIFF.

    Args:
        path: path of the file.
        number: number of the page from 0.
        unit: unit of float pixels from `first_page`.

    Raises:
        InputError: same as in `read_tiff_file`.
    """
    with reading(path, "an image", ADVICE):
        pixels = _read_kelvin(path, number, unit)[0] if unit else read_gray(path, page=number)
        return _thermogram(path, pixels[None], read_sidecar(path))


def _thermogram(path: Path, pixels: np.ndarray, beside: Sidecar) -> Thermogram:
    scale = beside.radiometry
    if pixels.dtype == np.float32:
        scale = KELVIN._replace(reading=scale.reading)
    elif pixels.dtype == np.uint8:
        scale = scale._replace(bits=8)
    return Thermogram(pixels, scale, beside.settings, times=beside.times, path=path, facts=beside.facts)


def _read_kelvin(path: Path, number: int | None, unit: str) -> tuple[np.ndarray, str]:
    """Return a page of float temperatures, (H, W) float32 Kelvin, and the unit that the file has.

    Args:
        path: path of the file.
        number: number of the page; None means the only page.
        unit: known unit; empty to determine it from the page.
    """
    pixels = read_float_page(path, number)
    found = unit or _unit(pixels)
    if not found or not np.isfinite(pixels).all():
        _refuse(path, number)
    if found == "celsius":
        if not unit:
            warn_once(path, "celsius", "holds numbers below 150, which are taken as degrees Celsius")
        pixels = pixels.astype(np.float64) + ZERO
    if pixels.min() < 0:
        raise InputError(f"{path} holds temperatures below absolute zero: correct the unit in {path.stem}.json")
    return np.ascontiguousarray(pixels, np.float32), found


def _refuse(path: Path, number: int | None) -> NoReturn:
    """Raise an error that describes numbers which are no temperatures or have no clear unit."""
    unit = f'name their unit in {path.stem}.json as in {{"unit": "kelvin"}} if they are temperatures'
    try:
        read_gray(path, page=number)
    except InputError as error:
        raise InputError(f"{error}, or {unit}") from error
    raise InputError(f"{path} holds numbers that are not clearly temperatures: {unit}")


def _unit(pixels: np.ndarray) -> str:
    """Return the unit of float pixels by their range, or an empty text if they are no temperatures."""
    low, high = float(pixels.min()), float(pixels.max())
    if not (-COLDEST < low <= high < HOTTEST) or (low >= 0 and high <= 1):
        return ""
    if low >= COLDEST:
        return "kelvin"
    # a few cold pixels in an image of 300 may be dead ones in Kelvin: a guess could be wrong by 273 K
    return "celsius" if float(np.median(pixels)) < COLDEST else ""
