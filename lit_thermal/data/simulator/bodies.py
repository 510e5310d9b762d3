"""Things that move: people, animals, vehicles, hot slabs; and what stands before them.

A body is painted around its own origin, the point where it touches the ground (its centre, seen from above). All its
looks are drawn when the scene is made, so that painting it at any time needs no randomness.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from lit_thermal.data.simulator.canvas import Canvas, Colour
from lit_thermal.data.simulator.scenery import Stage, fence, glyphs, pole, tree

SKIN = 306.0
"""Apparent temperature of bare skin in mild air, Kelvin."""


class Shape(ABC):
    """How a body looks.

    Attributes:
        tag: the word for it.
        bounds: (left, top, right, bottom) around the origin, HR pixels, that hold it at all times.
        rigid: it looks the same at all times, so that it is painted once and then only moved.
    """

    tag: str = "object"
    rigid: bool = True
    bounds: tuple[float, float, float, float]

    @abstractmethod
    def paint(self, canvas: Canvas, time: float) -> None:
        """Paint it as it looks at `time` (HR frames), its origin at (0, 0)."""


@dataclass(frozen=True)
class Path:
    """Motion of a body's origin over the world: position ``start + velocity * t`` in HR pixels and frames."""

    start: tuple[float, float]
    velocity: tuple[float, float]

    def at(self, time: float) -> tuple[float, float]:
        """Position at `time`."""
        return self.start[0] + self.velocity[0] * time, self.start[1] + self.velocity[1] * time


@dataclass(frozen=True)
class Body:
    """A shape on its way.

    Attributes:
        shape: how it looks.
        path: how it moves over the world.
        nearness: how much faster than the background it moves when the camera turns or shifts; 1 is the background.
        is_object: it has a box, a mask and a tag; scenery in front has none.
    """

    shape: Shape
    path: Path
    nearness: float = 1.0
    is_object: bool = True


