"""Scenes: everything that rendering needs, drawn once from (seed, stream, index)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from lit_thermal.data.simulator.bodies import (
    SKIN,
    Animal,
    Body,
    Foreground,
    Path,
    Person,
    Shape,
    Slab,
)
from lit_thermal.data.simulator.canvas import SUPERSAMPLING, Canvas
from lit_thermal.data.simulator.heat import HeatField, Pattern
from lit_thermal.data.simulator.places import PLACES, Layout
from lit_thermal.data.simulator.scenery import Stage, Weather
from lit_thermal.data.simulator.sensor import MARGIN, Sensor
from lit_thermal.data.simulator.vehicles import Car, Rear, Top
from lit_thermal.errors import InputError, check_choice

ScenarioName = Literal["standard", "fast_motion", "switching_sources", "hot_boundaries"]


@dataclass(frozen=True)
class Scenario:
    """Parameters of a named kind of scene.

    Attributes:
        speed: minimum and maximum speed of bodies over the image, as fractions of `max_speed`.
        pan: minimum and maximum speed of the camera, if it moves, as fractions of `max_speed`.
        still: probability that the camera does not move.
        bodies: minimum and maximum number of moving bodies.
        sources: minimum and maximum number of heat sources on surfaces that switch during the clip.
        hot: minimum and maximum extra temperature of bodies in Kelvin.
        slabs: share of the bodies that are hot plates.
        contact: minimum and maximum heat that bodies leave on the ground, in Kelvin per frame of contact.
    """

    speed: tuple[float, float] = (0.1, 1.0)
    pan: tuple[float, float] = (0.05, 0.8)
    still: float = 0.4
    bodies: tuple[int, int] = (1, 3)
    sources: tuple[int, int] = (0, 2)
    hot: tuple[float, float] = (0.0, 0.0)
    slabs: float = 0.0
    contact: tuple[float, float] = (0.0, 0.8)


SCENARIOS: dict[str, Scenario] = {
    "standard": Scenario(),
    "fast_motion": Scenario(speed=(0.7, 1.1), pan=(0.7, 1.1), still=0.2, bodies=(2, 4)),
    "switching_sources": Scenario(speed=(0.1, 0.4), pan=(0.1, 0.3), still=0.7, bodies=(1, 2), sources=(4, 7)),
    "hot_boundaries": Scenario(hot=(20.0, 90.0), slabs=0.5, bodies=(2, 4), contact=(2.0, 6.0)),
}


@dataclass(frozen=True)
class Scene:
    """A place with its bodies, the input of `render`.

    Attributes:
        name: name of the clip.
        size: height and width of a frame in HR pixels.
        surface: background, which is larger than a frame if the camera moves; coordinates are those of frame 0.
        heat: excess temperature of the background over time, on the pixels of the surface.
        bodies: bodies, from the farthest to the nearest.
        pan: velocity (HR pixels per frame) and acceleration of the view over the background, (x, y) each.
        weather: weather, which determines temperatures.
        sensor: thermal camera.
        tags: words that describe the visible contents.
        entropy: seeds of the sensor's noise.
    """

    name: str
    size: tuple[int, int]
    surface: Canvas
    heat: HeatField
    bodies: tuple[Body, ...]
    pan: tuple[tuple[float, float], tuple[float, float]]
    weather: Weather
    sensor: Sensor
    tags: tuple[str, ...]
    entropy: tuple[int, ...]

    def view(self, time: float) -> tuple[float, float]:
        """Return the upper left corner (x, y) of the frame at `time` on the background."""
        return _view(self.pan, time)


def make_scene(
    seed: int,
    index: int,
    *,
    stream: int = 0,
    size: int | tuple[int, int] = 128,
    frames: int = 7,
    scenario: ScenarioName = "standard",
    max_speed: float = 3.0,
    visible: bool = False,
    margin: int = 0,
) -> Scene:
    """Draw the scene with number `index`.

    Args:
        seed: seed of the whole data set.
        index: index of the scene.
        stream: index that separates data sets with the same seed (training, validation, test).
        size: size of a frame in HR pixels, one number or (height, width); sides are at least 16.
        frames: number of frames; the camera's motion is planned for times 0 to frames - 1.
        scenario: name of the scenario, one of `SCENARIOS`.
        max_speed: maximum speed over the image in HR pixels per frame; scenarios use fractions of it.
        visible: also paint colours, for `render_visible`. The thermal scene does not depend on this.
        margin: width of extra background around all frames in HR pixels, for the view of a second camera. The place is
            laid out over the margin too, so that another margin gives another scene.

    Raises:
        InputError: the scenario is unknown or a number is out of range.
    """
    height, width = (size, size) if isinstance(size, int) else size
    check_choice(scenario, ScenarioName, "scenario")
    if min(height, width) < 16 or frames < 1 or max_speed < 0:
        raise InputError(
            f"a scene of {height}x{width} pixels, {frames} frames and max_speed {max_speed} cannot be drawn: "
            "sides must be at least 16, frames at least 1 and the speed not negative"
        )
    kind = SCENARIOS[scenario]
    entropy = (seed, stream, list(SCENARIOS).index(scenario), index)
    rng, colour_rng = np.random.default_rng([*entropy, 0]), np.random.default_rng([*entropy, 1])
    pan = _draw_pan(rng, kind, max_speed, frames)
    surface = _make_surface(pan, (height, width), frames, margin, visible)
    ambient = float(rng.uniform(274, 302))
    weather = Weather(ambient, ambient - float(rng.uniform(5, 16)), float(max(0.0, rng.uniform(-0.4, 1.0))))
    zoom = float(rng.uniform(1.5, 2.8)) * (min(height, width) / 128) ** 0.5
    stage = Stage(surface, rng, colour_rng, weather, zoom)
    place = str(rng.choice(list(PLACES), p=[0.35, 0.25, 0.2, 0.2]))
    layout = PLACES[place](stage)
    bodies = _draw_bodies(stage, layout, kind, pan, (height, width), frames, max_speed)
    heat = _draw_heat(stage, layout, kind, bodies, frames)
    sensor = Sensor(
        psf=float(rng.uniform(0.65, 1.05)),
        netd=float(rng.uniform(15, 45)),
        fixed_pattern=float(rng.uniform(3, 12)),
        stripes=float(rng.uniform(3, 12)),
    )
    tags = list(layout.tags) + [body.shape.tag for body in bodies] + (["night"] if weather.sun == 0 else [])
    return Scene(
        name=f"{scenario}_{stream}_{index:05d}",
        size=(height, width),
        surface=surface,
        heat=heat,
        bodies=tuple(bodies),
        pan=pan,
        weather=weather,
        sensor=sensor,
        tags=tuple(dict.fromkeys(tags)),
        entropy=(*entropy, 2),
    )


Pan = tuple[tuple[float, float], tuple[float, float]]


def _view(pan: Pan, time: float) -> tuple[float, float]:
    (vx, vy), (ax, ay) = pan
    return vx * time + ax * time * time / 2, vy * time + ay * time * time / 2


def _direction(rng: Generator) -> tuple[float, float]:
    """Draw a unit vector, which is nearly horizontal in most cases."""
    angle = rng.uniform(-0.5, 0.5) if rng.random() < 0.7 else rng.uniform(-np.pi / 2, np.pi / 2)
    sign = 1 if rng.random() < 0.5 else -1
    return float(sign * np.cos(angle)), float(np.sin(angle))


def _draw_pan(rng: Generator, kind: Scenario, max_speed: float, frames: int) -> Pan:
    """Draw the camera's motion; its speed changes by up to 30 % over the clip and never exceeds the limit."""
    x, y = _direction(rng)
    still = rng.random() < kind.still
    speed = 0.0 if still else float(rng.uniform(*kind.pan)) * max_speed
    change = float(rng.uniform(-0.3, 0.3))
    start = speed / max(1.0, 1.0 + change)
    gain = start * change / max(frames - 1, 1)
    return (start * x, start * y), (gain * x, gain * y)


