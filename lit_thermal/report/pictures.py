"""Thermal pictures for a page: pseudo-colour PNGs in data URIs, and their colour scales."""

import base64
import io
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image

from lit_thermal.batch import Radiometry

KELVIN_OF_ZERO = 273.15


@dataclass(frozen=True)
class Scale:
    """Range and unit of the colours of a picture."""

    low: float
    high: float
    unit: str
    decimals: int

    def ticks(self, count: int = 5) -> list[str]:
        """Return evenly spaced numbers from the lower to the upper end of the range."""
        values = np.linspace(self.low, self.high, count)
        return [f"{value:.{self.decimals}f}".replace("-", "\N{MINUS SIGN}") for value in values]


@cache
def palette() -> bytes:
    """Return 256 colours of matplotlib's `inferno`, in PIL's form."""
    from matplotlib import colormaps

    return (colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes()


def gradient(stops: int = 12) -> str:
    """Return the same colours as stops of a CSS gradient."""
    colors = np.frombuffer(palette(), np.uint8).reshape(256, 3)[np.linspace(0, 255, stops).round().astype(int)]
    return ", ".join("#" + bytes(color).hex() for color in colors)


def measured(counts: np.ndarray, radiometry: Radiometry) -> np.ndarray:
    """Convert counts of a file to degrees Celsius if the temperature is known; otherwise return counts."""
    if radiometry.unit == "counts":
        return counts.astype(np.float64)
    values = (torch.from_numpy(counts.astype(np.float64)) - radiometry.offset) / radiometry.gain
    return radiometry.to_kelvin(values).numpy() - KELVIN_OF_ZERO


def unit_of(radiometry: Radiometry, error: bool = False) -> str:
    """Return the unit of the values of `measured`, or of their differences."""
    if radiometry.unit == "counts":
        return "counts"
    return "K" if error else "°C"


def scale_of(values: np.ndarray, unit: str) -> Scale:
    """Return the scale from the 0.5 % to the 99.5 % quantile of values."""
    low, high = (float(np.quantile(values, q)) for q in (0.005, 0.995))
    return _scale(low, max(high, low + 1e-6), unit)


def error_scale(errors: np.ndarray, unit: str) -> Scale:
    """Return the scale from 0 to the 99.5 % quantile of errors."""
    return _scale(0.0, max(float(np.quantile(errors, 0.995)), 1e-6), unit)


def colored(frames: np.ndarray, scale: Scale) -> str:
    """Return frames (T, H, W), stacked vertically, as the data URI of a PNG with the palette."""
    stack = frames.reshape(-1, frames.shape[-1])
    levels = ((stack - scale.low) * (255 / (scale.high - scale.low))).round().clip(0, 255).astype(np.uint8)
    image = Image.fromarray(levels, mode="P")
    image.putpalette(palette())
    return _uri(image)


def visible(pixels: np.ndarray) -> str:
    """Return a visible picture (H, W, 3) uint8 as the data URI of a JPEG, since nothing is measured on it."""
    text = io.BytesIO()
    Image.fromarray(pixels).save(text, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(text.getvalue()).decode()


def _uri(image: Image.Image) -> str:
    text = io.BytesIO()
    image.save(text, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(text.getvalue()).decode()


def _scale(low: float, high: float, unit: str) -> Scale:
    decimals = int(np.clip(2 - np.floor(np.log10(high - low)), 0, 3)) if unit != "counts" else 0
    return Scale(low, high, unit, decimals)
