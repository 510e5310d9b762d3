"""Rendering of a scene: the thermal clip with its ground truth, and the visible view."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lit_thermal.batch import Radiometry
from lit_thermal.data.simulator.canvas import PARTS, SUPERSAMPLING, Array, Canvas
from lit_thermal.data.simulator.scene import Scene
from lit_thermal.data.simulator.sensor import MARGIN, radiometry, surface_radiance
from lit_thermal.errors import InputError


@dataclass(frozen=True)
class Flare:
    """Glare of a bright source in the lens: a halo around it, a veil over the picture, ghosts across the centre.

    Attributes:
        place: position (x, y) of the source relative to the centre, as fractions of the picture's width and height.
        strength: light that is added at the position of the source, where 1 is white.
    """

    place: tuple[float, float]
    strength: float


@dataclass(frozen=True)
class Camera:
    """A second camera next to the thermal one.

    Attributes:
        shift: displacement (x, y) of its view to the right of and below the thermal view, in HR pixels.
        baseline: displacement (x, y) of a body of closeness 1 against the background, in HR pixels; a body of nearness
            n is displaced by (n - 1) times the baseline more.
        delay: time in frames between the thermal picture and this camera's later picture.
        view: ratio of the width and height of its view to those of the thermal one; the picture is resized to the same
            number of pixels.
        flare: glare in its lens, if any.
    """

    shift: tuple[float, float] = (0.0, 0.0)
    baseline: tuple[float, float] = (0.0, 0.0)
    delay: float = 0.0
    view: tuple[float, float] = (1.0, 1.0)
    flare: Flare | None = None


@dataclass(frozen=True)
class Truth:
    """Ground truth of a rendered clip.

    Attributes:
        kelvin: true temperature (T, H, W) of the surfaces, averaged over each pixel, without camera effects.
        boxes: float32 boxes (T, N, 4), left, top, right and bottom of each object; zeros if it is not visible.
        masks: bool masks (T, N, H, W), true if the visible part of an object covers more than half of the pixel.
        labels: names of the N objects.
    """

    kelvin: Array
    boxes: Array
    masks: NDArray[np.bool_]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Clip:
    """A thermal clip as the camera stores it.

    Attributes:
        counts: 16-bit counts (T, H, W); ``counts / 65535`` is the value in [0, 1].
        radiometry: conversion of these values to Kelvin.
        tags: words that describe the visible contents.
        name: name of the clip.
        truth: ground truth, if it was requested.
    """

    counts: NDArray[np.uint16]
    radiometry: Radiometry
    tags: tuple[str, ...]
    name: str
    truth: Truth | None = None


def render(scene: Scene, times: NDArray[np.float64] | None = None, *, frames: int = 7, truth: bool = False) -> Clip:
    """Render the thermal clip at `times` (HR frames, ascending; by default 0 to frames - 1).

    Args:
        scene: scene from `make_scene`, whose background must cover the camera's motion until the last time.
        times: real times of the frames, at least 0 and ascending; one time gives a single image.
        frames: number of frames if `times` is not given.
        truth: also compute temperatures, boxes and masks, which doubles the time.
    """
    times = np.arange(frames, dtype=np.float64) if times is None else np.asarray(times, np.float64)
    excess = scene.heat.at(times)
    surface, sky = scene.surface, scene.weather.sky
    static = None if excess.any() else surface_radiance(surface.kelvin, surface.emissivity, sky)

    def background(i: int, crop: _Crop) -> Array:
        if static is not None:
            return crop(static)[None]
        kelvin = crop(surface.kelvin) + crop(_double(excess[i]))
        return surface_radiance(kelvin, crop(surface.emissivity), sky)[None]

    fine = _compose(scene, times, background, lambda c: surface_radiance(c.kelvin, c.emissivity, sky)[None])
    radiance = scene.sensor.focus(fine[:, 0])
    low, high = scene.sensor.choose_range(radiance)
    radiance += scene.sensor.noise(radiance.shape, np.random.default_rng(scene.entropy))
    counts = scene.sensor.digitise(radiance, low, high)
    known = _truth(scene, times, excess) if truth else None
    return Clip(counts, radiometry(low, high), scene.tags, scene.name, known)


def render_visible(scene: Scene, time: float = 0.0, camera: Camera | None = None) -> Array:
    """Render the visible view at `time`: (3, H, W) float32 in [0, 1]; dark and grainy at night.

    Raises:
        InputError: the scene was made without colours, or the camera's view exceeds the scene's margin.
    """
    camera = camera or Camera()
    rgb, time = scene.surface.rgb, time + camera.delay
    if rgb is None:
        raise InputError("the scene has no colours to show; make it with visible=True")
    night = scene.weather.sun == 0
    height, width = (round(n * wide) for n, wide in zip(scene.size, camera.view[::-1], strict=True))
    # The second camera's view has the same centre as the thermal view before shifts.
    corner = (scene.size[1] - width) / 2, (scene.size[0] - height) / 2
    aimed = replace(camera, shift=(camera.shift[0] + corner[0], camera.shift[1] + corner[1]))
    fine = _compose(scene, np.array([time]), lambda _, crop: crop(rgb), _colours, aimed, size=(height, width))[0]
    light = 0.15 if night else 0.4 + 0.7 * scene.weather.sun
    rng = np.random.default_rng([*scene.entropy, 1])
    picture = scene.sensor.focus(fine) * np.float32(light)
    if picture.shape[1:] != scene.size:
        picture = _reduced(picture, scene.size)
    if camera.flare:
        picture = picture + _glare(camera.flare, scene.size)
    picture += rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(0.02 if night else 0.004)
    return np.clip(picture, 0, 1)


_GHOSTS = ((0.35, 0.05, (0.5, 0.9, 0.6)), (0.8, 0.11, (0.9, 0.6, 0.4)), (1.3, 0.07, (0.5, 0.6, 1.0)))
"""Ghosts: distance across the centre relative to the source's distance, radius relative to the shorter side, colour."""


