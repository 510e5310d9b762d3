"""How well a method does on each condition of a test set, as the table `robustness.csv` of a run holds it."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lit_thermal.errors import InputError

METRICS = ("psnr", "ssim")
COLUMNS = ("condition", "varied", "at", "unit", *METRICS, "images")
"""Columns of the table."""
BASELINE = "baseline: "
"""What the condition of a baseline's row begins with, before its name."""


class Level(NamedTuple):
    """How well a method does on one condition of a test set."""

    condition: str
    varied: str
    """What the condition has more or less of; empty where it is not one of many degrees."""
    at: float | None
    """How much of it, where something is varied."""
    unit: str
    values: dict[str, float]
    images: int
    """How many were measured; clips of video."""


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
                row["varied"],
                float(row["at"]) if row["varied"] else None,
                row["unit"],
                {metric: float(row[metric]) for metric in METRICS},
                int(row["images"]),
            )
            for row in rows
        ]
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} is no table of RobustnessCurve; its columns are {', '.join(COLUMNS)}") from error


def curves(levels: Sequence[Level], baseline: bool = False) -> dict[str, list[Level]]:
    """The points of each curve by what is varied, from the least to the most; one point is no curve.

    Args:
        levels: of one test.
        baseline: those of the strongest simple baseline; there are none of what does not reach it, as a guide does not.
    """
    found: dict[str, list[Level]] = {}
    for level in levels:
        if level.varied and level.condition.startswith(BASELINE) == baseline:
            found.setdefault(level.varied, []).append(level)
    return {varied: sorted(points, key=_at) for varied, points in found.items() if len(points) > 1}


def _at(level: Level) -> float:
    return level.at or 0.0
