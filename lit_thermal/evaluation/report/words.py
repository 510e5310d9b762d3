"""How numbers, metrics and rows are written in a report."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from lit_thermal.evaluation.published import METRICS

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
"""Stands where there is no number."""


class Shown(NamedTuple):
    """How a metric is shown."""

    label: str
    unit: str = ""
    decimals: int | None = None
    """None: three significant digits."""
    direction: str | None = None
    """`higher` or `lower` is better, or None where neither is."""

    @property
    def heading(self) -> str:
        """Label, unit and an arrow towards better."""
        arrow = {"higher": " \N{UPWARDS ARROW}", "lower": " \N{DOWNWARDS ARROW}", None: ""}[self.direction]
        return f"{self.label}{f', {self.unit}' if self.unit else ''}{arrow}"


_DECIMALS = {"psnr": 2, "ssim": 4, "lpips": 4, "musiq": 2, "maniqa": 4, "clip_iqa": 4, "dover": 4} | {
    "map": 1,
    "miou": 1,
    "precision": 3,
    "recall": 3,
    "f1": 3,
    "iou": 3,
    "fps": 2,
    "parameters": 2,
}
_OURS = {
    "ms_ssim": Shown("MS-SSIM", "", 4, "higher"),
    "spectrum_distance": Shown("Spectrum distance", direction="lower"),
    "profile_error": Shown("Profile error", direction="lower"),
    "temporal_difference": Shown("Temporal difference", direction="lower"),
    "kelvin_mae": Shown("Mean error", "K", 3, "lower"),
    "counts_mae": Shown("Mean error", "counts", None, "lower"),
    "order_violations": Shown("Order violations", "", 4, "lower"),
    "hot_edge_error": Shown("Error at hot edges", "", 4, "lower"),
    "tof": Shown("tOF", direction="lower"),
    "warping_error": Shown("Warping error", direction="lower"),
    "tlpips": Shown("tLPIPS", direction="lower"),
    "heat_residual": Shown("Heat residual"),
    "heat_residual_of_target": Shown("Heat residual of the target"),
    "psnr_registered": Shown("PSNR registered", "dB", 2, "higher"),
    "psnr_unregistered": Shown("PSNR unregistered", "dB", 2, "higher"),
    "ssim_registered": Shown("SSIM registered", "", 4, "higher"),
    "ssim_unregistered": Shown("SSIM unregistered", "", 4, "higher"),
}


def shown(metric: str) -> Shown:
    """How a metric is shown, by its name in `metrics.json`; one that is not known by that name and three digits."""
    if metric in METRICS:
        known = METRICS[metric]
        return Shown(known.label, known.unit, _DECIMALS.get(metric, 3), known.direction)
    return _OURS.get(metric) or Shown(metric.replace("_", " ").capitalize())


def number(value: float | None, decimals: int | None = None, sign: bool = False) -> str:
    """A number with a true minus; `NONE` where there is none.

    Args:
        value: what is written.
        decimals: digits after the point; None writes three significant ones.
        sign: also a plus is written.
    """
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return f"{MINUS if value < 0 else '+' if sign else ''}\N{INFINITY}"
    text = f"{abs(value):#.3g}".rstrip(".") if decimals is None else f"{abs(value):.{decimals}f}"
    zero = not float(text)
    return (("" if zero else MINUS) if value < 0 else "+" if sign and not zero else "") + text


def span(low: float, high: float, decimals: int | None = None, sign: bool = False) -> str:
    """The two ends of an interval."""
    return f"{number(low, decimals, sign)} to {number(high, decimals, sign)}"


def decimals_of(text: str) -> int:
    """How many digits a printed number has after its point."""
    return len(text.partition(".")[2].partition("\N{PLUS-MINUS SIGN}")[0])


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def count(value: float | None) -> str:
    """A large number with k, M or G."""
    if value is None:
        return NONE
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:g}"


def size(value: float | None) -> str:
    """Bytes in MB or GB."""
    if value is None:
        return NONE
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def listed(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + words[-1] if words else ""


def plural(n: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"