def _glare(flare: Flare, size: tuple[int, int]) -> Array:
    """Return the light (3, H, W) that a light source scatters over the picture."""
    unit = min(size)
    y, x = ((np.arange(n, dtype=np.float32) + 0.5 - n / 2) / unit for n in size)
    px, py = (share * n / unit for share, n in zip(flare.place, size[::-1], strict=True))

    def distance(cx: float, cy: float) -> Array:
        return np.hypot(x - np.float32(cx), y[:, None] - np.float32(cy))

    halo = 0.25 + 0.75 / (1 + (distance(px, py) / np.float32(0.15)) ** 2)
    light = halo * np.array([1.0, 0.95, 0.85], np.float32)[:, None, None]
    for far, radius, colour in _GHOSTS:
        disc = np.clip((radius - distance(-far * px, -far * py)) * np.float32(50) + np.float32(0.5), 0, 1)
        light += np.float32(0.3) * disc * np.array(colour, np.float32)[:, None, None]
    return light * np.float32(flare.strength)


def _reduced(picture: Array, size: tuple[int, int]) -> Array:
    """Resize a picture (3, h, w) in the same way as guides from files."""
    planes = [Image.fromarray(plane).resize(size[::-1], Image.Resampling.BICUBIC) for plane in picture]
    return np.stack([np.asarray(plane) for plane in planes])


def _truth(scene: Scene, times: NDArray[np.float64], excess: Array) -> Truth:
    """Return true temperatures and objects, composed like the clip but without emissivity and optics."""
    kelvin = scene.surface.kelvin
    fine = _compose(
        scene, times, lambda i, crop: (crop(kelvin) + crop(_double(excess[i])))[None], lambda c: c.kelvin[None]
    )
    objects = [n for n, body in enumerate(scene.bodies) if body.is_object]
    masks = np.zeros((len(times), len(objects), *scene.size), bool)
    boxes = np.zeros((len(times), len(objects), 4), np.float32)
    for slot, n in enumerate(objects):
        share = _compose(
            scene,
            times,
            lambda _, crop: np.zeros_like(crop(kelvin))[None],
            lambda c: np.ones((1, *c.shape), np.float32),
            shown=n,
        )
        masks[:, slot] = _average(share[:, 0]) > 0.5
        for i, mask in enumerate(masks[:, slot]):
            rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            if len(rows):
                boxes[i, slot] = (cols[0], rows[0], cols[-1] + 1, rows[-1] + 1)
    return Truth(_average(fine[:, 0]), boxes, masks, tuple(scene.bodies[n].shape.tag for n in objects))


