"""IRG files of InfiRay cameras, read by the package infiray-irg: temperatures and the visible photo."""

import struct
import warnings
from pathlib import Path

import numpy as np

from lit_thermal.data.formats.optional_package import needed_for
from lit_thermal.data.formats.raster import check_size
from lit_thermal.data.formats.thermogram import KELVIN, Thermogram
from lit_thermal.errors import reading
from lit_thermal.plain_files import read_bytes

SUFFIX = ".irg"
WHAT = "an InfiRay IRG image"
_ZERO = 273.15


def irg_size(path: Path) -> tuple[int, int]:
    """Return height and width that the header gives.

    Raises:
        InputError: the file is missing, too short, or declares too many pixels.
    """
    with reading(path, WHAT), path.open("rb") as file:
        height, width = struct.unpack("<HH", file.read(12)[8:12])
        check_size(path, height, width)
        return height, width


def read_irg(path: Path) -> Thermogram:
    """Read an IRG file: float32 Kelvin by the camera's settings, and the photo.

    Raises:
        InputError: the file is damaged, or the package infiray-irg is missing.
    """
    with reading(path, WHAT):
        height, width = irg_size(path)
        data = read_bytes(path, WHAT)
        module = needed_for(path, WHAT, "infiray_irg", "infiray-irg")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, celsius, photo = module.load(data)
        if celsius.shape != (height, width):
            raise ValueError("its size is recorded in two different ways")
        kelvin = (celsius.astype(np.float64) + _ZERO).astype(np.float32)
        colours = None
        if photo is not None:
            check_size(path, photo.height, photo.width)
            colours = np.array(photo.convert("RGB"))
        return Thermogram(kelvin[None], KELVIN._replace(reading="object"), None, colours, path=path)
