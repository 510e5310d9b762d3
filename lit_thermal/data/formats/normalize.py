"""Names of the mappings from 16-bit counts to values in [0, 1], which `data.formats.radiometry` applies."""

import re
from typing import Literal, get_args

from lit_thermal.errors import InputError

Mapping = Literal["robust", "minmax", "percentile", "full"]
"""Mappings whose range is that of each file."""
Normalize = Mapping | str
"""A mapping, or a fixed range of temperatures for all files: "kelvin 270..330"."""
NORMALIZE: Normalize = "robust"
"""Default mapping."""
HELP = "robust, minmax, percentile or full, or a fixed range of temperatures such as 'kelvin 270..330'"

_KELVIN = re.compile(r"kelvin\s+(\d+(?:\.\d+)?)\s*\.\.\s*(\d+(?:\.\d+)?)")
HOTTEST = 6000.0
"""Largest end of a fixed range in Kelvin."""


def check_normalize(normalize: str, what: str) -> None:
    """Check the name of a mapping.

    Args:
        normalize: given name.
        what: argument that the name is for, such as "data.normalize".

    Raises:
        InputError: the name is unknown, or the range is empty or too hot.
    """
    if normalize in get_args(Mapping):
        return
    found = _KELVIN.fullmatch(str(normalize).strip())
    if found is None:
        words = ", ".join(get_args(Mapping))
        raise InputError(
            f"{what} is {normalize!r}; must be one of {words}, or a fixed range of temperatures such as "
            "'kelvin 270..330'"
        )
    if not float(found[1]) < float(found[2]) <= HOTTEST:
        raise InputError(
            f"{what} is {normalize!r}; the first temperature must be below the second, at most {HOTTEST:g}"
        )


def kelvin_range(normalize: str) -> tuple[float, float] | None:
    """Return the ends in Kelvin of a fixed range of temperatures; None for the other mappings."""
    found = _KELVIN.fullmatch(normalize.strip())
    return (float(found[1]), float(found[2])) if found else None
