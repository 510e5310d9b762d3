"""Static scenery: sky, ground, roads, buildings, trees, poles, wires, fences, signs.

Each painter takes a `Stage` and paints a surface with temperature, emissivity and colour on its canvas. Thermal detail
is drawn from the stage's `rng` and colours from its `colour_rng`, a separate stream, so that the thermal scene does not
depend on whether the visible view is painted. Lengths are HR pixels and are multiplied by the stage's zoom.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.random import Generator

from lit_thermal.data.simulator.canvas import SUPERSAMPLING, Array, Canvas, Colour, Cover
from lit_thermal.data.simulator.texture import Kind, perspective_texture, texture


@dataclass(frozen=True)
class Weather:
    """Weather, which determines the temperatures of a scene.

    Attributes:
        ambient: air temperature in Kelvin.
        sky: apparent temperature in Kelvin of the clear zenith in the band, which surfaces reflect.
        sun: sunshine from 0 at night to 1 in full sun, which warms surfaces and lights the visible view.
    """

    ambient: float
    sky: float
    sun: float


@dataclass(frozen=True)
class Stage:
    """Context of all painters: the canvas, the two random streams, the weather and the scale."""

    canvas: Canvas
    rng: Generator
    colour_rng: Generator
    weather: Weather
    zoom: float

    def warmth(self, low: float, high: float) -> float:
        """Draw a surface temperature between `low` and `high` Kelvin above the air temperature."""
        return self.weather.ambient + float(self.rng.uniform(low, high))

    def colour(self, base: Colour, spread: float = 0.08) -> Colour:
        """Draw a reflectance near `base`, with standard deviation `spread` in lightness and less in hue."""
        light, hue = self.colour_rng.normal(0, spread), self.colour_rng.normal(0, 0.4 * spread, 3)
        r, g, b = (float(np.clip(c + light + h, 0.02, 0.98)) for c, h in zip(base, hue, strict=True))
        return r, g, b

    def span(self, low: float, high: float) -> float:
        """Draw a length in HR pixels, between `low` and `high` at zoom 1."""
        return float(self.rng.uniform(low, high)) * self.zoom


def sky(s: Stage, horizon: float) -> None:
    """Paint the sky above `horizon`, with a cold zenith, a warmer horizon and clouds."""
    c, rng = s.canvas, s.rng
    c.part = "sky"
    cover = c.box(c.left, c.top, c.right, horizon)
    if cover is None:
        return
    height = np.clip((horizon - c.y[cover.rows]) / (horizon - c.top + 1e-6), 0, 1)[:, None]
    low = s.warmth(-7, -3)
    zenith = min(low, s.weather.sky)
    cloud = np.maximum(texture(rng, "cloud", *cover.alpha.shape) + rng.uniform(-1.0, 0.6), 0)
    kelvin = low + (zenith - low) * height ** rng.uniform(0.5, 0.9) + cloud * rng.uniform(0.3, 2.0)
    rgb = None
    if c.rgb is not None:
        blue = np.array([0.35, 0.55, 0.9])[:, None, None] * (1 - 0.35 * height)
        haze = np.clip(1 - height * 1.6, 0, 1) * 0.35
        white = np.clip(cloud * 0.8 + haze, 0, 1) * s.colour_rng.uniform(0.3, 1.0)
        rgb = (blue + (0.95 - blue) * white).astype(np.float32)
    c.paint(cover, kelvin, 1.0, rgb)


def ground(s: Stage, horizon: float, kelvin: float, rough: float, base: Colour, kind: Kind = "soil") -> None:
    """Paint a plane from `horizon` to the lower edge, with a grain that becomes coarser towards the viewer."""
    c = s.canvas
    c.part = "ground"
    cover = c.box(c.left, horizon, c.right, c.bottom)
    if cover is None:
        return
    depth = _depth(c, cover, horizon)
    columns, centre = cover.alpha.shape[1], s.rng.uniform(0.3, 0.7) * c.shape[1]
    grain = perspective_texture(s.rng, kind, depth, columns, centre)
    patch = perspective_texture(s.rng, "cloud", depth, columns, centre)
    fade = np.minimum(1.6 / depth, 1.0).astype(np.float32)[:, None]
    rgb = None
    if c.rgb is not None:
        other = perspective_texture(s.colour_rng, "soil", depth, columns, centre)
        rgb = np.array(s.colour(base))[:, None, None] * (1 + 0.16 * other * fade + 0.1 * patch)
    c.paint(cover, kelvin + rough * (grain * fade + 0.9 * patch), s.rng.uniform(0.93, 0.98), rgb)


def _depth(c: Canvas, cover: Cover, horizon: float) -> np.ndarray:
    """Return the distance of each row of the ground, 1 at the canvas's lower edge."""
    return (c.bottom - horizon) / np.maximum(c.y[cover.rows] - horizon, 0.7).astype(np.float64)


