"""Moving bodies (people, animals, hot plates) and foreground objects; vehicles are in their own file.

A body is painted around its origin: the point where it touches the ground, or its centre if seen from above. Its
appearance is drawn when the scene is made, so that painting it at any time needs no random numbers.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

from lit_thermal.data.simulator.canvas import Canvas, Colour
from lit_thermal.data.simulator.scenery import Stage, fence, pole, tree

SKIN = 306.0
"""Apparent temperature in Kelvin of bare skin in mild air."""


class Shape:
    """Appearance of a body.

    Attributes:
        tag: name of the kind of body.
        bounds: rectangle (left, top, right, bottom) around the origin, in HR pixels, that always contains the body.
        rigid: whether the body looks the same at all times, so that it is painted once and then only moved.
    """

    tag: str = "object"
    rigid: bool = True
    bounds: tuple[float, float, float, float]

    def paint(self, canvas: Canvas, time: float) -> None:
        """Paint the body with its appearance at `time` (HR frames) and its origin at (0, 0)."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it looks")


@dataclass(frozen=True)
class Path:
    """Motion of a body's origin over the background: position ``start + velocity * t`` in HR pixels and frames."""

    start: tuple[float, float]
    velocity: tuple[float, float]

    def at(self, time: float) -> tuple[float, float]:
        """Return the position at `time`."""
        return self.start[0] + self.velocity[0] * time, self.start[1] + self.velocity[1] * time


@dataclass(frozen=True)
class Body:
    """A shape and its motion.

    Attributes:
        shape: appearance of the body.
        path: motion of the body over the background.
        nearness: ratio of the body's motion to that of the background when the camera turns or shifts; 1 moves with the
            background.
        is_object: whether the body has a box, a mask and a tag; foreground scenery has none.
        closeness: displacement of the body against the background as a fraction of a second camera's baseline, from 0
            at the horizon to 1 at the lower edge of the view.
    """

    shape: Shape
    path: Path
    nearness: float = 1.0
    is_object: bool = True
    closeness: float = 0.0


@dataclass
class Person(Shape):
    """A walking person with bare face and hands, clothes of three temperatures and swinging limbs."""

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
        cls, rng: Generator, colour_rng: Generator, ambient: float, height: float, speed: float, extra: float
    ) -> "Person":
        """Draw a person of `height` HR pixels, walking `speed` pixels per frame (signed) and `extra` Kelvin hotter."""
        cloth = [ambient + share * (SKIN - ambient) + extra for share in rng.uniform(0.15, 0.6, 3)]
        kelvin = {"skin": SKIN + extra, "hair": cloth[2] + 1.0, "coat": cloth[0], "legs": cloth[1], "bag": ambient}
        colours: dict[str, Colour] = {"skin": (0.75, 0.58, 0.48), "hair": (0.15, 0.12, 0.1)}
        for part in ("coat", "legs", "bag"):
            r, g, b = colour_rng.uniform(0.05, 0.8, 3)
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
        """Paint the far limbs first, then the trunk, the near limbs and the head."""
        h, k, colour, face = self.height, self.kelvin, self.colours, self.facing
        swing = 0.45 * float(np.sin(self.phase + self.stride * time))
        hip, shoulder = -0.5 * h, -0.8 * h
        self._leg(canvas, hip, -swing)
        self._arm(canvas, shoulder, swing)
        if self.bag:
            canvas.paint(canvas.ellipse(-face * 0.12 * h, -0.68 * h, 0.07 * h, 0.12 * h), k["bag"], 0.93, colour["bag"])
        canvas.paint(canvas.capsule(0, hip, 0, shoulder, 0.095 * h, 0.11 * h), k["coat"], 0.95, colour["coat"])
        # A fold of the coat is visible only in the thermal view.
        canvas.paint(canvas.capsule(-0.03 * h, hip, 0.02 * h, -0.6 * h, 0.03 * h), k["coat"] - 0.8, 0.95, None)
        self._leg(canvas, hip, swing)
        self._arm(canvas, shoulder, -swing)
        canvas.paint(canvas.capsule(0, -0.86 * h, 0, -0.84 * h, 0.04 * h), k["skin"] + 0.5, 0.98, colour["skin"])
        canvas.paint(canvas.ellipse(0.0, -0.925 * h, 0.068 * h, 0.08 * h), k["hair"], 0.96, colour["hair"])
        canvas.paint(canvas.ellipse(face * 0.022 * h, -0.91 * h, 0.05 * h, 0.062 * h), k["skin"], 0.98, colour["skin"])

    def _leg(self, canvas: Canvas, hip: float, angle: float) -> None:
        """Paint thigh and shank; the knee of the rear leg is bent."""
        knee = self.facing * max(0.0, -angle * self.facing) * 1.3
        self._limb(canvas, hip, (angle, angle - knee), (0.25, 0.24), 0.055, "legs")

    def _arm(self, canvas: Canvas, shoulder: float, angle: float) -> None:
        """Paint upper arm, forearm and a bare hand."""
        x, y = self._limb(canvas, shoulder, (angle, angle + 0.3 * self.facing), (0.17, 0.15), 0.042, "coat")
        hand = canvas.ellipse(x, y, 0.032 * self.height, 0.036 * self.height)
        canvas.paint(hand, self.kelvin["skin"] - 1.5, 0.98, self.colours["skin"])

    def _limb(
        self,
        canvas: Canvas,
        root: float,
        angles: tuple[float, float],
        lengths: tuple[float, float],
        radius: float,
        part: str,
    ) -> tuple[float, float]:
        """Paint a limb of two segments from (0, root) and return the end of the second.

        Angles are measured from straight down; lengths and radius are fractions of the height.
        """
        h, x, y = self.height, 0.0, root
        for angle, length, thick in zip(angles, lengths, (1.0, 0.8), strict=True):
            x1, y1 = x + length * h * float(np.sin(angle)), y + length * h * float(np.cos(angle))
            segment = canvas.capsule(x, y, x1, y1, radius * thick * h, radius * thick * 0.8 * h)
            canvas.paint(segment, self.kelvin[part] - (0.4 if thick < 1 else 0.0), 0.95, self.colours[part])
            x, y = x1, y1
        return x, y


