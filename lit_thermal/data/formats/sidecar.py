"""JSON files beside images that say how counts become temperatures: `a.json` beside `a.png` or `a.tif`.

A folder may have one `metadata.json` instead, with an entry of the same form under the name of each image. Other JSON
files of these names, such as lists of labels, are ignored.

```json
{
  "planck": {"R1": 15000, "R2": 0.01, "B": 1400, "F": 1, "O": -6000},
  "reading": "apparent",
  "scene": {"emissivity": 0.95, "distance": 1, "relhum": 0.5, "reflected_K": 293.15, "atmospheric_K": 293.15}
}
```

In place of `planck`, `{"linear": {"kelvin_at_0": 0, "kelvin_per_count": 0.01}}` gives a linear scale, and
`{"unit": "celsius"}` or `{"unit": "kelvin"}` the unit of a float TIFF.
"""

from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.object_settings import ObjectSettings
from lit_thermal.data.formats.thermogram import COUNTS, Thermogram
from lit_thermal.errors import InputError
from lit_thermal.files import write_json
from lit_thermal.plain_files import read_json

WHAT = "the temperature scale of an image"
ADVICE = "correct or remove it"
SHARED = "metadata.json"
"""Name of a file with the entries of all images of a folder."""
_KEYS = ("planck", "linear", "unit")
_LETTERS = ("R1", "R2", "B", "F", "O")
_SETTINGS = {
    "emissivity": "emissivity",
    "distance": "distance",
    "relhum": "humidity",
    "reflected_K": "reflected",
    "atmospheric_K": "air",
    "window_K": "window",
    "window_transmission": "window_transmission",
}
"""Names of the numbers in a file to those of `ObjectSettings`."""


@dataclass(frozen=True)
class Sidecar:
    """What a file beside an image says.

    Attributes:
        radiometry: mapping from counts to Kelvin.
        settings: the camera's settings; None if there are none.
        unit: unit of float pixels, "kelvin" or "celsius"; empty if not given.
        times: time of each frame in seconds; empty if not given.
        facts: all other entries.
    """

    radiometry: Radiometry = COUNTS
    settings: ObjectSettings | None = None
    unit: str = ""
    times: tuple[float, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def read_sidecar(image: Path) -> Sidecar:
    """Read what stands beside an image; an empty record if nothing does.

    Raises:
        InputError: the file is damaged, or its numbers give no temperature.
    """
    own = image.with_suffix(".json")
    entry = _content(own)
    if not _is_scale(entry):
        own = image.with_name(SHARED)
        shared = _content(own)
        entry = shared.get(image.name) if isinstance(shared, dict) else None
    return _parsed(entry, own) if _is_scale(entry) else Sidecar()


def write_sidecar(image: Path, thermogram: Thermogram) -> None:
    """Write what `read_sidecar` reads back: the scale, the camera's settings, times and facts.

    Raises:
        InputError: the file cannot be written.
    """
    entry: dict[str, Any] = {}
    constants = thermogram.radiometry.constants
    if thermogram.radiometry.unit == "planck":
        entry["temperature"] = "kelvin = B / ln(R1 / (R2 * (count + O)) + F)"
        entry["planck"] = dict(zip(_LETTERS, map(float, constants), strict=True))
    elif thermogram.pixels.dtype.kind == "f":
        entry["unit"] = "kelvin"
    else:
        entry["temperature"] = "kelvin = kelvin_at_0 + kelvin_per_count * count"
        entry["linear"] = {"kelvin_at_0": float(constants[0]), "kelvin_per_count": float(constants[1])}
    if thermogram.radiometry.reading:
        entry["reading"] = thermogram.radiometry.reading
    if settings := thermogram.settings:
        entry["scene"] = {key: float(getattr(settings, name)) for key, name in _SETTINGS.items()}
        entry["scene"]["atmosphere"] = [float(number) for number in settings.atmosphere]
    if thermogram.times:
        entry["times"] = list(thermogram.times)
    if thermogram.facts:
        entry["facts"] = dict(thermogram.facts)
    write_json(image.with_suffix(".json"), entry)


def write_scale(image: Path, radiometry: Radiometry) -> None:
    """Write the scale of an image of 16-bit counts beside it.

    Args:
        image: file of the image.
        radiometry: mapping with the file's counts, whose offset and gain do not matter here.

    Raises:
        InputError: the file cannot be written.
    """
    write_sidecar(image, Thermogram(np.zeros((1, 1, 1), np.uint16), radiometry._replace(offset=0.0, gain=1.0)))


def _content(file: Path) -> Any:
    try:
        status = file.stat()
    except OSError:
        return None
    return _cached(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _cached(file: Path, _changed: int, _size: int) -> Any:
    return read_json(file, WHAT, ADVICE)


def _is_scale(entry: Any) -> bool:
    return isinstance(entry, dict) and (
        isinstance(entry.get("planck"), dict)
        or isinstance(entry.get("linear"), dict)
        or entry.get("unit") in ("kelvin", "celsius")
    )


def _parsed(entry: dict[str, Any], file: Path) -> Sidecar:
    reading = entry.get("reading", "apparent" if "planck" in entry else "")
    if reading not in ("apparent", "object", ""):
        raise InputError(f"{file} has the reading {reading!r}; it must be apparent or object")
    radiometry = COUNTS
    if "planck" in entry:
        constants = tuple(_number(entry["planck"], letter, file) for letter in _LETTERS)
        if min(constants[:3]) <= 0:
            raise InputError(f"{file} has constants R1, R2 and B that are not all above 0: {ADVICE}")
        radiometry = Radiometry(0.0, 1.0, 16, "planck", constants, reading)
    elif "linear" in entry:
        slope = tuple(_number(entry["linear"], key, file) for key in ("kelvin_at_0", "kelvin_per_count"))
        if slope[1] == 0:
            raise InputError(f"{file} has a kelvin_per_count of 0: {ADVICE}")
        radiometry = Radiometry(0.0, 1.0, 16, "linear", slope, reading)
    elif reading:
        radiometry = COUNTS._replace(reading=reading)
    scene = entry.get("scene")
    settings = _settings(scene, file) if isinstance(scene, dict) else None
    times = entry.get("times", [])
    if not isinstance(times, list) or not all(isinstance(time, (int, float)) for time in times):
        raise InputError(f"{file} has times that are not a list of numbers: {ADVICE}")
    facts = entry.get("facts", {})
    return Sidecar(
        radiometry,
        settings,
        entry.get("unit") or "",
        tuple(map(float, times)),
        facts if isinstance(facts, dict) else {},
    )


def _settings(scene: dict[str, Any], file: Path) -> ObjectSettings:
    values: dict[str, Any] = {name: _number(scene, key, file) for key, name in _SETTINGS.items() if key in scene}
    air = scene.get("atmosphere")
    if isinstance(air, list):
        default = next(f.default for f in fields(ObjectSettings) if f.name == "atmosphere")
        if len(air) != len(default) or not all(isinstance(n, (int, float)) for n in air):  # type: ignore[arg-type]
            raise InputError(f"{file} has an atmosphere that is not a list of five numbers: {ADVICE}")
        values["atmosphere"] = tuple(map(float, air))
    settings = ObjectSettings(**values)
    if not settings.plausible():
        raise InputError(f"{file} has a scene whose numbers are out of range, such as an emissivity above 1: {ADVICE}")
    return settings


def _number(entry: Any, key: str, file: Path) -> float:
    value = entry.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{file} has no number {key}: {ADVICE}")
    return float(value)
