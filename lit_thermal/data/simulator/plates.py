"""Hot metal before a still camera: a sheet after contact, and parts that cool.

`sheet` and `touch` make the scene in which conduction explains the change in time.

The sheet fills the view and has one coat of matt paint, so that all that the camera sees is the temperature, and all
of the temperature obeys the heat equation. At 1 mm per pixel and 30 frames per second the diffusivity of a metal in
mm^2/s is 30 times that in pixels^2 per frame: stainless steel has 4 mm^2/s (0.13) and carbon steel 12 (0.4).
"""

import numpy as np

from lit_thermal.data.simulator.canvas import SUPERSAMPLING, Canvas, Cover
from lit_thermal.data.simulator.heat import CoolingParts, HeatField, Real
from lit_thermal.data.simulator.places import Layout
from lit_thermal.data.simulator.scenery import Stage, stamp

STEEL = (4 / 30, 12 / 30)
"""Diffusivity of stainless and of carbon steel in pixels^2 per frame, at 1 mm per pixel and 30 frames per second."""


def sheet(s: Stage) -> Layout:
    """Paint a sheet of metal at the temperature of the air, which has no thermal detail of its own."""
    s.canvas.paint(s.canvas.whole(), s.weather.ambient, 0.95, s.colour((0.2, 0.2, 0.2), 0.05))
    return Layout(("hot object",), s.canvas.top, (s.span(5, 7), s.span(5, 7)), from_above=True)


def touch(s: Stage, field: HeatField, count: int) -> None:
    """Deposit the heat of `count` contacts on the sheet, which ended up to 6 frames before the clip.

    A contact has the shape of a rod's end, of a bar, of a ring, of an edge, of fingers or of a stamp with marks. It
    leaves 10 to 40 Kelvin; a quarter of the contacts are cold and leave a quarter of it.
    """
    rng = s.rng
    for _ in range(count):
        c = _blank(s)
        kelvin = float(rng.uniform(10, 40)) * (1.0 if rng.random() < 0.75 else -0.25)
        for cover, share in _covers(s, c):
            c.warm(cover, share * kelvin)
        field.deposit(_pixels(c), -float(rng.uniform(0, 6)))


def cooling_parts(s: Stage, count: int) -> CoolingParts:
    """Return the heat of `count` parts of 10 to 60 Kelvin, which fall to 1 / e of it in 4 to 60 frames each."""
    rng = s.rng
    field = CoolingParts(_pixels(s.canvas).shape)
    for _ in range(count):
        c = _blank(s)
        kelvin = float(rng.uniform(10, 60))
        for cover, share in _covers(s, c):
            c.warm(cover, share * kelvin)
        field.add(_pixels(c), 1 / float(np.exp(rng.uniform(np.log(4), np.log(60)))))
    return field


def _blank(s: Stage) -> Canvas:
    """Return an empty canvas of the size of the stage's."""
    return Canvas(s.canvas.left, s.canvas.top, s.canvas.width, s.canvas.height)


def _pixels(c: Canvas) -> Real:
    """Return the temperature of a canvas, averaged over each pixel."""
    height, width = (n // SUPERSAMPLING for n in c.shape)
    return c.kelvin.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING).mean((1, 3), dtype=np.float64)


def _covers(s: Stage, c: Canvas) -> list[tuple[Cover | None, float]]:
    """Return the areas of one contact, each with its share of the heat."""
    rng = s.rng
    x, y = rng.uniform(c.left, c.right), rng.uniform(c.top, c.bottom)
    angle = rng.uniform(0, np.pi)
    dx, dy = float(np.cos(angle)), float(np.sin(angle))
    kind = int(rng.integers(6))
    if kind == 0:
        return [(c.ellipse(x, y, s.span(1, 6), s.span(1, 6)), 1.0)]
    if kind == 1:
        half = s.span(4, 20)
        return [(c.capsule(x - half * dx, y - half * dy, x + half * dx, y + half * dy, s.span(0.4, 1.5)), 1.0)]
    if kind == 2:
        outer = s.span(3, 9)
        inner = outer * rng.uniform(0.5, 0.85)
        return [(c.ellipse(x, y, outer, outer), 1.0), (c.ellipse(x, y, inner, inner), -1.0)]
    if kind == 3:
        a, b = s.span(3, 12), s.span(3, 12)
        corners = [(a, b), (-a, b), (-a, -b), (a, -b)]
        return [(c.polygon([(x + u * dx - v * dy, y + u * dy + v * dx) for u, v in corners]), 1.0)]
    if kind == 4:
        r = s.span(0.8, 1.6)
        tips = [(x + 2.6 * r * i * dx, y + 2.6 * r * i * dy) for i in range(4)]
        return [(c.ellipse(u, v, r, r), float(rng.uniform(0.6, 1))) for u, v in tips]
    cell = max(1, round(s.span(0.5, 1.2) * SUPERSAMPLING))
    marks = (rng.random((int(rng.integers(4, 9)), int(rng.integers(6, 15)))) < 0.5).astype(np.float32)
    return [(stamp(c, x, y, np.kron(marks, np.ones((cell, cell), np.float32))), 1.0)]
