"""Pictures and tables in the run's folder, which appear whole or not at all."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "pink": "#CC79A7",
    "yellow": "#E69F00",
    "sky": "#56B4E9",
    "black": "#000000",
}
"""Okabe and Ito's colours, which the colour-blind tell apart."""


def write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    aside = _aside(path)
    aside.write_text(text.getvalue(), encoding="utf-8")
    os.replace(aside, path)


def write_figure(path: Path, figure: "Figure") -> None:
    """Write a figure as a PNG."""
    aside = _aside(path)
    figure.savefig(aside, format="png")
    os.replace(aside, path)


def _aside(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.part")
