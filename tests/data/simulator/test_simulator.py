from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal.data.simulator import (
    PARTS,
    RIGS,
    SCENARIOS,
    Camera,
    Flare,
    ScenarioName,
    Scene,
    SecondCamera,
    make_scene,
    render,
    render_parts,
    render_visible,
)
from lit_thermal.data.simulator.bodies import Body, Path, Slab
from lit_thermal.data.simulator.canvas import Canvas
from lit_thermal.data.simulator.heat import CoolingParts, HeatField, Pattern, dct, idct
from lit_thermal.data.simulator.planck import BAND, apparent_kelvin, band_radiance, radiance_per_kelvin
from lit_thermal.data.simulator.rig import FRAMES, margin
from lit_thermal.data.simulator.scenery import Weather
from lit_thermal.data.simulator.sensor import MARGIN, Sensor
from lit_thermal.errors import InputError
from lit_thermal.ops.heat_equation import laplacian

TIMES = np.arange(7, dtype=np.float64)


def plain_scene(
    heat: HeatField | None = None,
    *,
    size: int = 48,
    kelvin: float = 300.0,
    emissivity: float = 1.0,
    sensor: Sensor | None = None,
    bodies: tuple[Body, ...] = (),
    pan: tuple[float, float] = (0.0, 0.0),
    reach: int = 0,
) -> Scene:
    """A bare wall; its background starts `MARGIN + 2 + reach` pixels outside the frame."""
    edge = MARGIN + 2 + reach
    surface = Canvas(-edge, -edge, size + 2 * edge, size + 2 * edge)
    surface.kelvin[...], surface.emissivity[...] = kelvin, emissivity
    shape = (size + 2 * edge, size + 2 * edge)
    return Scene(
        name="plain",
        size=(size, size),
        surface=surface,
        heat=heat or HeatField(shape, 0.1),
        bodies=bodies,
        pan=(pan, (0.0, 0.0)),
        weather=Weather(kelvin, kelvin - 30, 1.0),
        sensor=sensor or Sensor(0.0, 0.0, 0.0, 0.0),
        tags=(),
        entropy=(0, 1, 2),
    )


def kelvin_of(scene: Scene, times: np.ndarray = TIMES) -> np.ndarray:
    known = render(scene, times, truth=True).truth
    assert known is not None
    return known.kelvin.astype(np.float64)


# Heat


@pytest.mark.parametrize("n", [1, 2, 3, 8, 13])
def test_cosine_transform(n: int) -> None:
    x = np.random.default_rng(0).random((3, n))
    matrix = np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(n)) / n)
    np.testing.assert_allclose(dct(x), x @ matrix, atol=1e-12)
    np.testing.assert_allclose(idct(dct(x)), x, atol=1e-12)


@pytest.mark.parametrize(("m", "n"), [(0, 0), (1, 0), (3, 5), (12, 2)])
def test_cosine_modes_decay_exactly(m: int, n: int) -> None:
    height, width, diffusivity, cooling = 40, 56, 0.23, 0.017
    field = HeatField((height, width), diffusivity, cooling)
    y, x = np.arange(height) + 0.5, np.arange(width) + 0.5
    mode = np.cos(np.pi * m * y / height)[:, None] * np.cos(np.pi * n * x / width)
    field.deposit(5.0 * mode)
    rate = diffusivity * np.pi**2 * ((m / height) ** 2 + (n / width) ** 2) + cooling
    times = np.array([0.0, 0.5, 1.0, 3.75, 20.0])
    expected = 5.0 * np.exp(-rate * times)[:, None, None] * mode
    np.testing.assert_allclose(field.at(times), expected, atol=1e-5)


def test_spot_spreads_as_the_heat_kernel() -> None:
    field = HeatField((96, 96), 0.3)
    offset = np.arange(96) + 0.5 - 48
    start = 2.0**2
    bell = np.exp(-(offset**2) / (2 * start))
    field.deposit(Pattern(10 * bell, bell))
    for time, image in zip((0.0, 10.0, 40.0), field.at(np.array([0.0, 10.0, 40.0])), strict=True):
        variance = start + 2 * 0.3 * time
        bell_now = np.exp(-(offset**2) / (2 * variance))
        expected = 10 * start / variance * bell_now[:, None] * bell_now
        np.testing.assert_allclose(image, expected, atol=2e-5)


