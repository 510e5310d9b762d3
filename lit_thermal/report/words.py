"""Numbers, metrics and rows as text in a report."""

import math
from collections.abc import Sequence

from lit_thermal.metrics.metric import Metric

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
"""Text in place of a missing number."""


def heading(metric: Metric) -> str:
    """Return label, unit and an arrow towards better."""
    arrow = {"higher": " \N{UPWARDS ARROW}", "lower": " \N{DOWNWARDS ARROW}", None: ""}[metric.direction]
    return f"{metric.label}{f', {metric.unit}' if metric.unit else ''}{arrow}"


def number(value: float | None, decimals: int | None = None, sign: bool = False) -> str:
    """Return a number as text with a true minus sign; `NONE` for a missing number.

    Args:
        value: number to write.
        decimals: digits after the point; None writes three significant digits.
        sign: whether to write a plus sign too.
    """
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return f"{MINUS if value < 0 else '+' if sign else ''}\N{INFINITY}"
    text = f"{abs(value):#.3g}".rstrip(".") if decimals is None else f"{abs(value):.{decimals}f}"
    zero = not float(text)
    return (("" if zero else MINUS) if value < 0 else "+" if sign and not zero else "") + text


def span(low: float, high: float, decimals: int | None = None, sign: bool = False) -> str:
    """Return the two ends of an interval as text."""
    return f"{number(low, decimals, sign)} to {number(high, decimals, sign)}"


def decimals_of(text: str) -> int:
    """Return the number of digits after the point of a printed number."""
    return len(text.partition(".")[2].partition("\N{PLUS-MINUS SIGN}")[0])


def duration(seconds: float | None) -> str:
    """Return seconds as text in a readable unit."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def count(value: float | None) -> str:
    """Return a large number as text with k, M or G."""
    if value is None:
        return NONE
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:g}"


def size(value: float | None) -> str:
    """Return bytes as text in MB or GB."""
    if value is None:
        return NONE
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def listed(words: Sequence[str]) -> str:
    """Return words as a list in a sentence: `a, b and c`."""
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + words[-1] if words else ""


def plural(n: int, noun: str) -> str:
    """Return a count with its noun: `1 image`, `2 images`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def letters(name: str) -> str:
    """Return the letters and digits of a name in lower case, for comparing names in files and in papers."""
    return "".join(c for c in name.lower() if c.isalnum())
