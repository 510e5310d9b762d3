import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.data.degradations import real_degradations
from lit_thermal.data.degradations.degradation import Bicubic, BlurNoise, OpenCVBilinear
from lit_thermal.data.degradations.real_degradations import Defocus, MotionBlur, NETDNoise, RealThermal, Stripes
from lit_thermal.errors import InputError
from lit_thermal.ops.kernels import disc_kernel, filter2d, motion_kernel


def scene(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def random() -> torch.Generator:
    return torch.Generator().manual_seed(4)


@pytest.mark.parametrize("member", [Defocus, MotionBlur, NETDNoise, Stripes])
def test_nothing_but_the_base_is_left_at_strength_0(member):
    hr = scene(2, 1, 32, 48)
    for base in (Bicubic, OpenCVBilinear):
        degrade = member((0.0, 0.0), base=base)
        torch.testing.assert_close(degrade(hr, scale=4, seed=0), base()(hr, scale=4, seed=0), rtol=0, atol=1e-6)
    nothing = RealThermal(kinds=(0.0, 0.0, 1.0), noisy=0.0, striped=0.0, bits=16)
    torch.testing.assert_close(nothing(hr, scale=4, seed=0), Bicubic()(hr, scale=4, seed=0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("psf", ["disc", "gaussian"])
def test_every_pixel_is_blurred_by_the_radius_of_its_place(psf):
    """A slow sum over each pixel's own two kernels."""
    x = scene(1, 24, 20).double()
    kernel = disc_kernel if psf == "disc" else real_degradations._gaussian_of_radius
    strength = real_degradations._map(x, random())
    assert strength.min() == 0 and strength.max() == 1
    steps = (strength[1:] - strength[:-1]).abs().max(), (strength[:, 1:] - strength[:, :-1]).abs().max()
    assert max(steps) < 0.3, "smooth"
    found = real_degradations._varying(x, kernel, 0.5, 4.5, strength)
    padded = F.pad(x[None], (9, 9, 9, 9), mode="reflect")[0, 0]
    for i, j in ((0, 0), (5, 11), (12, 3), (23, 19), (17, 8)):
        place = float(strength[i, j]) * 4
        low = min(int(place), 3)
        value = 0.0
        for layer, weight in ((low, 1 - (place - low)), (low + 1, place - low)):
            k = kernel(0.5 + layer)
            r = k.shape[0] // 2
            value += weight * float((k * padded[i + 9 - r : i + 10 + r, j + 9 - r : j + 10 + r]).sum())
        assert float(found[0, i, j]) == pytest.approx(value, abs=1e-9)


def test_a_blur_keeps_the_level_and_displaces_nothing():
    flat, dot = torch.full((1, 64, 64), 0.4), torch.zeros(1, 65, 65)
    dot[0, 32, 32] = 1
    offset = torch.arange(65.0) - 32
    for degrade in (Defocus((6, 6)), Defocus((2, 10), "disc"), MotionBlur((12, 12))):
        torch.testing.assert_close(degrade.blur(flat, random()), flat)
    for degrade in (Defocus((6, 6), "disc"), Defocus((6, 6), "gaussian")):
        seen = degrade.blur(dot, random())[0]
        assert float(seen.sum()) == pytest.approx(1, abs=1e-5)
        for axis in (0, 1):
            across = seen.sum(axis)
            assert float((across * offset).sum()) == pytest.approx(0, abs=1e-4)
            assert float((across * offset**2).sum()) == pytest.approx(9, rel=0.05), "both functions are as wide"


def test_motion_is_of_the_whole_image_or_of_a_part():
    x = scene(1, 64, 64).double()
    whole = part = 0
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        seen = MotionBlur((10, 10)).blur(x, generator)
        replay = torch.Generator().manual_seed(seed)
        _, angle = torch.rand((), generator=replay), math.pi * float(torch.rand((), generator=replay))
        moved = filter2d(x, motion_kernel(10.0, angle))
        if torch.allclose(seen, moved):
            whole += 1
            continue
        part += 1
        assert (seen - x).abs().min() < 1e-3 and not torch.allclose(seen, x), "somewhere nothing moves"
    assert whole and part


def test_noise_has_the_deviation_that_its_temperature_says():
    flat = torch.full((8, 1, 128, 128), 0.5)
    noisy = NETDNoise((50, 50), span=10)(flat, scale=2, seed=0)
    assert float(noisy.std()) == pytest.approx(0.050 / 10, rel=0.02)
    assert not torch.equal(noisy[0], noisy[1]), "temporal"


def test_stripes_stay_through_a_clip_and_lie_one_way():
    flat, ways = torch.full((3, 1, 64, 256), 0.5), []
    for seed in range(30):
        striped = Stripes((2, 2))(flat, scale=2, seed=seed)
        assert torch.equal(striped, striped[:1].expand_as(striped))
        columns = torch.equal(striped, striped[..., :1, :].expand_as(striped))
        assert columns or torch.equal(striped, striped[..., :1].expand_as(striped))
        line = striped[0, 0, 0] if columns else striped[0, 0, :, 0]
        assert 0.6 < float(line.std()) * 255 / 2 < 1.5
        ways.append(columns)
    assert 15 < sum(ways) < 30


def test_one_upon_another_draws_as_alone():
    hr = scene(1, 32, 32)
    both = NETDNoise((0.001, 0.001), base=lambda: Stripes(base=lambda: Defocus(base=BlurNoise)))
    alone = Stripes(base=lambda: Defocus(base=BlurNoise))
    torch.testing.assert_close(both(hr, scale=4, seed=1), alone(hr, scale=4, seed=1), rtol=0, atol=1e-5)


def test_kinds_come_as_often_as_they_were_asked_for(monkeypatch):
    counts = dict.fromkeys(("defocus", "motion", "noise", "stripes"), 0)
    degrade, hr = RealThermal((0.6, 0.3, 0.1), noisy=0.7, striped=0.2), scene(1, 8, 8)
    for name in counts:

        def counted(x, generator, name=name):
            counts[name] += 1
            return x

        monkeypatch.setattr(getattr(degrade, name), "blur" if name in ("defocus", "motion") else "add", counted)
    for seed in range(500):
        degrade(hr, scale=4, seed=seed)
    expected = {"defocus": 0.6, "motion": 0.3, "noise": 0.7, "stripes": 0.2}
    assert {name: count / 500 for name, count in counts.items()} == pytest.approx(expected, abs=0.07)


def test_real_thermal_images_are_of_whole_levels_and_blurred():
    hr = scene(1, 64, 64)
    seen = [RealThermal()(hr, scale=4, seed=seed) for seed in range(6)]
    for image in seen:
        torch.testing.assert_close(image * 255, (image * 255).round(), rtol=0, atol=1e-4)
        assert image.std() < Bicubic()(hr, scale=4, seed=0).std()
    assert all(not torch.equal(seen[0], other) for other in seen[1:])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Defocus((3, 1)), "radius of Defocus"),
        (lambda: Defocus(psf="square"), "psf of Defocus is 'square'"),
        (lambda: MotionBlur((-1, 1)), "length of MotionBlur"),
        (lambda: NETDNoise((0, math.inf)), "netd of NETDNoise"),
        (lambda: NETDNoise(span=0), "span of NETDNoise"),
        (lambda: Stripes((1, math.nan)), "sigma of Stripes"),
        (lambda: RealThermal((0.5, 0.2, 0.2)), "kinds of RealThermal"),
        (lambda: RealThermal(striped=1.5), "striped of RealThermal"),
        (lambda: RealThermal(bits=0), "bits of RealThermal"),
        (lambda: RealThermal(stripes=(2, 1)), "sigma of Stripes"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(InputError, match=words):
        make()