def test_heat_is_conserved_and_cooling_is_exponential() -> None:
    start = np.random.default_rng(0).random((30, 21))
    closed = HeatField((30, 21), 0.4)
    closed.deposit(start)
    np.testing.assert_allclose(closed.at(TIMES).sum((1, 2), dtype=np.float64), start.sum(), rtol=1e-6)
    open_ = HeatField((30, 21), 0.4, cooling=0.1)
    open_.deposit(start)
    total = open_.at(TIMES).sum((1, 2), dtype=np.float64)
    np.testing.assert_allclose(total, start.sum() * np.exp(-0.1 * TIMES), rtol=1e-6)


def test_source_that_switches_between_frames_integrates_exactly() -> None:
    field = HeatField((4, 4), 0.2, cooling=0.25)
    field.heat(np.full((4, 4), 2.0), 1.3, 3.1)
    times = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 9.0])
    on = np.clip(times, 1.3, 3.1) - 1.3
    risen = 2.0 / 0.25 * (1 - np.exp(-0.25 * on))
    expected = risen * np.exp(-0.25 * np.maximum(times - 3.1, 0))
    np.testing.assert_allclose(field.at(times)[:, 1, 2], expected, atol=1e-6)
    lossless = HeatField((4, 4), 0.2)
    lossless.heat(np.full((4, 4), 2.0), -1.0, 2.0)
    np.testing.assert_allclose(lossless.at(times)[:, 0, 0], [2, 4, 6, 6, 6, 6], atol=1e-6)


def test_follows_a_fine_explicit_scheme() -> None:
    rng = np.random.default_rng(0)
    start = np.cumsum(np.cumsum(rng.standard_normal((24, 24)), 0), 1) * 0.05
    field = HeatField((24, 24), 0.15, cooling=0.02)
    field.deposit(start)
    state, steps = start.copy(), 2000
    fine = 4  # the same field on a finer grid approaches the continuous equation
    state = field.at(np.array([0.0]))[0].astype(np.float64)
    state = idct(np.pad(dct(state), ((0, 0), (0, 24 * (fine - 1)))) * fine)
    state = idct(np.pad(dct(state.T), ((0, 0), (0, 24 * (fine - 1)))) * fine).T
    for _ in range(steps):
        edge = np.pad(state, 1, mode="edge")
        laplacian = (edge[2:, 1:-1] + edge[:-2, 1:-1] + edge[1:-1, 2:] + edge[1:-1, :-2] - 4 * state) * fine**2
        state = state + 6.0 / steps * (0.15 * laplacian - 0.02 * state)
    coarse = state.reshape(24, fine, 24, fine).mean((1, 3))
    np.testing.assert_allclose(field.at(np.array([6.0]))[0], coarse, atol=0.02 * np.ptp(start))


def test_rendered_kelvin_follows_the_analytic_solution() -> None:
    size, edge, diffusivity, cooling = 48, MARGIN + 2, 0.2, 0.01
    n = size + 2 * edge
    field = HeatField((n, n), diffusivity, cooling)
    position = np.arange(n) + 0.5
    ky, kx = np.pi * 3 / n, np.pi * 5 / n
    mode = np.cos(ky * position)[:, None] * np.cos(kx * position)
    field.deposit(8.0 * mode)
    # Bilinear interpolation to subpixels and averaging them keeps this share of the mode.
    kept = (0.75 + 0.25 * np.cos(ky)) * (0.75 + 0.25 * np.cos(kx))
    rate = diffusivity * (ky**2 + kx**2) + cooling
    expected = 300 + 8.0 * kept * np.exp(-rate * TIMES)[:, None, None] * mode[edge:-edge, edge:-edge]
    scene = plain_scene(field, size=size, emissivity=0.9)
    np.testing.assert_allclose(kelvin_of(scene), expected, atol=2e-4)
    # What the noiseless camera stores is the same, but for the box of the pixels and 16 bits.
    black = plain_scene(field, size=size)
    clip = render(black, TIMES)
    low, step = clip.radiometry.constants
    measured = low + step * clip.counts
    inside = np.abs(expected - 300) < 0.95 * (measured.max() - 300)
    assert np.abs(measured - expected)[inside].max() < 0.02


# Radiation