def band(
    s: Stage, x_far: float, x_near: float, half: float, horizon: float, depths: tuple[float, float]
) -> Cover | None:
    """Return the cover of a strip of ground that runs to the vanishing point (x_far, horizon).

    The strip extends between two depths (near first); at depth 1 it reaches `half` to each side of `x_near`.
    """
    c = s.canvas
    points = []
    for depth, side in ((depths[0], -1), (depths[0], 1), (depths[1], 1), (depths[1], -1)):
        x = x_far + (x_near - x_far + side * half) / depth
        points.append((x, horizon + (c.bottom - horizon) / depth))
    return c.polygon(points)


def road(s: Stage, horizon: float) -> None:
    """Paint asphalt to the vanishing point, with kerbs, lane marks and sometimes a crossing."""
    c, rng = s.canvas, s.rng
    c.part = "road"
    x_far = c.left + c.width * rng.uniform(0.25, 0.75)
    x_near = c.left + c.width * rng.uniform(0.2, 0.8)
    half = c.width * rng.uniform(0.3, 0.6)
    warm = s.warmth(1, 3 + 7 * s.weather.sun)
    kerb = s.warmth(-2, 2)
    grey = s.colour((0.3, 0.3, 0.32), 0.03)
    for side in (-1, 1):
        strip = band(s, x_far, x_near + side * half * 1.06, half * 0.05, horizon, (0.9, 40))
        c.paint(strip, kerb, 0.95, s.colour((0.6, 0.6, 0.58), 0.04))
    asphalt = band(s, x_far, x_near, half, horizon, (0.9, 60))
    if asphalt is None:
        return
    grain = texture(rng, "soil", *asphalt.alpha.shape)
    c.paint(asphalt, warm + 0.25 * grain, 0.95, grey)
    paint_cools = warm - rng.uniform(0.6, 2.5)
    white = s.colour((0.85, 0.85, 0.8), 0.04)
    for lane in (-0.92, 0.0, 0.92):
        solid = lane != 0.0
        marks = [(0.9, 30.0)] if solid else [(z, z * 1.25) for z in 0.9 * 1.6 ** np.arange(7)]
        for near, far in marks:
            strip = band(s, x_far, x_near + lane * half, half * 0.022, horizon, (near, far))
            c.paint(strip, paint_cools, 0.92, white)
    if rng.random() < 0.5:
        near = rng.uniform(1.1, 2.0)
        for lane in np.arange(-0.8, 0.81, 0.2):
            strip = band(s, x_far, x_near + lane * half, half * 0.055, horizon, (near, near * 1.35))
            c.paint(strip, paint_cools, 0.92, white)


