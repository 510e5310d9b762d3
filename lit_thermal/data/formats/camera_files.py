"""Files of thermal cameras, whatever their format: `read` and `write` go through one adapter per format.

| format | adapter | pixels |
| --- | --- | --- |
| radiometric JPEG of FLIR | `flir_jpeg` | counts, Planck constants, settings, photo |
| .irg of InfiRay | `irg_file` | Kelvin, photo |
| .cptv | `cptv_file` | frames of counts, times |
| TIFF | `thermal_tiff` | counts or Kelvin, one or more pages |
| PNG, with a JSON file beside | `sidecar` | counts |
| JPEG without radiometric data, BMP | `gray_image` | 8-bit gray levels |
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from lit_thermal.data.formats import cptv_file, irg_file
from lit_thermal.data.formats.flir_jpeg import flir_size, read_flir
from lit_thermal.data.formats.gray_image import read_gray
from lit_thermal.data.formats.image_decoding import image_kind, radiometric_maker, raster_header
from lit_thermal.data.formats.sidecar import read_sidecar, write_sidecar
from lit_thermal.data.formats.tags import Tags, encode_png, encode_tiff, read_tags
from lit_thermal.data.formats.thermal_tiff import read_tiff_file, tiff_size
from lit_thermal.data.formats.thermogram import COUNTS, Thermogram, in_steps
from lit_thermal.errors import InputError
from lit_thermal.files import is_plain, write_bytes

GRAY_VALUES = "no radiometric data: restored as gray values"
"""Message about an image whose levels are not what a camera measured."""
WRITABLE = (".png", ".tif", ".tiff")
"""Suffixes of the formats that hold 16-bit counts."""
_BY_SUFFIX: dict[str, Callable[[Path], Thermogram]] = {
    irg_file.SUFFIX: irg_file.read_irg,
    cptv_file.SUFFIX: cptv_file.read_cptv,
}
"""Readers of formats that are recognised by their suffix; all others are recognised by their first bytes."""


def read(path: str | Path, tolerance: int = 0, *, several: bool = True) -> Thermogram:
    """Read a file of a thermal camera.

    Args:
        path: path of the file.
        tolerance: largest allowed difference between the channels of a gray image, in 8-bit levels.
        several: whether a TIFF may have several pages; otherwise it is refused before they are decoded.

    Raises:
        InputError: the file is missing, damaged, in colour, too large (`LIT_THERMAL_MAX_PIXELS`), of an unknown format,
            or needs a package that is not installed. The message is one sentence with the name of the file.
    """
    path = Path(path)
    if (adapter := _BY_SUFFIX.get(path.suffix.lower())) is not None and (path.is_dir() or is_plain(path)):
        return adapter(path)
    kind = image_kind(path)
    if kind == "tiff":
        return read_tiff_file(path, tolerance, several=several)
    if kind == "jpeg" and radiometric_maker(path) == "FLIR" and (found := read_flir(path)) is not None:
        return found
    pixels = read_gray(path, tolerance)[None]
    if pixels.dtype == np.uint8:
        message = GRAY_VALUES if kind == "jpeg" else ""
        return Thermogram(pixels, COUNTS._replace(bits=8), path=path, message=message)
    beside = read_sidecar(path)
    return Thermogram(pixels, beside.radiometry, beside.settings, times=beside.times, path=path, facts=beside.facts)


def header(path: str | Path) -> tuple[int, int, int]:
    """Return height, width and bit depth of the counts of a single image, without decoding most formats.

    Raises:
        InputError: same as in `read`, or the file holds several frames.
    """
    path = Path(path)
    if path.suffix.lower() == irg_file.SUFFIX:
        return *irg_file.irg_size(path), 16
    kind = image_kind(path)
    if kind == "tiff":
        return tiff_size(path)
    if kind == "jpeg" and radiometric_maker(path) == "FLIR" and (size := flir_size(path)) is not None:
        return *size, 16
    found = raster_header(path)
    return found.height, found.width, found.bits


def write(path: str | Path, thermogram: Thermogram, tags: Tags | None = None) -> None:
    """Write a thermogram as a TIFF or PNG that `read` reads back, with a JSON file beside if temperatures are known.

    A TIFF holds counts or float32 Kelvin as they are, on one or more pages; a PNG holds counts, so that Kelvin become
    counts of 0.01 K. The file appears complete or not at all.

    Args:
        path: file to write; its suffix gives the format.
        thermogram: pixels and their scale.
        tags: metadata of the image file; None copies those of `thermogram.path`, with size and resolution corrected.

    Raises:
        InputError: the suffix is not one of a TIFF or PNG, a PNG would hold several frames, a pixel is NaN, or the file
            cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITABLE:
        raise InputError(f"{path} cannot hold thermal counts: use the suffix {', '.join(WRITABLE)}")
    floats = thermogram.pixels.dtype.kind == "f"
    if floats and (lost := int(np.isnan(thermogram.pixels).sum())):
        raise InputError(f"{path} would hold {lost} pixels that are NaN: replace them first")
    if suffix == ".png" and len(thermogram.pixels) > 1:
        raise InputError(f"{path} cannot hold {len(thermogram.pixels)} frames: use the suffix .tif")
    if suffix == ".png" and floats:
        fine = float(thermogram.pixels.max()) <= 655.35
        counts, scale = in_steps(thermogram.pixels, thermogram.radiometry.reading, fine)
        thermogram = replace(thermogram, pixels=counts, radiometry=scale)
    if tags is None:
        height, width = thermogram.pixels.shape[1:]
        source = thermogram.path
        tags = Tags() if source is None else read_tags(source, (height, width), suffix)
    data = encode_png(thermogram.image, tags) if suffix == ".png" else encode_tiff(thermogram.pixels, tags)
    # the scale first: an image without its scale would be read as other temperatures
    if thermogram.knows_kelvin:
        write_sidecar(path, thermogram)
    write_bytes(path, data)