def render_parts(scene: Scene, time: float = 0.0) -> NDArray[np.uint8]:
    """Render the kind of background surface at each pixel at `time`: (H, W) indices into `PARTS`.

    A pixel of which bodies cover more than half has the index 255.
    """
    kinds = np.arange(len(PARTS), dtype=np.float32)[:, None, None]
    parts = scene.surface.parts.astype(np.float32)
    shares = _compose(
        scene,
        np.array([time]),
        lambda _, crop: (crop(parts) == kinds).astype(np.float32),
        lambda c: np.zeros((len(PARTS), *c.shape), np.float32),
    )
    shares = _average(shares[0])
    return np.where(shares.sum(0) < 0.5, 255, shares.argmax(0)).astype(np.uint8)


class _Crop:
    """Cuts the part of a surface's field that one frame needs: its size plus three subpixels along each axis."""

    def __init__(self, surface: Canvas, corner: tuple[float, float], size: tuple[int, int]) -> None:
        self.shape = tuple(SUPERSAMPLING * (n + 2 * MARGIN) for n in size)
        places = [(corner[1] - surface.top, self.shape[0]), (corner[0] - surface.left, self.shape[1])]
        starts = [(place - MARGIN) * SUPERSAMPLING for place, _ in places]
        self.whole = [int(np.floor(start)) for start in starts]
        self.part = [start - whole for start, whole in zip(starts, self.whole, strict=True)]
        for whole, length, available in zip(self.whole, self.shape, surface.shape, strict=True):
            if whole < 1 or whole + length + 2 > available:
                raise InputError(
                    "the camera looks beyond the scene's background; make the scene with more frames or a larger margin"
                )

    def __call__(self, field: Array) -> Array:
        (y, x), (height, width) = self.whole, self.shape
        return field[..., y - 1 : y + height + 2, x - 1 : x + width + 2]


def _compose(
    scene: Scene,
    times: NDArray[np.float64],
    background: Callable[[int, _Crop], Array],
    field_of: Callable[[Canvas], Array],
    camera: Camera | None = None,
    shown: int | None = None,
    size: tuple[int, int] | None = None,
) -> Array:
    """Compose the bodies over the background at each time: (T, C, h, w) in subpixels, with the optics' margin.

    Args:
        scene: scene to render.
        times: times of the frames.
        background: function that returns the field (C, ...) of frame i, cut by the given crop.
        field_of: function that returns a body's field (C, ...) from its canvas.
        camera: second camera; None is the thermal camera.
        shown: index of the only body whose field is used; the fields of others are zero, but they still occlude it.
            None uses all bodies.
        size: height and width of the view; by default those of the thermal view.
    """
    camera = camera or Camera()
    visible = field_of is _colours
    frames: list[Array] = []
    rigid: dict[int, tuple[Array, float, float]] = {}
    for i, time in enumerate(times):
        view = scene.view(float(time))
        crop = _Crop(scene.surface, (view[0] + camera.shift[0], view[1] + camera.shift[1]), size or scene.size)
        frame = _shift(background(i, crop), *crop.part)
        for n, body in enumerate(scene.bodies):
            origin = [
                p - v * body.nearness - s - b * (body.nearness - 1 + body.closeness) + MARGIN
                for p, v, s, b in zip(body.path.at(float(time)), view, camera.shift, camera.baseline, strict=True)
            ]
            if n not in rigid or not body.shape.rigid:
                left, top, right, bottom = body.shape.bounds
                if not body.shape.rigid:  # painted on the frame's own subpixel grid
                    right, bottom = right + 1, bottom + 1
                    left = np.floor((origin[0] + left) * SUPERSAMPLING) / SUPERSAMPLING - origin[0]
                    top = np.floor((origin[1] + top) * SUPERSAMPLING) / SUPERSAMPLING - origin[1]
                canvas = Canvas(left, top, right - left, bottom - top, visible=visible, transparent=True)
                body.shape.paint(canvas, float(time))
                assert canvas.alpha is not None
                field = field_of(canvas) * (canvas.alpha if shown in (None, n) else np.float32(0))
                rigid[n] = np.concatenate([field, canvas.alpha[None]]), left, top
            sprite, left, top = rigid[n]
            _lay(frame, sprite, (origin[1] + top) * SUPERSAMPLING, (origin[0] + left) * SUPERSAMPLING)
        frames.append(frame)
    return np.stack(frames)


