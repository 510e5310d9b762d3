"""matplotlib figures as SVG that takes colours (light and dark), fonts and width from the page."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SERIES = 7
"""Number of colours for rows; further rows repeat them, dashed."""
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2)))
INK, MUTED, GRID, PAGE = "#00f0f0", "#00f0f1", "#00f0f2", "#00f0f3"
"""Placeholders that the page's own colours replace in the SVG."""
_PAGE_COLORS = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)", PAGE: "var(--card)"} | {
    f"#00f00{n}": f"var(--s{n})" for n in range(SERIES)
}
WIDTH, HEIGHT = 5.0, 3.5
"""Size of a panel in inches; 72 units of the SVG are one inch."""


@dataclass(frozen=True)
class Panel:
    """One picture."""

    svg: str
    words: str
    """Description for screen readers."""


@dataclass(frozen=True)
class Key:
    """An entry of a legend, which the page draws."""

    label: str
    series: int | None
    """Index of the page's colour; None is the colour of text."""
    dash: str = ""
    """`stroke-dasharray` of an SVG line; `diamond` and `band` are drawn as such."""


@dataclass(frozen=True)
class Figure:
    """Panels with one legend and one caption."""

    title: str
    caption: str
    panels: tuple[Panel, ...]
    keys: tuple[Key, ...] = ()
    narrow: bool = False
    """Whether panels are narrow, so that more of them fit side by side."""


def color(index: int) -> str:
    """Return the colour of a row by its index; the first row is the reference."""
    return f"#00f00{index % SERIES}"


def dash(index: int) -> Any:
    """Return the dashes of a row by its index, in matplotlib's form."""
    return DASHES[index // SERIES % len(DASHES)]


def key(label: str, index: int) -> Key:
    """Return the legend entry of a row by its index."""
    return Key(label, index % SERIES, ("", "6 3", "2 2", "7 2 2 2")[index // SERIES % 4])


def few_ticks(axes: "Axes", most: int = 5) -> None:
    """Limit the ticks of the lower axis, so that long numbers do not touch."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(most))


def plain_log(axes: "Axes") -> None:
    """Make the vertical axis logarithmic, with ticks written as plain numbers."""
    from matplotlib.ticker import FuncFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def panel(words: str, height: float = HEIGHT, width: float = WIDTH) -> "tuple[Any, Axes]":
    """Return an empty figure and its axes in the style of the page.

    Args:
        words: title, which also describes the figure.
        height: height in inches.
        width: width in inches.
    """
    from matplotlib.figure import Figure as Drawn

    figure = Drawn(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.set_title(words, fontsize=11, color=INK, loc="left")
    style(axes)
    return figure, axes


def style(axes: "Axes") -> None:
    """Give axes the style of the page: two thin spines, muted ticks, a light grid."""
    axes.set_facecolor("none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.tick_params(which="both", colors=MUTED, labelsize=10, length=3)
    axes.xaxis.label.set(color=MUTED, fontsize=10)
    axes.yaxis.label.set(color=MUTED, fontsize=10)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def as_panel(figure: Any, name: str, words: str) -> Panel:
    """Write a figure as SVG for the page.

    Args:
        figure: figure in the placeholder colours of this file.
        name: unique name, which keeps its ids different from those of other figures of the page.
        words: description for screen readers.
    """
    import matplotlib
    from matplotlib.text import Text

    # Names are never formulas, even if they contain signs of formulas.
    for found in figure.findobj(Text):
        found.set_parse_math(False)
    text = io.StringIO()
    # Text stays text, in the page's font; ids depend on nothing but the name and the figure.
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": name, "text.parse_math": False, "axes.unicode_minus": True}
    ):
        figure.patch.set_alpha(0)
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| version="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'<svg[^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', svg, count=1)
    for stand_in, own in _PAGE_COLORS.items():
        svg = svg.replace(stand_in, own)
    return Panel(re.sub(r"\n\s*", "\n", svg), words)


def spread(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """Return the limits of an axis around values, with a margin above 0."""
    low, high = min(values), max(values)
    margin = share * (high - low) or abs(high) * 0.01 or 1.0
    return low - margin, high + margin