def test_band_radiance_against_numerical_integration() -> None:
    kelvin = np.linspace(180, 700, 401)
    wavelength = np.linspace(*BAND, 20001)
    h, c, k = 6.62607015e-34, 299792458.0, 1.380649e-23
    for start in range(0, 401, 40):
        some = kelvin[start : start + 40, None]
        spectral = 2 * h * c**2 / wavelength**5 / (np.exp(h * c / (wavelength * k * some)) - 1)
        reference = ((spectral[:, 1:] + spectral[:, :-1]) / 2 * np.diff(wavelength)).sum(1)
        np.testing.assert_allclose(band_radiance(some[:, 0]), reference, rtol=1e-5)
    back = apparent_kelvin(band_radiance(kelvin))
    assert np.abs(back - kelvin).max() < 5e-4


def test_gray_surface_reflects_the_sky() -> None:
    for emissivity in (1.0, 0.9, 0.6):
        scene = plain_scene(kelvin=310.0, emissivity=emissivity)
        clip = render(scene, TIMES[:1])
        low, step = clip.radiometry.constants
        mixed = emissivity * band_radiance(np.float32([310.0])) + (1 - emissivity) * band_radiance(np.float32([280.0]))
        expected = float(apparent_kelvin(mixed)[0])
        assert abs(low + step * float(clip.counts.mean()) - expected) < 2e-3


# The camera


@pytest.mark.parametrize("kelvin", [300.0, 270.0])
def test_noise_has_the_stated_netd(kelvin: float) -> None:
    scene = plain_scene(kelvin=kelvin, size=96, sensor=Sensor(0.4, netd=50.0, fixed_pattern=0.0, stripes=0.0))
    clip = render(scene, np.arange(12, dtype=np.float64))
    low, step = clip.radiometry.constants
    measured = 1000 * (low + step * clip.counts.astype(np.float64))
    expected = 50.0 * radiance_per_kelvin(300.0) / radiance_per_kelvin(kelvin)
    assert abs(measured.std() / expected - 1) < 0.02
    assert abs(np.diff(measured, axis=0).std() / expected / np.sqrt(2) - 1) < 0.02


def test_fixed_pattern_and_stripes_stay() -> None:
    scene = plain_scene(size=96, sensor=Sensor(0.4, netd=0.0, fixed_pattern=30.0, stripes=40.0))
    clip = render(scene, TIMES)
    low, step = clip.radiometry.constants
    measured = 1000 * (low + step * clip.counts.astype(np.float64))
    assert (clip.counts == clip.counts[0]).all()
    assert abs((measured[0] - measured[0].mean(0)).std() / 30 - 1) < 0.05
    assert abs(measured[0].mean(0).std() / 40 - 1) < 0.2


def test_focus_keeps_a_constant_and_blurs_as_stated() -> None:
    fine = np.full((1, 2 * (20 + 2 * MARGIN), 2 * (24 + 2 * MARGIN)), 7.0, np.float32)
    np.testing.assert_allclose(Sensor(0.6).focus(fine), 7.0, rtol=1e-6)
    assert Sensor(0.6).focus(fine).shape == (1, 20, 24)
    point = np.zeros((1, 2 * (33 + 2 * MARGIN), 2 * (33 + 2 * MARGIN)), np.float32)
    middle = point.shape[1] // 2
    point[0, middle - 1 : middle + 1, middle - 1 : middle + 1] = 1.0
    spread = Sensor(0.5).focus(point)[0].sum(0).astype(np.float64)
    position = np.arange(33) - 16
    assert abs((spread * position).sum()) < 1e-5
    # Two subpixels seen through the pixel's own width and the optics.
    variance = (spread * position**2).sum() / spread.sum()
    assert abs(variance - (0.5**2 + 2 * (0.25**2))) < 0.03


