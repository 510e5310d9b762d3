import pytest
import torch
from torch import Tensor

from lit_thermal.data.degradations.degradation import Bicubic
from lit_thermal.data.degradations.thermal_camera import ThermalCamera, displacements
from lit_thermal.errors import InputError

OFF = {
    "clean": 0.0,
    "turbulent": 0.0,
    **dict.fromkeys(("turbulence", "blur", "noise", "pattern", "stripes", "jumps", "dead"), (0.0, 0.0)),
    "bits": 16,
}


def camera(**strengths: object) -> ThermalCamera:
    """Return a camera with nothing but the given defects."""
    return ThermalCamera(**{**OFF, **strengths})  # type: ignore[arg-type]


def scene(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def flat(*shape: int) -> Tensor:
    return torch.full(shape, 0.5)


def test_nothing_but_the_reduction_is_left_without_defects():
    hr = scene(3, 1, 32, 48)
    reduced = Bicubic()(hr, scale=4, seed=0)
    for degrade in (camera(), ThermalCamera(clean=1.0, bits=16)):
        torch.testing.assert_close(degrade(hr, scale=4, seed=0), reduced, rtol=0, atol=1e-5)


def test_clean_clips_are_as_frequent_as_requested():
    hr = scene(2, 1, 16, 16)
    reduced = (Bicubic()(hr, scale=4, seed=0) * 255).round() / 255
    same = sum(torch.equal(ThermalCamera(clean=0.3)(hr, scale=4, seed=seed), reduced) for seed in range(400))
    assert same / 400 == pytest.approx(0.3, abs=0.06)


def test_temporal_noise_has_its_deviation_in_each_frame():
    noisy = camera(noise=(5, 5))(flat(8, 1, 128, 128), scale=2, seed=0)
    assert float(noisy.std()) * 255 == pytest.approx(5, rel=0.02)
    assert float((noisy[1:] - noisy[:-1]).std()) * 255 == pytest.approx(5 * 2**0.5, rel=0.02)


def test_fixed_pattern_and_stripes_stay_through_a_clip():
    for strengths in ({"pattern": (3, 3)}, {"stripes": (3, 3)}):
        fixed = camera(**strengths)(flat(4, 1, 256, 256), scale=2, seed=0)
        assert torch.equal(fixed, fixed[:1].expand_as(fixed))
        assert float(fixed.std()) * 255 == pytest.approx(3, rel=0.2)
    pattern = camera(pattern=(3, 3))(flat(1, 1, 256, 256), scale=2, seed=0) - 0.5
    assert float(pattern.mean(dim=-2).std()) * 255 < 0.5, "no stripes"


def test_jumps_move_whole_frames():
    jumped = camera(jumps=(2, 2))(flat(200, 1, 8, 8), scale=4, seed=0)
    torch.testing.assert_close(jumped, jumped[..., :1, :1].expand_as(jumped))
    assert float(jumped[:, 0, 0, 0].std()) * 255 == pytest.approx(2, rel=0.15)


def test_dead_pixels_are_constant_whatever_the_scene_and_the_noise():
    hr = scene(5, 1, 256, 256) * 0.2 + 0.4
    degraded = camera(dead=(0.01, 0.01), noise=(2, 2))(hr, scale=2, seed=0)
    stuck = (degraded == degraded[:1]).all(dim=0)
    assert float(stuck.double().mean()) == pytest.approx(0.01, abs=0.003)
    assert float(degraded[0][stuck].std()) == pytest.approx(12**-0.5, rel=0.2), "uniform over the range"


def test_displacements_are_smooth_independent_and_of_unit_size():
    found = displacements(scene(60, 1, 120, 90), 12, torch.Generator().manual_seed(0))
    assert found.shape == (60, 2, 120, 90)
    for axis in range(2):
        assert float(found[:, axis].square().mean().sqrt()) == pytest.approx(1, rel=0.05)
    assert float((found[..., 1:] - found[..., :-1]).std()) < 0.2
    pairs = [(found[1:], found[:-1]), (found[:, 0], found[:, 1]), (found[..., 36:], found[..., :-36])]
    assert max(abs(float((a * b).mean())) for a, b in pairs) < 0.1


def test_turbulence_moves_content_by_the_requested_amount():
    """A ramp shows displacement as a difference of values."""
    ramp = (torch.arange(256.0) / 512 + 0.25).expand(40, 1, 256, 256)
    moved = camera(turbulent=1.0, turbulence=(2, 2), eddy=(40, 40))(ramp, scale=2, seed=0)
    difference = (moved - Bicubic()(ramp, scale=2, seed=0))[..., 8:-8, 8:-8] * 512
    assert float(difference.square().mean().sqrt()) == pytest.approx(2, rel=0.1)
    assert not torch.equal(difference[0], difference[1])


def test_windows_of_a_clip_share_fixed_pattern_and_dead_pixels():
    """Frames differ between the windows of a clip; all that stays is drawn from the clip's seed before them."""
    degrade = camera(pattern=(2, 2), stripes=(2, 2), dead=(0.01, 0.01), blur=(0, 2))
    hr = scene(3, 1, 64, 64)
    assert torch.equal(degrade(hr[[0, 1]], scale=4, seed=5)[1], degrade(hr[[1, 2]], scale=4, seed=5)[0])


@pytest.mark.parametrize(
    "arguments",
    [
        {"clean": 1.5},
        {"turbulent": -0.1},
        {"turbulence": (2, 1)},
        {"eddy": (0, 5)},
        {"blur": (-1, 1)},
        {"noise": (0, float("inf"))},
        {"stripes": (3, 2)},
        {"dead": (0, 2)},
        {"bits": 17},
    ],
)
def test_bad_arguments(arguments: dict):
    with pytest.raises(InputError, match=f"{next(iter(arguments))} of ThermalCamera is"):
        ThermalCamera(**arguments)
