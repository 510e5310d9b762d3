"""Complete backgrounds: a street, a park, a facade, and an aerial view."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lit_thermal.data.simulator.canvas import Canvas
from lit_thermal.data.simulator.scenery import (
    Stage,
    building,
    fence,
    foliage,
    ground,
    lattice,
    pole,
    road,
    sign,
    sky,
    tree,
    unit,
    wire,
)
from lit_thermal.data.simulator.texture import texture


@dataclass(frozen=True)
class Layout:
    """Properties of a background that bodies and heat sources depend on.

    Attributes:
        tags: words that describe the visible contents.
        horizon: y coordinate at which the ground begins.
        person: height of a person in HR pixels at the horizon and at the lower edge.
        from_above: whether bodies are seen from above.
    """

    tags: tuple[str, ...]
    horizon: float
    person: tuple[float, float]
    from_above: bool = False

    def person_height(self, canvas: Canvas, y: float) -> float:
        """Return the height of a person whose feet are at `y`."""
        share = (y - self.horizon) / max(canvas.bottom - self.horizon, 1.0)
        return self.person[0] + (self.person[1] - self.person[0]) * share


def street(s: Stage) -> Layout:
    """Paint sky, a row of houses and trees, a road with marks, poles and wires."""
    c, rng = s.canvas, s.rng
    horizon = c.top + c.height * rng.uniform(0.35, 0.55)
    sky(s, horizon + 2)
    _skyline(s, horizon, houses=0.65)
    ground(s, horizon, s.warmth(-1, 3), rng.uniform(0.3, 0.7), (0.45, 0.42, 0.36))
    road(s, horizon)
    x = c.left + s.span(-5, 15)
    tops: list[tuple[float, float]] = []
    while x < c.right:
        foot, height = horizon + s.span(4, 14), s.span(40, 75)
        pole(s, x, foot, height)
        tops.append((x, foot - height * 0.9))
        x += s.span(45, 90)
    for (x0, y0), (x1, y1) in pairwise(tops):
        for drop in (0.0, s.span(3, 5)):
            wire(s, x0, y0 + drop, x1, y1 + drop, s.span(2, 8))
    sign(s, rng.uniform(c.left, c.right - 20), horizon - s.span(8, 24), s.span(18, 34), s.span(11, 18))
    return Layout(("street", "road", "building"), horizon, (s.span(6, 9), s.span(38, 60)))


def park(s: Stage) -> Layout:
    """Paint sky, far trees, grass, near trees, and sometimes a fence or a pylon."""
    c, rng = s.canvas, s.rng
    horizon = c.top + c.height * rng.uniform(0.3, 0.55)
    sky(s, horizon + 2)
    if rng.random() < 0.5:
        lattice(s, rng.uniform(c.left, c.right), horizon + 3, s.span(40, 70))
    _skyline(s, horizon, houses=0.15)
    ground(s, horizon, s.warmth(-3, 2), rng.uniform(0.3, 0.8), (0.3, 0.42, 0.2), "grass")
    if rng.random() < 0.7:
        foot = horizon + s.span(3, 10)
        fence(s, c.left, c.right, foot, s.span(8, 14))
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(c.left, c.right), horizon + s.span(2, 25)
        tree(s, x, y, s.span(45, 90), bare=rng.random() < 0.4)
    for _ in range(int(rng.integers(1, 5))):
        r = s.span(4, 10)
        foliage(s, rng.uniform(c.left, c.right), horizon + s.span(2, 40), r * 1.4, r, s.warmth(-2, 1), 0.8)
    if rng.random() < 0.5:
        sign(s, rng.uniform(c.left, c.right - 20), horizon + s.span(-10, 10), s.span(16, 26), s.span(10, 15))
    return Layout(("park", "tree", "grass"), horizon, (s.span(7, 11), s.span(36, 58)))


def facade(s: Stage) -> Layout:
    """Paint walls that fill the view, with windows, joints, pipes, air conditioners, signs and a pavement."""
    c, rng = s.canvas, s.rng
    foot = c.bottom - c.height * rng.uniform(0.12, 0.3)
    ground(s, foot - 3, s.warmth(-1, 5), rng.uniform(0.2, 0.5), (0.5, 0.5, 0.48))
    x = c.left - s.span(0, 20)
    while x < c.right:
        wide = s.span(50, 110)
        building(s, x, c.top - s.span(0, 10), x + wide, foot)
        x += wide
    for _ in range(int(rng.integers(1, 4))):
        unit(s, rng.uniform(c.left, c.right), rng.uniform(c.top, foot - 10))
    for _ in range(int(rng.integers(1, 3))):
        sign(s, rng.uniform(c.left, c.right - 30), rng.uniform(c.top, foot - 20), s.span(20, 45), s.span(12, 20))
    if rng.random() < 0.5:
        y = rng.uniform(c.top, foot)
        c.part = "fixture"
        c.paint(c.capsule(c.left, y, c.right, y, s.span(0.6, 1.6)), s.warmth(3, 16), 0.93, s.colour((0.5, 0.4, 0.35)))
    if rng.random() < 0.5:
        fence(s, c.left, c.right, foot + s.span(1, 4), s.span(9, 16))
    return Layout(("building", "wall", "window"), foot - 2, (s.span(34, 44), s.span(42, 56)))


def above(s: Stage) -> Layout:
    """Paint a road with marks, roofs and trees from above."""
    c, rng = s.canvas, s.rng
    whole = c.whole()
    base, rough = s.warmth(-3, 2), rng.uniform(0.3, 0.7)
    soil = texture(rng, "soil", *c.shape) + 0.8 * texture(rng, "cloud", *c.shape)
    rgb = None
    if c.rgb is not None:
        rgb = np.array(s.colour((0.35, 0.4, 0.25)))[:, None, None] * (1 + 0.2 * texture(s.colour_rng, "soil", *c.shape))
    c.part = "ground"
    c.paint(whole, base + rough * soil, 0.96, rgb)
    angle = rng.uniform(0, np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    middle = np.array([c.left + c.width * rng.uniform(0.3, 0.7), c.top + c.height * rng.uniform(0.3, 0.7)])
    reach = c.width + c.height

    def place(u: float, v: float) -> tuple[float, float]:
        x, y = middle + u * along + v * across
        return float(x), float(y)

    def slab(u: float, v: float, length: float, width: float) -> list[tuple[float, float]]:
        return [place(u, v), place(u + length, v), place(u + length, v + width), place(u, v + width)]

    half = s.span(9, 15)
    warm, white = s.warmth(1, 3 + 7 * s.weather.sun), s.colour((0.85, 0.85, 0.8), 0.04)
    c.part = "road"
    c.paint(c.polygon(slab(-reach, -half, 2 * reach, 2 * half)), warm, 0.95, s.colour((0.3, 0.3, 0.32), 0.03))
    cool = warm - rng.uniform(0.8, 3)
    for v in (-half + 1, half - 1.8):
        c.paint(c.polygon(slab(-reach, v, 2 * reach, 0.8)), cool, 0.92, white)
    for u in np.arange(-reach / 2, reach / 2, s.span(9, 14)):
        c.paint(c.polygon(slab(float(u), -0.5, s.span(4, 6), 1.0)), cool, 0.92, white)
    for side in (-1, 1):
        v, u = side * (half + s.span(4, 9)), -reach / 2
        while u < reach / 2:
            length, width = s.span(24, 50), s.span(20, 40)
            if rng.random() < 0.6:
                _roof(s, slab, u, v if side > 0 else v - width, length, width)
            else:
                x, y = place(u + length / 2, v + side * width / 2)
                for _ in range(3):
                    r = s.span(6, 13)
                    foliage(s, x + s.span(-8, 8), y + s.span(-8, 8), r, r, s.warmth(-2, 1), 0.85)
            u += length + s.span(2, 10)
    return Layout(("aerial", "road", "roof"), c.top, (s.span(5, 7), s.span(5, 7)), from_above=True)


def _roof(
    s: Stage, slab: Callable[..., list[tuple[float, float]]], u: float, v: float, length: float, width: float
) -> None:
    """Paint two slopes of different temperature, a rim, seams, skylights and vents."""
    c, rng = s.canvas, s.rng
    c.part = "building"
    red = s.colour((0.5, 0.35, 0.3), 0.1)
    c.paint(c.polygon(slab(u - 1, v - 1, length + 2, width + 2)), s.warmth(-4, 2), 0.93, s.colour((0.6, 0.6, 0.6)))
    metal = 0.7 if rng.random() < 0.2 else 0.94
    for part in (0.0, 0.5):
        c.paint(c.polygon(slab(u, v + part * width, length, width / 2)), s.warmth(-2, 6), metal, red)
        c.shade(c.polygon(slab(u, v + part * width, length, width / 2)), s.colour_rng.uniform(0.7, 1.2))
    seam, warmth = s.span(4, 8), s.warmth(-3, 5)
    if rng.random() < 0.5:
        for at in np.arange(u + seam, u + length - 1, seam):
            c.paint(c.polygon(slab(float(at), v, 0.7, width)), warmth, None, None)
    for _ in range(int(rng.integers(1, 5))):
        a, b = rng.uniform(0.1, 0.8) * length, rng.uniform(0.1, 0.8) * width
        c.paint(
            c.polygon(slab(u + a, v + b, s.span(2, 5), s.span(2, 4))), s.warmth(-5, 12), 0.9, s.colour((0.4, 0.45, 0.5))
        )


def _skyline(s: Stage, horizon: float, houses: float) -> None:
    """Paint houses and trees side by side along the horizon; `houses` is the share of houses."""
    c, rng = s.canvas, s.rng
    x = c.left - s.span(0, 20)
    while x < c.right:
        wide = s.span(22, 55)
        if rng.random() < houses:
            building(s, x, horizon - s.span(18, 55), x + wide, horizon + s.span(1, 4))
        else:
            leaf = s.warmth(-2.5, 1)
            for part in (0.2, 0.5, 0.8):
                r = s.span(9, 20)
                foliage(s, x + wide * part, horizon - r * 0.5, r * 1.2, r, leaf, rng.uniform(0.7, 1.0))
        x += wide + (s.span(0, 12) if rng.random() < 0.4 else 0.0)


PLACES: dict[str, Callable[[Stage], Layout]] = {"street": street, "park": park, "facade": facade, "aerial": above}