def test_moving_bodies_keep_their_place_to_a_fraction_of_a_pixel() -> None:
    # Rigid sprites are resampled and a turning camera shifts the wall: both must land where they should.
    plate = Slab(width=12.0, height=10.0, hot=330.0, steps=(), round=False)
    speed, pan = (1.37, -0.61), (0.7, 0.25)
    scene = plain_scene(bodies=(Body(plate, Path((14.0, 30.0), speed)),), pan=pan, reach=8, size=48)
    hot = kelvin_of(scene) - 300.0
    y, x = np.arange(48) + 0.5, np.arange(48) + 0.5
    for time, image in enumerate(hot):
        centre = ((image * x).sum() / image.sum(), (image * y[:, None]).sum() / image.sum())
        expected = (14.0 + (speed[0] - pan[0]) * time, 30.0 - 5.0 + (speed[1] - pan[1]) * time)
        np.testing.assert_allclose(centre, expected, atol=0.02)
        np.testing.assert_allclose(image.sum(), 30 * 12 * 10, rtol=0.01)
    known = render(scene, TIMES, truth=True).truth
    assert known is not None and known.labels == ("hot object",)
    left, top, right, bottom = known.boxes[0, 0]
    assert abs(left - 8) <= 1 and abs(right - 20) <= 1 and abs(top - 20) <= 1 and abs(bottom - 30) <= 1
    assert known.masks[0, 0].sum() == (right - left) * (bottom - top)


def test_a_nearer_body_hides_a_farther_one() -> None:
    far = Slab(width=20.0, height=16.0, hot=310.0, steps=(), round=False)
    near = Slab(width=8.0, height=30.0, hot=330.0, steps=(), round=False)
    at = Path((24.0, 34.0), (0.0, 0.0))
    scene = plain_scene(bodies=(Body(far, at), Body(near, at)))
    known = render(scene, TIMES[:1], truth=True).truth
    assert known is not None
    assert abs(known.kelvin[0, 26, 24] - 330) < 1e-3 and abs(known.kelvin[0, 26, 17] - 310) < 1e-3
    assert not (known.masks[0, 0] & known.masks[0, 1]).any()
    assert known.masks[0, 0].sum() == 12 * 16


# Scenes


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenes_render_the_same_every_time(scenario) -> None:
    for index in range(3):
        first, second = (render(make_scene(5, index, size=64, scenario=scenario)) for _ in range(2))
        assert first.counts.shape == (7, 64, 64) and first.counts.dtype == np.uint16
        assert np.array_equal(first.counts, second.counts) and first.radiometry == second.radiometry
        low, step = first.radiometry.constants
        assert 200 < low < low + 65535 * step < 700
        assert first.counts.std() > 2000
    other = render(make_scene(5, 0, stream=1, size=64, scenario=scenario))
    assert not np.array_equal(other.counts, render(make_scene(5, 0, size=64, scenario=scenario)).counts)


def explained(scenario: str, index: int) -> tuple[float, float, float]:
    """Share of the change in time that D lap(T) explains in a clip, the fitted D and the scene's D."""
    scene = make_scene(0, index, scenario=scenario)  # type: ignore[arg-type]
    video = torch.from_numpy(render(scene).counts.astype(np.float64))[None, :, None]
    change, bend = (video[:, 2:] - video[:, :-2]) / 2, laplacian(video[:, 1:-1])
    both, bent = float((change * bend).sum()), float(bend.square().sum())
    return both**2 / bent / float(change.square().sum()), both / bent, getattr(scene.heat, "diffusivity", 0.0)


def test_conduction_explains_the_change_in_its_own_scenario_alone() -> None:
    share, fitted, known = np.array([explained("conduction", index) for index in range(12)]).T
    assert np.median(share) > 0.85 and share.min() > 0.5
    assert known.min() > 0.13 and known.max() < 0.4 and np.median(np.abs(fitted / known - 1)) < 0.1
    assert np.median([explained("standard", index)[0] for index in range(12)]) < 4e-4


def test_nothing_moves_in_conduction() -> None:
    for index in range(4):
        scene = make_scene(2, index, scenario="conduction")
        assert isinstance(scene.heat, HeatField)
        assert not scene.bodies and scene.view(6.0) == (0.0, 0.0) and np.ptp(scene.surface.kelvin) == 0
        excess = scene.heat.at(TIMES)
        # Nothing is added within the clip: the sheet loses heat to the air alone, and its hot spots decay.
        np.testing.assert_allclose(excess.sum((1, 2)) / excess[0].sum(), np.exp(-scene.heat.cooling * TIMES), rtol=1e-3)
        assert (np.diff(excess.max((1, 2))) < 0).all()