@dataclass
class Person(Shape):
    """A walking person: bare face and hands, clothes of three temperatures, limbs that swing."""

    height: float
    facing: float
    stride: float
    phase: float
    kelvin: dict[str, float]
    colours: dict[str, Colour]
    bag: bool
    tag: str = "person"
    rigid: bool = False
    bounds: tuple[float, float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        h = self.height
        self.bounds = (-0.36 * h, -1.04 * h, 0.36 * h, 0.04 * h)

    @classmethod
    def draw(
        cls, rng: Generator, look: Generator, ambient: float, height: float, speed: float, extra: float
    ) -> "Person":
        """A random person of `height` HR pixels who walks `speed` pixels a frame (signed), `extra` Kelvin hotter."""
        cloth = [ambient + share * (SKIN - ambient) + extra for share in rng.uniform(0.15, 0.6, 3)]
        kelvin = {"skin": SKIN + extra, "hair": cloth[2] + 1.0, "coat": cloth[0], "legs": cloth[1], "bag": ambient}
        colours: dict[str, Colour] = {"skin": (0.75, 0.58, 0.48), "hair": (0.15, 0.12, 0.1)}
        for part in ("coat", "legs", "bag"):
            r, g, b = look.uniform(0.05, 0.8, 3)
            colours[part] = (float(r), float(g), float(b))
        stride = 0.35 * abs(speed) / max(0.25 * height, 1.0) * 2 * np.pi / 4 + 0.04
        return cls(
            height,
            1.0 if speed >= 0 else -1.0,
            float(stride),
            float(rng.uniform(0, 6.3)),
            kelvin,
            colours,
            rng.random() < 0.4,
        )

    def paint(self, canvas: Canvas, time: float) -> None:
        """Far limbs first, then the trunk, then the near ones."""
        h, k, colour = self.height, self.kelvin, self.colours
        swing = float(np.sin(self.phase + self.stride * time))
        hip, shoulder = -0.5 * h, -0.8 * h

        def limb(
            x0: float, y0: float, angle: float, lengths: tuple[float, float], bend: float, r: float, part: str
        ) -> tuple[float, float]:
            x1, y1 = x0 + lengths[0] * h * np.sin(angle), y0 + lengths[0] * h * np.cos(angle)
            x2, y2 = x1 + lengths[1] * h * np.sin(angle - bend), y1 + lengths[1] * h * np.cos(angle - bend)
            canvas.paint(canvas.capsule(x0, y0, x1, y1, r * h, r * 0.8 * h), k[part], 0.95, colour[part])
            canvas.paint(canvas.capsule(x1, y1, x2, y2, r * 0.8 * h, r * 0.6 * h), k[part] - 0.4, 0.95, colour[part])
            return float(x2), float(y2)

        face = self.facing
        for side in (-1, 1):  # far side, near side
            angle = side * swing * 0.45
            limb(0.0, hip, angle, (0.25, 0.24), face * max(0.0, -side * swing * face) * 0.6, 0.055, "legs")
            if side < 0:
                self._arm(canvas, limb, shoulder, -angle)
                if self.bag:
                    canvas.paint(
                        canvas.ellipse(-face * 0.12 * h, -0.68 * h, 0.07 * h, 0.12 * h), k["bag"], 0.93, colour["bag"]
                    )
                canvas.paint(canvas.capsule(0, hip, 0, shoulder, 0.095 * h, 0.11 * h), k["coat"], 0.95, colour["coat"])
                canvas.paint(canvas.capsule(-0.03 * h, hip, 0.02 * h, -0.6 * h, 0.03 * h), k["coat"] - 0.8, 0.95, None)
        self._arm(canvas, limb, shoulder, -swing * 0.45)
        canvas.paint(canvas.capsule(0, -0.86 * h, 0, -0.84 * h, 0.04 * h), k["skin"] + 0.5, 0.98, colour["skin"])
        canvas.paint(canvas.ellipse(0.0, -0.925 * h, 0.068 * h, 0.08 * h), k["hair"], 0.96, colour["hair"])
        canvas.paint(canvas.ellipse(face * 0.022 * h, -0.91 * h, 0.05 * h, 0.062 * h), k["skin"], 0.98, colour["skin"])

    def _arm(self, canvas: Canvas, limb, shoulder: float, angle: float) -> None:  # noqa: ANN001
        """An arm and its bare hand."""
        x, y = limb(0.0, shoulder, angle, (0.17, 0.15), -0.3 * self.facing, 0.042, "coat")
        canvas.paint(
            canvas.ellipse(x, y, 0.032 * self.height, 0.036 * self.height),
            self.kelvin["skin"] - 1.5,
            0.98,
            self.colours["skin"],
        )


@dataclass
class Animal(Shape):
    """A four-legged animal: warm head and legs, insulating coat."""

    size: float
    facing: float
    pace: float
    coat: float
    colour: Colour
    tag: str = "animal"
    rigid: bool = False
    bounds: tuple[float, float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        s = self.size
        self.bounds = (-0.95 * s, -1.05 * s, 0.95 * s, 0.05 * s)

    def paint(self, canvas: Canvas, time: float) -> None:
        """Legs, trunk, neck, head, tail."""
        s, f = self.size, self.facing
        for i, x in enumerate((-0.42, -0.3, 0.3, 0.42)):
            reach = 0.14 * s * np.sin(self.pace * time + 1.7 * i)
            canvas.paint(
                canvas.capsule(f * x * s, -0.45 * s, f * x * s + reach, -0.04 * s, 0.06 * s, 0.035 * s),
                self.coat + 1.5,
                0.97,
                self.colour,
            )
        canvas.paint(
            canvas.capsule(-0.38 * s, -0.58 * s, 0.38 * s, -0.6 * s, 0.17 * s, 0.19 * s), self.coat, 0.97, self.colour
        )
        canvas.paint(
            canvas.capsule(-f * 0.45 * s, -0.6 * s, -f * 0.75 * s, -0.75 * s, 0.03 * s),
            self.coat - 1,
            0.97,
            self.colour,
        )
        canvas.paint(
            canvas.capsule(f * 0.45 * s, -0.65 * s, f * 0.62 * s, -0.82 * s, 0.1 * s, 0.08 * s),
            self.coat + 1,
            0.97,
            self.colour,
        )
        canvas.paint(canvas.ellipse(f * 0.7 * s, -0.84 * s, 0.14 * s, 0.09 * s), SKIN - 1.0, 0.98, self.colour)


@dataclass
class Car(Shape):
    """A car from the side: panels, cold glass, hot tyres and engine, exhaust, a number plate."""

    length: float
    facing: float
    kelvin: dict[str, float]
    colour: Colour
    letters: int
    tag: str = "car"
    bounds: tuple[float, float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        half = 0.56 * self.length
        self.bounds = (-half, -0.42 * self.length, half, 0.06 * self.length)

    def paint(self, canvas: Canvas, time: float) -> None:
        """The shape is drawn facing right and mirrored by `facing`."""
        n, k, f = self.length, self.kelvin, self.facing

        def poly(points: list[tuple[float, float]], kelvin: float, emissivity: float, rgb: Colour | None) -> None:
            canvas.paint(canvas.polygon([(f * x * n, y * n) for x, y in points]), kelvin, emissivity, rgb)

        poly([(-0.5, 0.035), (0.5, 0.035), (0.47, -0.02), (-0.47, -0.02)], k["glow"], 0.95, (0.05, 0.05, 0.05))
        poly(
            [(-0.5, -0.2), (-0.48, -0.05), (0.5, -0.05), (0.5, -0.14), (0.46, -0.19), (0.2, -0.22)],
            k["body"],
            0.9,
            self.colour,
        )
        poly([(-0.36, -0.21), (-0.26, -0.35), (0.08, -0.35), (0.24, -0.21)], k["roof"], 0.9, self.colour)
        poly([(0.2, -0.2), (0.46, -0.185), (0.47, -0.15), (0.22, -0.15)], k["engine"], 0.93, None)
        for a, b in (((-0.32, -0.22), (-0.235, -0.33)), ((-0.06, -0.22), (-0.06, -0.33))):
            wide = 0.15 if a[0] < -0.2 else 0.12
            poly(
                [a, b, (b[0] + wide, b[1]), (a[0] + wide + (0.08 if a[0] < -0.2 else 0.13), a[1])],
                k["glass"],
                0.85,
                (0.15, 0.18, 0.22),
            )
        for x in (-0.08, 0.16):
            canvas.paint(
                canvas.capsule(f * x * n, -0.2 * n, f * x * n, -0.06 * n, 0.3), k["body"] - 1.2, 0.9, (0.1, 0.1, 0.1)
            )
        canvas.paint(canvas.capsule(-f * 0.45 * n, -0.12 * n, f * 0.48 * n, -0.12 * n, 0.3), k["body"] + 0.9, 0.9, None)
        for x in (-0.31, 0.31):
            canvas.paint(
                canvas.ellipse(f * x * n, -0.045 * n, 0.088 * n, 0.088 * n), k["tyre"], 0.95, (0.06, 0.06, 0.06)
            )
            canvas.paint(canvas.ellipse(f * x * n, -0.045 * n, 0.055 * n, 0.055 * n), k["rim"], 0.8, (0.6, 0.6, 0.6))
            canvas.paint(canvas.ellipse(f * x * n, -0.045 * n, 0.02 * n, 0.02 * n), k["brake"], 0.9, None)
        canvas.paint(canvas.ellipse(-f * 0.5 * n, -0.03 * n, 0.025 * n, 0.02 * n), k["exhaust"], 0.9, None)
        canvas.paint(
            canvas.box(f * 0.47 * n - 0.02 * n, -0.16 * n, f * 0.47 * n + 0.02 * n, -0.12 * n),
            k["lamp"],
            0.9,
            (0.95, 0.95, 0.8),
        )

    @classmethod
    def draw(
        cls, rng: Generator, look: Generator, ambient: float, length: float, facing: float, running: bool, extra: float
    ) -> "Car":
        """A random car of `length` HR pixels; a parked one has no hot parts."""
        return cls(length, facing, engine_heat(rng, ambient, running, extra), _paint(look), int(rng.integers(1 << 30)))


@dataclass
class Rear(Shape):
    """A car, van or lorry from behind: window, lamps, plate with marks, tyres, hot underside."""

    width: float
    tall: float
    kelvin: dict[str, float]
    colour: Colour
    letters: int
    tag: str = "car"
    bounds: tuple[float, float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        half = 0.56 * self.width
        self.bounds = (-half, -(self.tall + 0.1) * self.width, half, 0.05 * self.width)

    def paint(self, canvas: Canvas, time: float) -> None:
        """Seen straight from behind."""
        n, k, top = self.width, self.kelvin, -self.tall
        c = canvas

        def box(
            x0: float, y0: float, x1: float, y1: float, kelvin: float, emissivity: float, rgb: Colour | None
        ) -> None:
            c.paint(c.box(x0 * n, y0 * n, x1 * n, y1 * n), kelvin, emissivity, rgb)

        box(-0.42, -0.16, 0.42, 0.0, k["glow"], 0.95, (0.04, 0.04, 0.04))
        for x in (-0.36, 0.36):
            box(x - 0.09, -0.22, x + 0.09, 0.03, k["tyre"], 0.95, (0.06, 0.06, 0.06))
        c.paint(
            c.polygon(
                [(-0.5 * n, -0.12 * n), (-0.48 * n, top * 0.55 * n), (0.48 * n, top * 0.55 * n), (0.5 * n, -0.12 * n)]
            ),
            k["body"],
            0.9,
            self.colour,
        )
        c.paint(
            c.polygon(
                [(-0.48 * n, top * 0.54 * n), (-0.38 * n, top * n), (0.38 * n, top * n), (0.48 * n, top * 0.54 * n)]
            ),
            k["roof"],
            0.9,
            self.colour,
        )
        glass = [
            (-0.4 * n, top * 0.6 * n),
            (-0.33 * n, top * 0.94 * n),
            (0.33 * n, top * 0.94 * n),
            (0.4 * n, top * 0.6 * n),
        ]
        c.paint(c.polygon(glass), k["glass"], 0.85, (0.13, 0.15, 0.18))
        for y in (0.42, 0.3):
            c.paint(
                c.capsule(-0.46 * n, top * y * n, 0.46 * n, top * y * n, 0.35), k["body"] - 1.0, 0.9, (0.1, 0.1, 0.1)
            )
        for x in (-0.44, 0.34):
            box(x, top * 0.52, x + 0.1, top * 0.38, k["lamp"], 0.9, (0.8, 0.1, 0.1))
        box(-0.17, top * 0.42, 0.17, top * 0.28, k["body"] + 0.8, 0.92, (0.9, 0.9, 0.85))
        glyphs(
            c,
            np.random.default_rng(self.letters),
            -0.15 * n,
            top * 0.41 * n,
            0.3 * n,
            abs(top) * 0.12 * n,
            k["body"] - 1.5,
            (0.05, 0.05, 0.05),
        )
        c.paint(c.ellipse(0.28 * n, -0.09 * n, 0.035 * n, 0.025 * n), k["exhaust"], 0.9, None)

    @classmethod
    def draw(cls, rng: Generator, look: Generator, ambient: float, width: float, running: bool, extra: float) -> "Rear":
        """A random vehicle of `width` HR pixels."""
        tall = float(rng.uniform(0.75, 1.35))
        heat = engine_heat(rng, ambient, running, extra)
        return cls(width, tall, heat, _paint(look), int(rng.integers(1 << 30)), tag="car" if tall < 1.05 else "truck")


@dataclass
class Top(Shape):
    """A car from above, turned: hood, glass, roof, hot engine."""

    length: float
    angle: float
    kelvin: dict[str, float]
    colour: Colour
    tag: str = "car"
    bounds: tuple[float, float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        r = 0.58 * self.length
        self.bounds = (-r, -r, r, r)

    def paint(self, canvas: Canvas, time: float) -> None:
        """Front towards `angle`."""
        n, k = self.length, self.kelvin
        cos, sin = float(np.cos(self.angle)), float(np.sin(self.angle))

        def slab(u0: float, u1: float, half: float, kelvin: float, emissivity: float, rgb: Colour | None) -> None:
            corners = [(u0, -half), (u1, -half), (u1, half), (u0, half)]
            points = [(n * (u * cos - v * sin), n * (u * sin + v * cos)) for u, v in corners]
            canvas.paint(canvas.polygon(points), kelvin, emissivity, rgb)

        slab(-0.52, 0.52, 0.22, k["glow"], 0.95, (0.1, 0.1, 0.1))
        slab(-0.5, 0.5, 0.2, k["body"], 0.9, self.colour)
        slab(0.2, 0.47, 0.15, k["engine"], 0.92, None)
        slab(0.05, 0.18, 0.17, k["glass"], 0.85, (0.15, 0.17, 0.2))
        slab(-0.26, 0.05, 0.16, k["roof"], 0.9, self.colour)
        slab(-0.36, -0.26, 0.16, k["glass"], 0.85, (0.15, 0.17, 0.2))
        slab(-0.53, -0.48, 0.05, k["exhaust"], 0.9, None)


@dataclass
class Slab(Shape):
    """A hot plate with a sharp rim and a pattern, as of metal on a belt: the hardest moving boundary."""

    width: float
    height: float
    hot: float
    steps: tuple[float, ...]
    round: bool
    tag: str = "hot object"
    bounds: tuple[float, float, float, float] = field(init=False)

    def __post_init__(self) -> None:
        self.bounds = (-0.55 * self.width, -1.05 * self.height, 0.55 * self.width, 0.05 * self.height)

    def paint(self, canvas: Canvas, time: float) -> None:
        """A plate with bars of other temperature."""
        w, h = self.width, self.height
        outline = canvas.ellipse(0, -h / 2, w / 2, h / 2) if self.round else canvas.box(-w / 2, -h, w / 2, 0)
        canvas.paint(outline, self.hot, 0.9, (0.25, 0.22, 0.2))
        for i, step in enumerate(self.steps):
            x = w * (-0.32 + 0.64 * (i + 0.5) / len(self.steps))
            bar = canvas.capsule(x, -0.75 * h, x, -0.25 * h, max(0.4, 0.05 * w))
            canvas.paint(bar, self.hot + step, 0.9, (0.4, 0.36, 0.33))


class Foreground(Shape):
    """A pole, tree or fence between the camera and the scene, which hides what passes behind."""

    def __init__(self, stage: Stage, kind: str, height: float) -> None:
        self.tag = kind
        self.bounds = (-0.6 * height, -1.15 * height, 0.6 * height, 2.0)
        left, top, right, bottom = self.bounds
        visible = stage.canvas.rgb is not None
        self._canvas = Canvas(left, top, right - left, bottom - top, visible=visible, transparent=True)
        s = Stage(self._canvas, stage.rng, stage.look, stage.weather, stage.zoom)
        if kind == "pole":
            pole(s, 0, 0, height)
        elif kind == "tree":
            tree(s, 0, 0, height, bare=True)
        else:
            fence(s, left, right, 0, min(height, 18 * stage.zoom))

    def paint(self, canvas: Canvas, time: float) -> None:
        """Copy what was painted when the scene was made; the canvases have the same size."""
        canvas.kelvin[...], canvas.emissivity[...] = self._canvas.kelvin, self._canvas.emissivity
        for name in ("alpha", "rgb"):
            source, target = getattr(self._canvas, name), getattr(canvas, name)
            if source is not None and target is not None:
                target[...] = source


def engine_heat(rng: Generator, ambient: float, running: bool, extra: float) -> dict[str, float]:
    """Temperatures of a vehicle's parts, Kelvin; `extra` heats all that is driven."""
    on = 1.0 if running else 0.0
    body = ambient + rng.uniform(-2, 5)
    return {
        "body": body,
        "roof": body + rng.uniform(-3, 2),
        "glass": ambient + rng.uniform(-8, 2),
        "glow": ambient + rng.uniform(0, 2) + on * (rng.uniform(3, 8) + extra * 0.3),
        "tyre": ambient + rng.uniform(0, 2) + on * rng.uniform(4, 14),
        "rim": ambient + rng.uniform(-3, 3) + on * rng.uniform(0, 8),
        "brake": ambient + on * (rng.uniform(10, 40) + extra),
        "engine": body + on * (rng.uniform(4, 14) + extra * 0.5),
        "exhaust": ambient + on * (rng.uniform(20, 60) + extra),
        "lamp": body + on * rng.uniform(0, 8),
    }


def _paint(look: Generator) -> Colour:
    """A car's paint."""
    grey = look.uniform(0.08, 0.9)
    r, g, b = np.clip(grey + look.normal(0, 0.15, 3), 0.03, 0.95)
    return float(r), float(g), float(b)
