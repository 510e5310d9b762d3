"""Running vehicles, seen from the side, from behind and from above.

Engine, tyres, brakes, exhaust and underside are warm; glass reflects the cold sky; seams and plates are fine detail.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from lit_thermal.data.simulator.bodies import Shape
from lit_thermal.data.simulator.canvas import Canvas, Colour
from lit_thermal.data.simulator.scenery import glyphs

Points = list[tuple[float, float]]
BLACK: Colour = (0.06, 0.06, 0.06)
GLASS: Colour = (0.14, 0.17, 0.21)


@dataclass
class Car(Shape):
    """A car seen from the side, `length` HR pixels long; positions of its parts are fractions of the length."""

    length: float
    facing: float
    kelvin: dict[str, float]
    colour: Colour
    tag: str = "car"
    bounds: tuple[float, float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        half = 0.56 * self.length
        self.bounds = (-half, -0.42 * self.length, half, 0.06 * self.length)

    @classmethod
    def draw(
        cls, rng: Generator, colour_rng: Generator, ambient: float, length: float, facing: float, extra: float
    ) -> "Car":
        """Draw a car that drives to the right (`facing` 1) or left (-1), with running parts `extra` Kelvin hotter."""
        return cls(length, facing, engine_heat(rng, ambient, extra), _paint(colour_rng))

    def paint(self, canvas: Canvas, time: float) -> None:
        """Paint the car; coordinates are for a car facing right and are mirrored if it faces left."""
        c, n, k, f = canvas, self.length, self.kelvin, self.facing

        def poly(points: Points, kelvin: float, emissivity: float, rgb: Colour | None) -> None:
            c.paint(c.polygon([(f * x * n, y * n) for x, y in points]), kelvin, emissivity, rgb)

        def disc(x: float, y: float, r: float, kelvin: float, rgb: Colour | None) -> None:
            c.paint(c.ellipse(f * x * n, y * n, r * n, r * n), kelvin, 0.92, rgb)

        poly([(-0.5, 0.035), (0.5, 0.035), (0.47, -0.02), (-0.47, -0.02)], k["glow"], 0.95, BLACK)
        hull = [(-0.5, -0.2), (-0.48, -0.05), (0.5, -0.05), (0.5, -0.14), (0.46, -0.19), (0.2, -0.22)]
        poly(hull, k["body"], 0.9, self.colour)
        poly([(-0.36, -0.21), (-0.26, -0.35), (0.08, -0.35), (0.24, -0.21)], k["roof"], 0.9, self.colour)
        poly([(0.2, -0.2), (0.46, -0.185), (0.47, -0.15), (0.22, -0.15)], k["engine"], 0.93, None)
        poly([(-0.32, -0.22), (-0.235, -0.33), (-0.085, -0.33), (-0.09, -0.22)], k["glass"], 0.85, GLASS)
        poly([(-0.06, -0.22), (-0.06, -0.33), (0.06, -0.33), (0.19, -0.22)], k["glass"], 0.85, GLASS)
        for x in (-0.08, 0.16):  # door seams
            c.paint(c.capsule(f * x * n, -0.2 * n, f * x * n, -0.06 * n, 0.35), k["body"] - 1.2, 0.9, BLACK)
        c.paint(c.capsule(-f * 0.45 * n, -0.12 * n, f * 0.48 * n, -0.12 * n, 0.35), k["body"] + 0.9, 0.9, None)
        for x in (-0.31, 0.31):
            disc(x, -0.045, 0.088, k["tyre"], BLACK)
            disc(x, -0.045, 0.055, k["rim"], (0.6, 0.6, 0.6))
            disc(x, -0.045, 0.02, k["brake"], None)
        disc(-0.5, -0.03, 0.022, k["exhaust"], None)
        poly([(0.45, -0.16), (0.49, -0.16), (0.49, -0.12), (0.45, -0.12)], k["lamp"], 0.9, (0.95, 0.95, 0.8))


@dataclass
class Rear(Shape):
    """A car or truck seen from behind, `width` HR pixels wide and `tall` times as high."""

    width: float
    tall: float
    kelvin: dict[str, float]
    colour: Colour
    plate: int
    tag: str = "car"
    bounds: tuple[float, float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        half = 0.56 * self.width
        self.bounds = (-half, -(self.tall + 0.1) * self.width, half, 0.05 * self.width)

    @classmethod
    def draw(cls, rng: Generator, colour_rng: Generator, ambient: float, width: float, extra: float) -> "Rear":
        """Draw a vehicle; `plate` is the seed of the marks on its number plate."""
        tall = float(rng.uniform(0.75, 1.35))
        heat, plate = engine_heat(rng, ambient, extra), int(rng.integers(1 << 30))
        return cls(width, tall, heat, _paint(colour_rng), plate, "car" if tall < 1.05 else "truck")

    def paint(self, canvas: Canvas, time: float) -> None:
        """Paint underside, tyres, hull, window, seams, lamps, plate and exhaust."""
        c, n, k, top = canvas, self.width, self.kelvin, -self.tall

        def box(x0: float, y0: float, x1: float, y1: float, kelvin: float, rgb: Colour) -> None:
            c.paint(c.box(x0 * n, y0 * n, x1 * n, y1 * n), kelvin, 0.93, rgb)

        def poly(points: Points, kelvin: float, emissivity: float, rgb: Colour) -> None:
            c.paint(c.polygon([(x * n, y * n) for x, y in points]), kelvin, emissivity, rgb)

        box(-0.42, -0.16, 0.42, 0.0, k["glow"], BLACK)
        for x in (-0.36, 0.36):
            box(x - 0.09, -0.22, x + 0.09, 0.03, k["tyre"], BLACK)
        waist = top * 0.55
        poly([(-0.5, -0.12), (-0.48, waist), (0.48, waist), (0.5, -0.12)], k["body"], 0.9, self.colour)
        poly([(-0.48, waist), (-0.38, top), (0.38, top), (0.48, waist)], k["roof"], 0.9, self.colour)
        poly([(-0.4, top * 0.6), (-0.33, top * 0.94), (0.33, top * 0.94), (0.4, top * 0.6)], k["glass"], 0.85, GLASS)
        for y in (0.46, 0.24):
            seam = c.capsule(-0.46 * n, top * y * n, 0.46 * n, top * y * n, 0.4)
            c.paint(seam, k["body"] - 1.0, 0.9, BLACK)
        for x in (-0.44, 0.34):
            box(x, top * 0.52, x + 0.1, top * 0.38, k["lamp"], (0.8, 0.1, 0.1))
        box(-0.17, top * 0.42, 0.17, top * 0.28, k["body"] + 0.8, (0.9, 0.9, 0.85))
        marks = np.random.default_rng(self.plate)
        glyphs(c, marks, -0.15 * n, top * 0.41 * n, 0.3 * n, -top * 0.12 * n, k["body"] - 1.5, BLACK)
        c.paint(c.ellipse(0.28 * n, -0.09 * n, 0.035 * n, 0.025 * n), k["exhaust"], 0.9, None)


@dataclass
class Top(Shape):
    """A car seen from above, with its front towards `angle` (radians)."""

    length: float
    angle: float
    kelvin: dict[str, float]
    colour: Colour
    tag: str = "car"
    bounds: tuple[float, float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        r = 0.58 * self.length
        self.bounds = (-r, -r, r, r)

    @classmethod
    def draw(
        cls, rng: Generator, colour_rng: Generator, ambient: float, length: float, angle: float, extra: float
    ) -> "Top":
        """Draw a car."""
        return cls(length, angle, engine_heat(rng, ambient, extra), _paint(colour_rng))

    def paint(self, canvas: Canvas, time: float) -> None:
        """Paint slabs across the car's axis."""
        n, k = self.length, self.kelvin
        cos, sin = float(np.cos(self.angle)), float(np.sin(self.angle))

        def slab(u0: float, u1: float, half: float, kelvin: float, emissivity: float, rgb: Colour | None) -> None:
            corners = [(u0, -half), (u1, -half), (u1, half), (u0, half)]
            points = [(n * (u * cos - v * sin), n * (u * sin + v * cos)) for u, v in corners]
            canvas.paint(canvas.polygon(points), kelvin, emissivity, rgb)

        slab(-0.52, 0.52, 0.22, k["glow"], 0.95, BLACK)
        slab(-0.5, 0.5, 0.2, k["body"], 0.9, self.colour)
        slab(0.2, 0.47, 0.15, k["engine"], 0.92, None)
        slab(0.05, 0.18, 0.17, k["glass"], 0.85, GLASS)
        slab(-0.26, 0.05, 0.16, k["roof"], 0.9, self.colour)
        slab(-0.36, -0.26, 0.16, k["glass"], 0.85, GLASS)
        slab(-0.53, -0.48, 0.05, k["exhaust"], 0.9, None)


def engine_heat(rng: Generator, ambient: float, extra: float) -> dict[str, float]:
    """Draw the temperatures of a running vehicle's parts in Kelvin; `extra` is added, in part, to running parts."""
    body = ambient + rng.uniform(-2, 5)
    return {
        "body": body,
        "roof": body + rng.uniform(-3, 2),
        "glass": ambient + rng.uniform(-8, 2),
        "glow": ambient + rng.uniform(3, 10) + extra * 0.3,
        "tyre": ambient + rng.uniform(4, 16),
        "rim": ambient + rng.uniform(-3, 10),
        "brake": ambient + rng.uniform(10, 40) + extra,
        "engine": body + rng.uniform(4, 14) + extra * 0.5,
        "exhaust": ambient + rng.uniform(20, 60) + extra,
        "lamp": body + rng.uniform(0, 8),
    }


def _paint(colour_rng: Generator) -> Colour:
    """Draw the colour of a car's paint."""
    r, g, b = np.clip(colour_rng.uniform(0.08, 0.9) + colour_rng.normal(0, 0.15, 3), 0.03, 0.95)
    return float(r), float(g), float(b)