def test_parts_cool_exponentially_at_their_own_rates() -> None:
    parts = CoolingParts((2, 3))
    parts.add(np.full((2, 3), 8.0), 0.1)
    parts.add(np.eye(2, 3) * 5, 0.02)
    expected = 8 * np.exp(-0.1 * TIMES)[:, None] + 5 * np.exp(-0.02 * TIMES)[:, None] * (1, 0)
    np.testing.assert_allclose(parts.at(TIMES)[:, 0, :2], expected, rtol=1e-6)
    for index in range(4):
        scene = make_scene(2, index, scenario="cooling")
        assert isinstance(scene.heat, CoolingParts) and scene.view(6.0) == (0.0, 0.0)
        excess = scene.heat.at(TIMES)
        assert (np.diff(excess, axis=0) <= 0).all() and excess[0].max() > 5
        hot = excess[:, excess[0] > 5]
        rates = -np.log(hot[6] / hot[0]) / 6
        assert rates.min() > 0.99 / 60 and rates.max() < 1.01 / 4 and np.ptp(rates) > 0.02


def test_earlier_scenarios_keep_their_place_in_the_seeds() -> None:
    assert list(SCENARIOS)[:4] == ["standard", "fast_motion", "switching_sources", "hot_boundaries"]
    assert list(SCENARIOS) == list(get_args(ScenarioName))


def test_colours_do_not_change_the_thermal_scene() -> None:
    for index, scenario in enumerate(("standard", "standard", "hot_boundaries", "conduction")):
        plain, coloured = (
            make_scene(1, index, size=64, visible=visible, scenario=scenario)  # type: ignore[arg-type]
            for visible in (False, True)
        )
        assert np.array_equal(render(plain).counts, render(coloured).counts)


def test_motion_stays_below_the_limit() -> None:
    for scenario, limit in (("standard", 2.0), ("fast_motion", 2.5)):
        for index in range(10):
            scene = make_scene(3, index, scenario=scenario, max_speed=2.0, frames=9)  # type: ignore[arg-type]
            views = np.array([scene.view(t) for t in range(9)])
            assert np.hypot(*np.diff(views, axis=0).T).max() <= limit + 1e-6
            for body in scene.bodies:
                seen = np.array([body.path.at(t) for t in range(9)]) - views * body.nearness
                # Bodies keep their course while the camera changes its own by up to a third.
                assert np.hypot(*np.diff(seen, axis=0).T).max() <= 1.35 * limit


def test_visible_view_and_its_second_camera() -> None:
    scene = make_scene(0, 1, size=64, visible=True, margin=8)
    view = render_visible(scene, 2.0)
    assert view.shape == (3, 64, 64) and view.dtype == np.float32
    assert view.min() >= 0 and view.max() <= 1 and view.std() > 0.01
    aside = render_visible(scene, 2.0, Camera(shift=(5.0, 3.0)))
    inner, moved = view[:, 3:, 5:], aside[:, :-3, :-5]
    assert np.abs(inner - moved).mean() < 0.25 * np.abs(view[:, :-3, :-5] - moved).mean()
    with pytest.raises(InputError, match="beyond the scene's background"):
        render_visible(scene, 0.0, Camera(shift=(40.0, 0.0)))
    with pytest.raises(InputError, match="visible=True"):
        render_visible(make_scene(0, 1, size=64))


def test_bad_arguments() -> None:
    with pytest.raises(InputError, match="scenario is 'rain'; must be one of"):
        make_scene(0, 0, scenario="rain")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 16"):
        make_scene(0, 0, size=8)


def shaded(scene: Scene) -> Scene:
    """The same in daylight without clouds of noise, so that views can be compared."""
    return replace(scene, weather=replace(scene.weather, sun=0.5))


def test_a_wider_view_shows_the_same_centre_smaller() -> None:
    scene = shaded(make_scene(0, 1, size=64, visible=True, margin=40))
    view, wide = render_visible(scene), render_visible(scene, 0.0, Camera(view=(2.0, 1.5)))
    assert wide.shape == (3, 64, 64)
    # the middle of the wide view is the plain view at 1/2 and 1/1.5 of its width and height
    inner = np.stack([np.asarray(Image.fromarray(p).resize((32, 43), Image.Resampling.BICUBIC)) for p in view])
    middle = wide[:, 11:53, 16:48]
    assert np.abs(middle - (inner[:, :42] + inner[:, 1:]) / 2).mean() < 0.03
    assert np.abs(middle - view[:, 11:53, 16:48]).mean() > 0.06