def _make_surface(pan: Pan, size: tuple[int, int], frames: int, margin: int, visible: bool) -> Canvas:
    """Return an empty background that contains every frame and the border that optics and resampling need."""
    reach = MARGIN + 2 + margin
    ways = np.array([_view(pan, t) for t in np.arange(0, max(frames - 1, 0) + 0.25, 0.25)])
    low, high = np.floor(ways.min(0)) - reach, np.ceil(ways.max(0)) + reach
    width, height = (int(np.ceil((n + h - a) / 4) * 4) for n, h, a in zip(size[::-1], high, low, strict=True))
    return Canvas(float(low[0]), float(low[1]), width, height, visible=visible)


def _draw_bodies(
    stage: Stage, layout: Layout, kind: Scenario, pan: Pan, size: tuple[int, int], frames: int, max_speed: float
) -> list[Body]:
    """Draw bodies that are in the frame at mid-clip, far ones first, and sometimes a foreground object."""
    rng = stage.rng
    middle = (frames - 1) / 2
    view = np.array(_view(pan, middle))
    drift = view / middle if middle > 0 else np.array(pan[0])
    bodies = []
    for _ in range(int(rng.integers(kind.bodies[0], kind.bodies[1] + 1))):
        velocity = float(rng.uniform(*kind.speed)) * max_speed * np.array(_direction(rng))
        if not layout.from_above:
            velocity[1] *= 0.3
        x = view[0] + size[1] * rng.uniform(0.12, 0.88)
        y = view[1] + size[0] * rng.uniform(0.1, 0.9)
        if not layout.from_above:
            y = max(layout.horizon + 0.1 * size[0], y)
        tall = layout.person_height(stage.canvas, y)
        shape = _draw_shape(stage, layout, kind, tall, size, velocity)
        world = velocity + drift
        start = np.array([x, y]) - world * middle
        path = Path((float(start[0]), float(start[1])), (float(world[0]), float(world[1])))
        closeness = 0.0
        if not layout.from_above:
            closeness = float(np.clip((y - layout.horizon) / (view[1] + size[0] - layout.horizon), 0, 1))
        bodies.append(Body(shape, path, closeness=closeness))
    bodies.sort(key=lambda body: body.path.at(middle)[1])
    if not layout.from_above and rng.random() < 0.35:
        height = size[0] * float(rng.uniform(0.5, 1.2))
        shape = Foreground(stage, str(rng.choice(["pole", "tree", "fence"])), height)
        speed = float(np.hypot(*drift))
        near = 1 + min(float(rng.uniform(0, 0.5)), max(0.0, max_speed * kind.pan[1] / (speed + 1e-9) - 1))
        start = view * near + np.array(size[::-1]) * (rng.uniform(0.1, 0.9), rng.uniform(0.85, 1.1))
        bodies.append(
            Body(shape, Path((float(start[0]), float(start[1])), (0.0, 0.0)), near, is_object=False, closeness=1.0)
        )
    return bodies


