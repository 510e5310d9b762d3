"""The canvas of a scene: temperature, emissivity and colour on one grid finer than the HR pixels.

Shapes have exact positions: each returns the share of every subpixel that it covers, so that edges are smooth and move
by any fraction of a pixel. Painting blends over the existing content. Coordinates are HR pixels, x to the right, y
down.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Colour = tuple[float, float, float]

SUPERSAMPLING = 2
"""Number of subpixels per HR pixel along each axis."""
PARTS = ("ground", "sky", "road", "building", "plant", "fixture")
"""Kinds of background surface; fixtures are poles, wires, fences, pylons, signs and air conditioners."""


class Cover(NamedTuple):
    """Share in [0, 1], (rows, columns), of each subpixel in a window of the canvas that is covered by a shape."""

    rows: slice
    cols: slice
    alpha: Array


class Canvas:
    """Fields of (height, width) subpixels: `kelvin`, `emissivity`, `parts`, `rgb` (3, ...) or None, `alpha` or None.

    `parts` is the index in `PARTS` of the surface that covers most of each subpixel. A painter sets `part`, the kind of
    surface that the next calls of `paint` add.

    Args:
        left: x of the left edge in HR pixels.
        top: y of the upper edge in HR pixels.
        width: width in HR pixels.
        height: height in HR pixels.
        visible: also paint the colours of the visible view.
        transparent: start empty and record `alpha`, as needed for a moving body.
    """

    def __init__(
        self,
        left: float,
        top: float,
        width: float,
        height: float,
        *,
        visible: bool = False,
        transparent: bool = False,
    ) -> None:
        self.left, self.top = left, top
        shape = (max(1, round(height * SUPERSAMPLING)), max(1, round(width * SUPERSAMPLING)))
        self.shape = shape
        self.width, self.height = shape[1] / SUPERSAMPLING, shape[0] / SUPERSAMPLING
        self.x = ((np.arange(shape[1]) + 0.5) / SUPERSAMPLING + left).astype(np.float32)
        self.y = ((np.arange(shape[0]) + 0.5) / SUPERSAMPLING + top).astype(np.float32)
        self.kelvin = np.zeros(shape, np.float32)
        self.emissivity = np.ones(shape, np.float32)
        self.parts = np.zeros(shape, np.uint8)
        self.part = "ground"
        self.rgb = np.zeros((3, *shape), np.float32) if visible else None
        self.alpha = np.zeros(shape, np.float32) if transparent else None

    @property
    def right(self) -> float:
        """Position x of the right edge in HR pixels."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Position y of the lower edge in HR pixels."""
        return self.top + self.height

    def paint(
        self,
        cover: Cover | None,
        kelvin: float | NDArray[np.floating] | None = None,
        emissivity: float | None = None,
        rgb: Colour | Array | None = None,
    ) -> None:
        """Blend a surface over the canvas; properties that are None are unchanged, as for marks seen in one view only.

        Args:
            cover: area of a shape, or None if it is outside the canvas.
            kelvin: temperature, a number or an array of the cover's shape.
            emissivity: emissivity in (0, 1].
            rgb: reflectance in [0, 1], three numbers or an array (3, rows, columns).
        """
        if cover is None:
            return
        rows, cols, alpha = cover
        self.parts[rows, cols][alpha > 0.5] = PARTS.index(self.part)
        weight: NDArray[np.floating] = alpha
        if self.alpha is not None:
            below = self.alpha[rows, cols]
            total = below + alpha * (1 - below)
            weight = alpha / np.maximum(total, 1e-6)
            self.alpha[rows, cols] = total
        if kelvin is not None:
            field = self.kelvin[rows, cols]
            field += weight * (kelvin - field)
        if emissivity is not None:
            field = self.emissivity[rows, cols]
            field += weight * (emissivity - field)
        if rgb is not None and self.rgb is not None:
            for channel, value in zip(self.rgb, rgb, strict=True):
                field = channel[rows, cols]
                field += weight * (value - field)

    def warm(self, cover: Cover | None, kelvin: float | Array) -> None:
        """Add `kelvin` to the temperature of the canvas; the visible view does not change."""
        if cover is not None:
            self.kelvin[cover.rows, cover.cols] += cover.alpha * kelvin

    def shade(self, cover: Cover | None, factor: float) -> None:
        """Multiply the colour of the canvas by `factor`; the temperature does not change."""
        if cover is not None and self.rgb is not None:
            self.rgb[:, cover.rows, cover.cols] *= 1 + cover.alpha * (factor - 1)

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Cover | None:
        """Return the exact cover of an upright rectangle."""
        window = self._window(x0, y0, x1, y1)
        if window is None:
            return None
        rows, cols = window
        across = _overlap(self.x[cols], x0, x1)
        return Cover(rows, cols, _overlap(self.y[rows], y0, y1)[:, None] * across)

    def grid(
        self,
        bounds: tuple[float, float, float, float],
        columns: tuple[float, float, float],
        rows: tuple[float, float, float],
    ) -> Cover | None:
        """Return the cover of a lattice of equal rectangles inside `bounds` = (x0, y0, x1, y1).

        `columns` and `rows` are (first edge, pitch, size), for example of windows of a facade, planks or fence bars.
        """
        window = self._window(*bounds)
        if window is None:
            return None
        inside = self.box(*bounds)
        assert inside is not None
        across = _comb(self.x[window[1]], *columns)
        down = _comb(self.y[window[0]], *rows)
        return Cover(*window, inside.alpha * (down[:, None] * across))

    def ellipse(self, x: float, y: float, rx: float, ry: float) -> Cover | None:
        """Return the cover of an upright ellipse, from a first-order distance to its edge."""
        window = self._window(x - rx, y - ry, x + rx, y + ry)
        if window is None:
            return None
        rows, cols = window
        u, v = (self.x[cols] - x) / rx, (self.y[rows, None] - y) / ry
        radius = np.sqrt(u * u + v * v) + 1e-6
        slope = np.sqrt((u / rx) ** 2 + (v / ry) ** 2) / radius + 1e-6
        return Cover(rows, cols, _soft((radius - 1) / slope))

    def capsule(self, x0: float, y0: float, x1: float, y1: float, r0: float, r1: float | None = None) -> Cover | None:
        """Return the cover of a thick line with round ends, of half width `r0` at its start and `r1` at its end."""
        r1 = r0 if r1 is None else r1
        r = max(r0, r1, 0.25)
        window = self._window(min(x0, x1) - r, min(y0, y1) - r, max(x0, x1) + r, max(y0, y1) + r)
        if window is None:
            return None
        rows, cols = window
        dx, dy = self.x[cols] - x0, self.y[rows, None] - y0
        ax, ay = x1 - x0, y1 - y0
        along = (dx * (ax / (ax * ax + ay * ay + 1e-9))) + dy * (ay / (ax * ax + ay * ay + 1e-9))
        np.clip(along, 0, 1, out=along)
        px, py = dx - along * ax, dy - along * ay
        distance = np.sqrt(px * px + py * py)
        # A line thinner than a subpixel is painted with the width of a subpixel and a lower weight.
        wide0, wide1 = max(r0, 0.25), max(r1, 0.25)
        distance -= wide0 if wide0 == wide1 else wide0 + (wide1 - wide0) * along
        alpha = _soft(distance)
        if min(r0, r1) < 0.25:
            alpha *= min(1.0, (r0 + r1) / (wide0 + wide1))
        return Cover(rows, cols, alpha)

    def polygon(self, points: list[tuple[float, float]]) -> Cover | None:
        """Return the cover of a convex polygon, with corners in clockwise or counterclockwise order."""
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        window = self._window(min(xs), min(ys), max(xs), max(ys))
        if window is None:
            return None
        rows, cols = window
        turn = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in _edges(points))
        alpha = None
        for (x0, y0), (x1, y1) in _edges(points):
            length = float(np.hypot(x1 - x0, y1 - y0)) or 1.0
            sign = (1.0 if turn > 0 else -1.0) / length
            nx, ny = (y1 - y0) * sign, (x0 - x1) * sign
            side = _soft((self.x[cols] - x0) * nx + (self.y[rows, None] - y0) * ny)
            alpha = side if alpha is None else np.minimum(alpha, side, out=alpha)
        assert alpha is not None
        return Cover(rows, cols, alpha)

    def whole(self) -> Cover:
        """Return the cover of the whole canvas."""
        return Cover(slice(None), slice(None), np.ones(self.shape, np.float32))

    def _window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice] | None:
        """Return the window of subpixels that a shape within these bounds can touch, or None if it is outside."""
        s = SUPERSAMPLING
        c0 = max(0, int((x0 - self.left) * s) - 1)
        c1 = min(self.shape[1], int((x1 - self.left) * s) + 2)
        r0 = max(0, int((y0 - self.top) * s) - 1)
        r1 = min(self.shape[0], int((y1 - self.top) * s) + 2)
        return None if c1 <= c0 or r1 <= r0 else (slice(r0, r1), slice(c0, c1))


def _soft(distance: Array) -> Array:
    """Return the share of a subpixel inside an edge at signed `distance` (HR pixels, negative inside), in place."""
    distance *= -SUPERSAMPLING
    distance += 0.5
    return np.clip(distance, 0, 1, out=distance)


def _overlap(centres: Array, low: float, high: float) -> Array:
    """Return the share of each subpixel interval around `centres` that is within [low, high]."""
    half = 0.5 / SUPERSAMPLING
    share = (np.minimum(centres + half, high) - np.maximum(centres - half, low)) * SUPERSAMPLING
    return np.clip(share, 0, 1)


def _comb(centres: Array, first: float, pitch: float, size: float) -> Array:
    """Return the share of each subpixel inside the intervals [first + n pitch, first + n pitch + size], for all n."""
    half = 0.5 / SUPERSAMPLING

    def below(edge: Array) -> Array:
        """Return the length of all intervals left of `edge`."""
        whole = np.floor((edge - first) / pitch)
        return whole * size + np.minimum(edge - first - whole * pitch, size)

    return (below(centres + half) - below(centres - half)) * SUPERSAMPLING


def _edges(points: list[tuple[float, float]]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return list(zip(points, points[1:] + points[:1], strict=True))