def _lay(frame: Array, sprite: Array, top: float, left: float) -> None:
    """Composite a premultiplied `sprite` (C + 1, h, w; alpha last) over `frame` (C, H, W) at fractional subpixels."""
    rows, cols = round(top), round(left)
    if abs(top - rows) + abs(left - cols) > 1e-4:
        # Pad with three empty subpixels on each side; (h + 3, w + 3) subpixels remain after shifting.
        rows, cols = int(np.floor(top)) - 1, int(np.floor(left)) - 1
        sprite = _shift(np.pad(sprite, ((0, 0), (3, 3), (3, 3))), rows + 2 - top, cols + 2 - left)
    height, width = sprite.shape[1:]
    y0, y1 = max(rows, 0), min(rows + height, frame.shape[1])
    x0, x1 = max(cols, 0), min(cols + width, frame.shape[2])
    if y1 <= y0 or x1 <= x0:
        return
    piece = sprite[:, y0 - rows : y1 - rows, x0 - cols : x1 - cols]
    target = frame[:, y0:y1, x0:x1]
    target *= 1 - piece[-1]
    target += piece[:-1]


def _shift(field: Array, y: float, x: float) -> Array:
    """Interpolate `field` (C, h + 3, w + 3) cubically at rows 1 + y + i and columns 1 + x + j, 0 <= y, x <= 1."""
    height, width = field.shape[1] - 3, field.shape[2] - 3
    if y:
        field = _weigh([field[:, k : k + height] for k in range(4)], y)
    else:
        field = field[:, 1 : 1 + height]
    if x:
        return _weigh([field[..., k : k + width] for k in range(4)], x)
    return field[..., 1 : 1 + width].copy()


def _weigh(taps: list[Array], at: float) -> Array:
    """Interpolate at `at` between the second and the third of four taps with Keys' cubic (a = -0.5)."""
    weights = (
        ((-0.5 * at + 1) * at - 0.5) * at,
        (1.5 * at - 2.5) * at * at + 1,
        ((-1.5 * at + 2) * at + 0.5) * at,
        (0.5 * at - 0.5) * at * at,
    )
    total = taps[0] * np.float32(weights[0])
    term = np.empty_like(total)
    for tap, weight in zip(taps[1:], weights[1:], strict=True):
        total += np.multiply(tap, np.float32(weight), out=term)
    return total


def _double(field: Array) -> Array:
    """Enlarge (h, w) bilinearly to subpixels, with the edge repeated."""
    for axis in (0, 1):
        f = field if axis == 0 else field.T
        out = np.empty((2 * f.shape[0], f.shape[1]), np.float32)
        near, far = f * np.float32(0.75), f * np.float32(0.25)
        out[2::2] = near[1:] + far[:-1]
        out[1:-1:2] = near[:-1] + far[1:]
        out[0], out[-1] = f[0], f[-1]
        field = out if axis == 0 else out.T
    return field


def _average(fine: Array) -> Array:
    """Return the mean (..., H, W) of each pixel's subpixels, without the optics' margin."""
    *lead, height, width = fine.shape
    cells = fine.reshape(*lead, height // SUPERSAMPLING, SUPERSAMPLING, width // SUPERSAMPLING, SUPERSAMPLING)
    return np.ascontiguousarray(cells.mean((-3, -1))[..., MARGIN:-MARGIN, MARGIN:-MARGIN])


def _colours(canvas: Canvas) -> Array:
    """Return a body's reflectance (3, h, w)."""
    assert canvas.rgb is not None
    return canvas.rgb
