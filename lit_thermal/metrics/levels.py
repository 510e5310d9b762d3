"""How well a method does on each condition of a test set, as the table `robustness.csv` of a run holds it."""

import csv
from pathlib import Path
from typing import NamedTuple

from lit_thermal.errors import InputError

METRICS = ("psnr", "ssim")
COLUMNS = ("condition", "pixels", *METRICS, "images")
"""Columns of the table."""


class Level(NamedTuple):
    """How well a method does on one condition of a test set."""

    condition: str
    pixels: int | None
    """Displacement of the guide, where the condition is one."""
    values: dict[str, float]
    images: int


def read_levels(file: Path) -> list[Level]:
    """Read a `robustness.csv`.

    Raises:
        InputError: it cannot be read or is no such table.
    """
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        return [
            Level(
                row["condition"],
                int(row["pixels"]) if row["pixels"] else None,
                {metric: float(row[metric]) for metric in METRICS},
                int(row["images"]),
            )
            for row in rows
        ]
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} is no table of RobustnessCurve; its columns are {', '.join(COLUMNS)}") from error
