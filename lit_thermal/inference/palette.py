"""Colour views of thermal images, with a bar of temperatures beside them."""

from io import BytesIO
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image

from lit_thermal.data.formats.thermogram import Thermogram
from lit_thermal.errors import InputError
from lit_thermal.files import write_bytes

ZERO = 273.15
"""Kelvin of 0 degrees Celsius."""
SHARE = 0.1
"""Percentage of the pixels at each end of the range that the view clips."""
_LOWEST, _DPI = 200, 100


def check_palette(name: str) -> None:
    """Check the name of a colour map.

    Raises:
        InputError: matplotlib has no colour map of this name.
    """
    if name not in matplotlib.colormaps:
        raise InputError(
            f"--palette {name}: there is no such colour map; try inferno, hot, gray, jet or another of matplotlib"
        )


def view_name(target: Path) -> Path:
    """Return the file of the colour view of a result."""
    return target.with_name(f"{target.stem}_view.png")


def write_view(path: Path, thermogram: Thermogram, palette: str) -> None:
    """Write the only frame of a thermogram in colour, one pixel per pixel, with a bar at its right.

    The bar is in degrees Celsius, of the reading that the file has, or in counts if temperatures are unknown.

    Args:
        path: PNG to write.
        thermogram: result.
        palette: name of a colour map of matplotlib.

    Raises:
        InputError: the file cannot be written.
    """
    if thermogram.knows_kelvin:
        shown = thermogram.kelvin()[0] - np.float32(ZERO)
        label = f"{thermogram.radiometry.reading} temperature in °C".strip()
    else:
        shown, label = thermogram.image.astype(np.float32), "counts"
    known = shown[np.isfinite(shown)]
    low, high = np.percentile(known, [SHARE, 100 - SHARE]) if known.size else (0.0, 1.0)
    scale = Normalize(float(low), float(max(high, low + 1e-3)))
    colours = matplotlib.colormaps[palette](scale(np.nan_to_num(shown, nan=float(low))), bytes=True)[..., :3]
    bar = _bar(max(_LOWEST, len(colours)), scale, palette, label)
    padded = np.zeros((len(bar), colours.shape[1], 3), np.uint8)
    padded[: len(colours)] = colours
    buffer = BytesIO()
    Image.fromarray(np.concatenate([padded, bar], 1)).save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())


def _bar(height: int, scale: Normalize, palette: str, label: str) -> np.ndarray:
    """Draw the bar of a colour map, (height, width, 3) uint8."""
    figure = Figure(figsize=(1.0, height / _DPI), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.04, 0.2, 0.92))
    figure.colorbar(ScalarMappable(scale, palette), cax=axes).set_label(label, fontsize=8)
    axes.tick_params(labelsize=8)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3]
    whole = np.full((height, drawn.shape[1], 3), 255, np.uint8)
    whole[: len(drawn)] = drawn[:height]
    return whole
