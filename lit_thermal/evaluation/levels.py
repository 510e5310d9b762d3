"""Results of a method on each condition of a test set, as stored in a run's table `robustness.csv`."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lit_thermal.errors import InputError
from lit_thermal.metrics.catalogue import QUALITY_NAMES
from lit_thermal.plain_files import read_table
from lit_thermal.shapes import LARGEST

COLUMNS = ("condition", "varied", "at", "unit", *QUALITY_NAMES, "images")
"""Columns of the table."""
BASELINE = "baseline: "
"""Prefix of the condition of a baseline's row, before the baseline's name."""

GUIDED = "guided baseline: "
"""Prefix of the condition of a row of a baseline that uses the guide, before the baseline's name."""


class Level(NamedTuple):
    """Result of a method on one condition of a test set."""

    condition: str
    varied: str
    """Name of the quantity that the condition varies; empty if it is not one of several degrees."""
    at: float | None
    """Value of the varied quantity; None if nothing is varied."""
    unit: str
    values: dict[str, float]
    images: int
    """Number of measured images, or clips of video."""


def read_levels(file: Path) -> list[Level]:
    """Read a `robustness.csv`.

    Raises:
        InputError: the file cannot be read or is not such a table.
    """
    rows = read_table(file, "a table of RobustnessCurve", "run `test` again")
    if rows and not set(COLUMNS) <= rows[0].keys():
        raise InputError(f"{file} is not a table of RobustnessCurve; its columns are {', '.join(COLUMNS)}")
    return [
        Level(
            row["condition"],
            row["varied"],
            _number(row["at"], "at", number, file) if row["varied"] else None,
            row["unit"],
            {metric: _number(row[metric], metric, number, file) for metric in QUALITY_NAMES},
            int(_number(row["images"], "images", number, file)),
        )
        for number, row in enumerate(rows, start=1)
    ]


def _number(text: str, column: str, row: int, file: Path) -> float:
    """Return a number that can be drawn."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST or (column == "images" and (value < 1 or value % 1)):
        raise InputError(
            f"row {row} of {file} has {text[:40]!r} for {column}, which cannot be drawn: the test failed there, or "
            "the table was changed"
        )
    return value


def curves(levels: Sequence[Level], baseline: bool = False) -> dict[str, list[Level]]:
    """Return the points of each curve by the varied quantity, in increasing order; single points are left out.

    Args:
        levels: results on the conditions of one test.
        baseline: whether to return the curves of the strongest simple baseline instead of the method's; conditions that
            do not affect it, such as those of a guide, have none.
    """
    found: dict[str, list[Level]] = {}
    for level in levels:
        if level.condition.startswith(GUIDED):
            continue
        if level.varied and level.condition.startswith(BASELINE) == baseline:
            found.setdefault(level.varied, []).append(level)
    return {varied: sorted(points, key=_at) for varied, points in found.items() if len(points) > 1}


def guided_curves(levels: Sequence[Level]) -> dict[str, dict[str, list[Level]]]:
    """Return the curves of baselines that use the guide, by varied quantity and name of the baseline."""
    found: dict[str, dict[str, list[Level]]] = {}
    for level in levels:
        if level.varied and level.condition.startswith(GUIDED):
            found.setdefault(level.varied, {}).setdefault(level.condition.removeprefix(GUIDED), []).append(level)
    return {
        varied: {name: sorted(points, key=_at) for name, points in own.items() if len(points) > 1}
        for varied, own in found.items()
    }


def _at(level: Level) -> float:
    return level.at or 0.0