def building(s: Stage, x0: float, y0: float, x1: float, y1: float) -> None:
    """Paint a wall with windows, frames, a cornice, and sometimes courses, a pipe and a warm unit; no perspective."""
    c, rng, z = s.canvas, s.rng, s.zoom
    c.part = "building"
    wall = c.box(x0, y0, x1, y1)
    if wall is None:
        return
    base = s.warmth(-1, 4 + 3 * s.weather.sun)
    tint = s.colour((0.55, 0.48, 0.42), 0.12)
    c.paint(wall, base + 0.22 * texture(rng, "cloud", *wall.alpha.shape), rng.uniform(0.9, 0.96), tint)
    course = s.span(2.5, 5)
    if rng.random() < 0.6:  # courses of stone, with joints visible in the thermal and the visible view
        joint = rng.uniform(-0.9, 0.9)
        c.warm(c.grid((x0, y0, x1, y1), (x0, 1e4, 1e4), (y0, course, 0.8)), joint)
        c.shade(c.grid((x0, y0, x1, y1), (x0, 1e4, 1e4), (y0, course, 0.7)), 0.8)
    wide, high = s.span(5, 10), s.span(6, 13)
    pitch_x, pitch_y = wide * rng.uniform(1.5, 2.4), high * rng.uniform(1.4, 2.0)
    inside = (x0 + s.span(1.5, 4), y0 + s.span(2, 5), x1 - s.span(1.5, 4), y1 - s.span(1, 5))
    glass = s.warmth(-6, 3)
    frame = s.warmth(-2, 5)
    columns, rows = (inside[0], pitch_x, wide), (inside[1], pitch_y, high)
    c.paint(c.grid(inside, columns, rows), frame, 0.9, s.colour((0.75, 0.75, 0.72)))
    rim = rng.uniform(0.6, 1.1)
    panes = int(rng.integers(1, 3))
    pane = (wide - rim * (panes + 1)) / panes
    if pane > 0.6:
        for i in range(panes):
            first = (inside[0] + rim + i * (pane + rim), pitch_x, pane)
            c.paint(
                c.grid(inside, first, (inside[1] + rim, pitch_y, high - 2 * rim)),
                glass,
                0.86,
                s.colour((0.16, 0.2, 0.25), 0.03),
            )
    for _ in range(int(rng.integers(0, 4))):  # rooms with light or heating turned on
        column, row = rng.integers(0, (max(1, int((x1 - x0) / pitch_x)), max(1, int((y1 - y0) / pitch_y))))
        left, top = inside[0] + column * pitch_x + rim, inside[1] + row * pitch_y + rim
        room = c.box(left, top, min(left + wide - 2 * rim, x1), min(top + high - 2 * rim, y1))
        c.paint(room, s.warmth(2, 8), 0.9, s.colour((0.9, 0.8, 0.5)) if s.colour_rng.random() < 0.5 else None)
    c.paint(c.box(x0 - 0.8, y0 - s.span(0.8, 2), x1 + 0.8, y0 + 0.7), s.warmth(-3, 3), 0.93, s.colour(tint, 0.1))
    if rng.random() < 0.5:
        x = rng.uniform(x0, x1)
        c.paint(
            c.capsule(x, y0, x, y1, 0.55 * z), s.warmth(-4, 6), 0.6 + 0.35 * rng.random(), s.colour((0.6, 0.6, 0.6))
        )
    if rng.random() < 0.5:
        unit(s, rng.uniform(x0, x1), rng.uniform(y0, y1))


def unit(s: Stage, x: float, y: float) -> None:
    """Paint an air conditioner, a warm box with a grille."""
    w, h = s.span(5, 9), s.span(4, 6)
    s.canvas.part = "fixture"
    s.canvas.paint(s.canvas.box(x, y, x + w, y + h), s.warmth(3, 9), 0.92, s.colour((0.8, 0.8, 0.78)))
    grille = s.canvas.grid((x + 1, y + 1, x + w - 1, y + h - 1), (x, 1e4, 1e4), (y + 1, 1.6, 0.8))
    s.canvas.paint(grille, s.warmth(-1, 14), 0.95, s.colour((0.3, 0.3, 0.3)))


