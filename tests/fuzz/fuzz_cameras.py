"""Readers of the formats of thermal cameras, of those whose package is installed."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from fuzz_harness import Reader

from lit_thermal.data.formats.camera_files import header, read

sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "formats"))

from camera_samples import cptv, flir_jpeg, irg, scene

_PHOTO = np.full((20, 30, 3), 120, np.uint8)


def _flir(folder: Path) -> list[bytes]:
    made = [
        flir_jpeg(folder / "a.jpg", scene(), photo=_PHOTO),
        flir_jpeg(folder / "b.jpg", scene(), order=">"),
        flir_jpeg(folder / "c.jpg", scene(), png=False),
    ]
    return [path.read_bytes() for path in made]


def _irg(folder: Path) -> list[bytes]:
    return [irg(folder / "a.irg", scene() / 50, photo).read_bytes() for photo in (None, _PHOTO)]


def _cptv(folder: Path) -> list[bytes]:
    return [cptv(folder / "a.cptv", np.stack([scene(120, 160, seed) for seed in range(2)])).read_bytes()]


def _read(path: Path) -> None:
    """Read a file and check that the pixels are what the header says."""
    found = read(path)
    assert found.pixels.ndim == 3 and found.pixels.dtype in (np.uint8, np.uint16, np.float32)
    if len(found.pixels) == 1 and path.suffix != ".cptv":
        assert header(path)[:2] == found.image.shape


_ALL: list[tuple[str, str, Callable[[Path], list[bytes]], str]] = [
    ("flir_jpeg", ".jpg", _flir, "flyr"),
    ("irg", ".irg", _irg, "infiray_irg"),
    ("cptv", ".cptv", _cptv, "cptv"),
]
READERS = [Reader(name, suffix, make, _read) for name, suffix, make, package in _ALL if find_spec(package)]