def test_what_is_near_moves_with_the_baseline() -> None:
    found = 0
    for index in range(12):
        scene = shaded(make_scene(0, index, size=64, visible=True, margin=8))
        assert all(0 <= body.closeness <= 1 for body in scene.bodies)
        assert np.array_equal(render_visible(scene, 0.0, Camera(baseline=(0.0, 0.0))), render_visible(scene))
        aside = render_visible(scene, 0.0, Camera(baseline=(0.0, 16.0)))
        # bodies are drawn so much higher, the background stays
        bodies = []
        for body in scene.bodies:
            (x, y), up = body.path.start, 16 * (body.nearness - 1 + body.closeness)
            bodies.append(replace(body, path=replace(body.path, start=(x, y - up))))
        moved = render_visible(replace(scene, bodies=tuple(bodies)))
        assert np.abs(aside - moved).max() < 1e-5
        found += not np.allclose(aside, render_visible(scene), atol=0.05)
    assert found > 6, "most scenes have something near"


def test_flare_adds_light_that_falls_from_its_source() -> None:
    scene = shaded(make_scene(0, 1, size=64, visible=True))
    plain = render_visible(scene)
    glaring = render_visible(scene, 0.0, Camera(flare=Flare((-0.25, -0.25), 0.8)))
    added = (glaring - plain).mean(0)
    assert (glaring >= plain - 1e-6).all() and added.min() >= 0 and glaring[:, 16, 16].min() > 0.85
    assert np.abs(plain).std() > glaring[:, 8:24, 8:24].std(), "contrast is lost around it"
    assert glaring[:, 60, 2].mean() > plain[:, 60, 2].mean()


def test_rigs_draw_within_their_bounds() -> None:
    assert list(RIGS) == list(get_args(SecondCamera))
    assert RIGS["coaxial"].draw(np.random.default_rng(0), 64, (1.5, -2.0)) == Camera(shift=(1.5, -2.0))
    for rig in RIGS.values():
        cameras = [rig.draw(np.random.default_rng(seed), 100) for seed in range(200)]
        shifts = [np.hypot(*camera.shift) for camera in cameras]
        assert max(shifts) <= 100 * rig.pointing and (max(shifts) > 90 * rig.pointing or not rig.pointing)
        assert min(c.delay for c in cameras) >= 0 and max(c.delay for c in cameras) <= rig.delay
        flares = [camera.flare for camera in cameras if camera.flare]
        assert len(flares) / 200 == pytest.approx(rig.flares, abs=0.1)
        assert all(rig.glare / 2 <= flare.strength <= rig.glare for flare in flares)


@pytest.mark.parametrize("size", [16, 64])
def test_scenes_of_rigs_have_room_for_every_camera(size) -> None:
    corners = [(x, y) for x in (-1, 1) for y in (-1, 1)]
    for index, scenario in enumerate(SCENARIOS):
        scene = make_scene(1, index, size=size, frames=FRAMES, scenario=scenario, visible=True, margin=margin(size))
        for rig in RIGS.values():
            for x, y in corners:
                reach = rig.pointing * size
                for delay in (0.0, rig.delay):
                    render_visible(scene, 0.0, Camera((x * reach, y * reach), (5.0, 5.0), delay, rig.view))


def test_parts_are_those_of_the_last_surface_painted_where_no_body_is() -> None:
    body = Slab(width=8.0, height=10.0, hot=310.0, steps=(), round=False)
    scene = plain_scene(bodies=(Body(body, Path((40.0, 34.0), (0.0, 0.0))),))
    canvas = scene.surface
    canvas.part = "sky"
    canvas.paint(canvas.box(0, 0, 48, 20), 250.0)
    canvas.part = "plant"
    canvas.paint(canvas.box(4.0, 8.2, 12.0, 30.9), 300.0)
    found = render_parts(scene)
    expected = np.full((48, 48), PARTS.index("ground"))
    expected[:20] = PARTS.index("sky")
    expected[8:31, 4:12] = PARTS.index("plant")
    expected[24:34, 36:44] = 255
    np.testing.assert_array_equal(found, expected)


def test_scenes_have_every_part() -> None:
    parts = {part for n in range(12) for part in np.unique(render_parts(make_scene(0, n, size=64, frames=1))).tolist()}
    assert parts >= set(range(len(PARTS)))