def foliage(s: Stage, x: float, y: float, rx: float, ry: float, kelvin: float, dense: float = 0.9) -> None:
    """Paint a crown or a bush, with leaves in clusters and holes towards the rim."""
    c = s.canvas
    c.part = "plant"
    cover = c.ellipse(x, y, rx, ry)
    if cover is None:
        return
    leaves = texture(s.rng, "leaf", *cover.alpha.shape)
    u, v = (c.x[cover.cols] - x) / rx, (c.y[cover.rows, None] - y) / ry
    alpha = np.clip((dense + 0.5 * leaves - u * u - v * v) * 2.0, 0, 1) * cover.alpha
    light = texture(s.rng, "leaf", *cover.alpha.shape)
    rgb = None
    if c.rgb is not None:
        green = np.array(s.colour((0.2, 0.33, 0.13), 0.04))[:, None, None]
        rgb = green * np.clip(1 + 0.35 * light - 0.3 * v + 0.2 * texture(s.colour_rng, "grass", *light.shape), 0.2, 2)
    c.paint(Cover(cover.rows, cover.cols, alpha), kelvin + 0.35 * light - 0.4 * v, 0.97, rgb)


def tree(s: Stage, x: float, y: float, height: float, bare: bool = False) -> None:
    """Paint a tree with trunk, branches and, unless `bare`, leaves, on the ground at (x, y)."""
    rng, c = s.rng, s.canvas
    c.part = "plant"
    bark, leaf = s.warmth(-0.5, 3.5), s.warmth(-2.0, 1.5)
    brown = s.colour((0.3, 0.24, 0.18), 0.05)
    tips: list[tuple[float, float]] = []

    def grow(x0: float, y0: float, angle: float, length: float, r: float, order: int) -> None:
        x1, y1 = x0 + length * np.sin(angle), y0 - length * np.cos(angle)
        c.paint(c.capsule(x0, y0, x1, y1, r, r * 0.65), bark, 0.95, brown)
        tips.append((x1, y1))
        if order == 0:
            return
        for side in (-1, 1):
            turn = side * rng.uniform(0.25, 0.75) + rng.normal(0, 0.1)
            grow(x1, y1, angle + turn, length * rng.uniform(0.6, 0.85), r * 0.65, order - 1)

    grow(x, y, rng.normal(0, 0.08), height * rng.uniform(0.3, 0.4), height * rng.uniform(0.025, 0.05), 4 if bare else 2)
    if not bare:
        for tip_x, tip_y in tips[1:]:
            r = height * rng.uniform(0.13, 0.22)
            foliage(s, tip_x, tip_y, r * 1.2, r, leaf, dense=rng.uniform(0.5, 0.9))


def pole(s: Stage, x: float, y: float, height: float) -> None:
    """Paint a mast with an arm and a lamp."""
    c, rng = s.canvas, s.rng
    c.part = "fixture"
    kelvin, grey, r = s.warmth(-3, 4), s.colour((0.5, 0.5, 0.5)), s.span(0.4, 1.1)
    c.paint(c.capsule(x, y, x, y - height, r * 1.2, r * 0.7), kelvin, 0.9, grey)
    arm = s.span(4, 10) * (1 if rng.random() < 0.5 else -1)
    c.paint(c.capsule(x, y - height, x + arm, y - height - s.span(0, 2), r * 0.6), kelvin, 0.9, grey)
    c.paint(c.ellipse(x + arm, y - height, s.span(1.5, 2.5), s.span(0.8, 1.4)), s.warmth(-2, 14), 0.9, grey)


def wire(s: Stage, x0: float, y0: float, x1: float, y1: float, sag: float) -> None:
    """Paint a cable that hangs between two points."""
    kelvin, half = s.warmth(-1, 3), s.span(0.25, 0.45)
    s.canvas.part = "fixture"
    t = np.linspace(0, 1, 9)
    xs, ys = x0 + (x1 - x0) * t, y0 + (y1 - y0) * t + 4 * sag * t * (1 - t)
    for i in range(8):
        line = s.canvas.capsule(xs[i], ys[i], xs[i + 1], ys[i + 1], half)
        s.canvas.paint(line, kelvin, 0.9, (0.1, 0.1, 0.1))


