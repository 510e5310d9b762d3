"""Pictures and tables in the run's folder, written completely or not at all."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lit_thermal.files import replacing, write_text
from lit_thermal.plain_files import as_csv

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
"""Colours of Okabe and Ito, which colour-blind readers can distinguish."""


def write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as a CSV file in which no text is a formula."""
    write_text(path, as_csv([head, *rows]))


def write_figure(path: Path, figure: "Figure") -> None:
    """Write a figure as a PNG."""
    with replacing(path) as aside:
        figure.savefig(aside, format="png")


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as a PNG."""
    with replacing(path) as aside:
        Image.fromarray(pixels).save(aside, format="PNG")