def _draw_shape(
    stage: Stage, layout: Layout, kind: Scenario, tall: float, size: tuple[int, int], velocity: np.ndarray
) -> Shape:
    """Draw a body that suits the place; `tall` is the height of a person at its position."""
    rng, colour_rng, ambient = stage.rng, stage.colour_rng, stage.weather.ambient
    extra = float(rng.uniform(*kind.hot))
    facing = 1.0 if velocity[0] >= 0 else -1.0
    limit = 0.55 * min(size)
    if rng.random() < kind.slabs:
        wide = min(limit, float(rng.uniform(0.15, 0.35)) * min(size))
        steps = tuple(float(k) for k in rng.uniform(-0.4, 0.4, int(rng.integers(1, 5))) * (20 + extra))
        return Slab(wide, wide * float(rng.uniform(0.4, 1.1)), ambient + 15 + extra, steps, bool(rng.random() < 0.4))
    if layout.from_above:
        angle = float(np.arctan2(velocity[1], velocity[0]))
        return Top.draw(rng, colour_rng, ambient, float(rng.uniform(13, 22)) * stage.zoom, angle, extra)
    choice = rng.random()
    if choice < 0.5:
        return Person.draw(rng, colour_rng, ambient, min(tall, limit), float(velocity[0]), extra)
    if choice < 0.72:
        return Car.draw(rng, colour_rng, ambient, min(2.3 * tall, 1.4 * limit), facing, extra)
    if choice < 0.88:
        return Rear.draw(rng, colour_rng, ambient, min(1.05 * tall, limit), extra)
    brown = float(colour_rng.uniform(0.2, 0.6))
    coat = ambient + float(rng.uniform(0.25, 0.5)) * (SKIN - ambient) + extra
    return Animal(max(6.0, 0.4 * tall), facing, float(rng.uniform(0.3, 0.8)), coat, (brown, brown * 0.8, brown * 0.6))


def _draw_heat(stage: Stage, layout: Layout, kind: Scenario, bodies: list[Body], frames: int) -> HeatField:
    """Draw initial patches of excess temperature, switching sources, and the heat that bodies leave on the ground."""
    c, rng = stage.canvas, stage.rng
    shape = c.shape[0] // SUPERSAMPLING, c.shape[1] // SUPERSAMPLING
    field = HeatField(shape, float(rng.uniform(0.03, 0.3)), float(rng.uniform(0.005, 0.05)))
    y, x = np.arange(shape[0]) + 0.5 + c.top, np.arange(shape[1]) + 0.5 + c.left
    ground = max(layout.horizon + 6, c.top)

    def spot(x0: float, y0: float, rx: float, ry: float) -> Pattern:
        return Pattern(np.exp(-(((y - y0) / ry) ** 2) / 2), np.exp(-(((x - x0) / rx) ** 2) / 2))

    def patch(x0: float, y0: float, rx: float, ry: float) -> Pattern:
        """Return a rectangle with linear edges that are one pixel wide."""
        return Pattern(np.clip(ry + 0.5 - abs(y - y0), 0, 1), np.clip(rx + 0.5 - abs(x - x0), 0, 1))

    def place() -> tuple[float, float, float, float]:
        return rng.uniform(c.left, c.right), rng.uniform(ground, c.bottom), stage.span(2, 7), stage.span(1.5, 4)

    for _ in range(int(rng.integers(0, 3))):
        field.deposit(patch(*place()) if rng.random() < 0.5 else spot(*place()), -float(rng.uniform(0, 20)))
    for _ in range(int(rng.integers(kind.sources[0], kind.sources[1] + 1))):
        pattern = patch(*place())
        power = float(rng.uniform(1, 4))
        start = float(rng.uniform(-6, frames))
        field.heat(Pattern(pattern.column * power, pattern.row), start, start + float(rng.uniform(1.5, 8)))
    amount = float(rng.uniform(*kind.contact))
    if amount > 0.2:
        for body in bodies:
            left, _, right, _ = body.shape.bounds
            if not body.is_object:
                continue
            reach = max(1.0, 0.12 * (right - left))
            for time in np.arange(-6, frames):
                x0, y0 = body.path.at(float(time))
                trail = spot(x0, y0, reach, max(1.0, 0.4 * reach))
                field.deposit(Pattern(trail.column * amount, trail.row), float(time))
    return field