def fence(s: Stage, x0: float, x1: float, y: float, height: float) -> None:
    """Paint a fence of upright bars and two rails."""
    kelvin, c = s.warmth(-3, 4), s.canvas
    c.part = "fixture"
    colour = s.colour((0.45, 0.42, 0.4), 0.15)
    bars = (x0, s.span(4.5, 7.0), s.span(0.9, 1.6))
    c.paint(c.grid((x0, y - height, x1, y), bars, (y - height, 1e4, 1e4)), kelvin, 0.9, colour)
    for at in (0.15, 0.8):
        c.paint(c.box(x0, y - height * at - 0.9, x1, y - height * at), kelvin, 0.9, colour)


def lattice(s: Stage, x: float, y: float, height: float) -> None:
    """Paint a pylon of braced struts."""
    kelvin, c = s.warmth(-1, 4), s.canvas
    c.part = "fixture"
    half, top, levels = height * 0.16, height * 0.03, 6
    rungs = [(y - height * i / levels, half + (top - half) * i / levels) for i in range(levels + 1)]
    for (y0, w0), (y1, w1) in pairwise(rungs):
        for a, b in ((-w0, -w1), (w0, w1), (-w0, w1), (w0, -w1)):
            c.paint(c.capsule(x + a, y0, x + b, y1, 0.35), kelvin, 0.9, (0.4, 0.4, 0.42))
    for i in (3, 4, 5):
        c.paint(
            c.capsule(x - height * 0.2, rungs[i][0], x + height * 0.2, rungs[i][0], 0.4), kelvin, 0.9, (0.4, 0.4, 0.42)
        )


def sign(s: Stage, x: float, y: float, width: float, height: float, visibility: float = 0.7) -> None:
    """Paint a board with rows of marks like writing, which are visible thermally only with probability `visibility`."""
    c, rng = s.canvas, s.rng
    c.part = "fixture"
    base = s.warmth(-4, 4)
    c.paint(c.box(x, y, x + width, y + height), base, rng.uniform(0.85, 0.95), s.colour((0.75, 0.7, 0.6), 0.2))
    contrast = float(rng.choice([-1, 1]) * rng.uniform(1.5, 4)) if rng.random() < visibility else None
    ink = s.colour((0.1, 0.1, 0.2), 0.08)
    line = max(4.0, s.span(4, 7))
    for top in np.arange(y + 1.5, y + height - line, line * 1.4):
        glyphs(c, rng, x + 1.5, float(top), width - 3, line, None if contrast is None else base + contrast, ink)


def glyphs(
    c: Canvas, rng: Generator, x: float, y: float, width: float, line: float, kelvin: float | None, rgb: Colour | None
) -> None:
    """Paint one line of marks of 3 x 5 cells, about `line` pixels high."""
    cell = max(1, round(line / 5 * SUPERSAMPLING))
    letters = int(width * SUPERSAMPLING // (4 * cell))
    if letters < 1:
        return
    bits = np.zeros((5, 4 * letters), np.float32)
    for i in range(letters):
        bits[:, 4 * i : 4 * i + 3] = rng.random((5, 3)) < 0.6
    c.paint(stamp(c, x, y, np.kron(bits, np.ones((cell, cell), np.float32))), kelvin, None, rgb)


def stamp(c: Canvas, x: float, y: float, alpha: Array) -> Cover | None:
    """Return a cover with the given subpixels and its upper left corner at the subpixel nearest to (x, y)."""
    r0, c0 = round((y - c.top) * SUPERSAMPLING), round((x - c.left) * SUPERSAMPLING)
    r1, c1 = min(r0 + alpha.shape[0], c.shape[0]), min(c0 + alpha.shape[1], c.shape[1])
    top, left = max(r0, 0), max(c0, 0)
    if r1 <= top or c1 <= left:
        return None
    return Cover(slice(top, r1), slice(left, c1), alpha[top - r0 : r1 - r0, left - c0 : c1 - c0])