@dataclass
class Animal(Shape):
    """A four-legged animal with warm head and legs and an insulating coat."""

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
        """Paint legs, trunk, tail, neck and head."""
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
class Slab(Shape):
    """A hot plate with a sharp rim and a pattern, like metal on a conveyor belt: the sharpest moving boundary."""

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
        """Paint a plate with bars of other temperatures."""
        w, h = self.width, self.height
        outline = canvas.ellipse(0, -h / 2, w / 2, h / 2) if self.round else canvas.box(-w / 2, -h, w / 2, 0)
        canvas.paint(outline, self.hot, 0.9, (0.25, 0.22, 0.2))
        for i, step in enumerate(self.steps):
            x = w * (-0.32 + 0.64 * (i + 0.5) / len(self.steps))
            bar = canvas.capsule(x, -0.75 * h, x, -0.25 * h, max(0.4, 0.05 * w))
            canvas.paint(bar, self.hot + step, 0.9, (0.4, 0.36, 0.33))


class Foreground(Shape):
    """A pole, tree or fence between the camera and the scene, which occludes bodies behind it."""

    def __init__(self, stage: Stage, kind: str, height: float) -> None:
        self.tag = kind
        self.bounds = (-0.6 * height, -1.15 * height, 0.6 * height, 2.0)
        left, top, right, bottom = self.bounds
        visible = stage.canvas.rgb is not None
        self._canvas = Canvas(left, top, right - left, bottom - top, visible=visible, transparent=True)
        s = Stage(self._canvas, stage.rng, stage.colour_rng, stage.weather, stage.zoom)
        if kind == "pole":
            pole(s, 0, 0, height)
        elif kind == "tree":
            tree(s, 0, 0, height, bare=True)
        else:
            fence(s, left, right, 0, min(height, 18 * stage.zoom))

    def paint(self, canvas: Canvas, time: float) -> None:
        """Copy the canvas that was painted when the scene was made, which has the same size."""
        canvas.kelvin[...], canvas.emissivity[...] = self._canvas.kelvin, self._canvas.emissivity
        for name in ("alpha", "rgb"):
            source, target = getattr(self._canvas, name), getattr(canvas, name)
            if source is not None and target is not None:
                target[...] = source
