from dataclasses import replace

import numpy as np
import pytest
import torch

from lit_thermal.batch import Radiometry
from lit_thermal.data.datamodules.image_samples import WholeImages
from lit_thermal.data.datamodules.sample import CachedSample, Sample
from lit_thermal.data.datamodules.windows import Source, TargetWindows
from lit_thermal.data.degradations.conditions import (
    BlurredInput,
    CoarserInput,
    Complete,
    Condition,
    ConditionedSamples,
    DisplacedGuide,
    GuideOnly,
    MisalignedGuide,
    NoisyInput,
    ShuffledGuide,
    ThermalOnly,
    WorseInput,
    make_conditions,
)
from lit_thermal.data.degradations.degradation import Bicubic
from lit_thermal.data.degradations.misalignment import Rotation, Shift
from lit_thermal.errors import InputError
from lit_thermal.ops.blur import gaussian_blur
from lit_thermal.ops.resize import resize


def data(count: int = 5) -> WholeImages:
    rng = np.random.default_rng(0)
    sources = []
    for number in range(count):
        hr, guide = rng.integers(0, 256, (40, 48), np.uint8), rng.integers(0, 256, (3, 40, 48), np.uint8)
        sources.append(CachedSample(f"image{number}", Sample(Radiometry(), hr, None, guide), 1))
    return WholeImages(sources, scale=8, guided=True, degradation=Bicubic(), seed=0)


class Gray:
    """A clip of 25 frames of one gray."""

    name, bits, size, length = "clip", 16, (32, 48), 25

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.full((stop - start, *self.size), 32768, np.uint16)


def clips(radiometry: Radiometry) -> TargetWindows:
    """Windows of seven frames, of which every second is an input."""
    source = Source(Gray(), radiometry)
    return TargetWindows([source], frames=7, scale=2, temporal_scale=2, degradation=Bicubic(), seed=0)


def same(one: dict, two: dict, *but: str) -> bool:
    assert one.keys() == two.keys()
    return all(
        torch.equal(one[key], two[key]) if isinstance(one[key], torch.Tensor) else one[key] == two[key]
        for key in one
        if key not in but
    )


@pytest.mark.parametrize("kind", Condition.__subclasses__())
def test_every_member_repeats_itself_and_leaves_the_target_alone(kind):
    images = data()
    once, again = ConditionedSamples(images, kind()), ConditionedSamples(data(), kind())
    assert len(once) == 5
    for index in range(5):
        assert same(once[index], again[index])
        assert same(once[index], images[index], "lr", "guide", "has_lr", "has_guide")
        for key in ("lr", "guide"):
            assert once[index][key].any() == once[index][f"has_{key}"]


def test_suffixes():
    kinds = (Complete, ThermalOnly, GuideOnly, ShuffledGuide, DisplacedGuide, MisalignedGuide)
    suffixes = ["", "thermal_only", "guide_only", "shuffled_guide", "displaced_8", "combined_medium"]
    assert [kind().suffix for kind in kinds] == suffixes
    assert DisplacedGuide(0).suffix == "displaced_0"
    assert MisalignedGuide(Rotation, "light").suffix == "rotation_light"
    inputs = (NoisyInput(50), BlurredInput(0.75), CoarserInput(1.5), WorseInput(2))
    assert [c.suffix for c in inputs] == ["netd_50", "blur_0.75", "coarser_1.5", "degraded_2"]
    assert [(c.varied.value, c.varied.neutral) for c in inputs] == [(50, 0), (0.75, 0), (1.5, 1), (2, 0)]
    assert len({c.varied.what for c in (*inputs, DisplacedGuide(4))}) == 5


@pytest.mark.parametrize("kind", [NoisyInput, BlurredInput, CoarserInput, WorseInput])
def test_inputs_at_the_neutral_degree_and_inputs_that_are_missing_stay_as_they_are(kind):
    images = data()
    neutral = kind(kind().varied.neutral)
    for index in range(2):
        torch.testing.assert_close(neutral(images[index], index, images)["lr"], images[index]["lr"], rtol=0, atol=1e-6)
    guide_only = GuideOnly()(images[0], 0, images)
    assert same(kind()(dict(guide_only), 0, images), guide_only)
    unguided = {key: value for key, value in images[0].items() if "guide" not in key and key != "has_lr"}
    changed = kind()(dict(unguided), 0, images)
    assert same(changed, unguided, "lr") and torch.equal(changed["lr"], kind()(images[0], 0, images)["lr"])


def test_noise_is_so_many_millikelvin():
    linear = Radiometry(0.0, 65535.0, 16, "linear", (280.0, 40 / 65535))
    # counts = R1 / (R2 (exp(B / T) - F)) - O, so that these are some 80 counts a Kelvin at 300 K
    planck = (16000.0, 0.0125, 1430.0, 1.0, -5000.0)
    at = [planck[0] / (planck[1] * (np.exp(planck[2] / t) - planck[3])) - planck[4] for t in (299.9, 300.1)]
    camera = Radiometry(0.0, 65535.0, 16, "planck", planck)
    for radiometry, span in ((linear, 40.0), (camera, 65535 * 0.2 / (at[1] - at[0])), (Radiometry(0, 65535, 16), 20.0)):
        windows = clips(radiometry)
        lr = windows[0]["lr"]
        noise = NoisyInput(400)(windows[0], 0, windows)["lr"] - lr
        assert noise.shape == (4, 1, 16, 24)
        assert float(noise.std()) == pytest.approx(0.4 / span, rel=0.04)
        assert abs(float(noise.mean())) < 4 * 0.4 / span / noise.numel() ** 0.5
        assert not torch.equal(noise[0], noise[1]), "each frame has its own"
    assert NoisyInput(100, span=5)(clips(Radiometry(0, 65535, 16))[0], 0, windows)["lr"].std() == pytest.approx(
        0.02, rel=0.05
    )


def test_noise_of_a_frame_is_the_same_in_every_window_and_at_every_level():
    windows = clips(Radiometry(0.0, 65535.0, 16))
    noisy = ConditionedSamples(windows, NoisyInput(40))
    # a window begins with the input frame that the one before ended with
    assert windows[0]["frame"][6] == windows[1]["frame"][0]
    assert torch.equal(noisy[0]["lr"][3], noisy[1]["lr"][0]) and not torch.equal(noisy[0]["lr"][0], noisy[1]["lr"][0])
    one, four = (NoisyInput(netd)(windows[0], 0, windows)["lr"] - windows[0]["lr"] for netd in (10, 40))
    torch.testing.assert_close(4 * one, four, rtol=0, atol=1e-5)
    images = data()
    assert not torch.equal(*(NoisyInput()(images[i], i, images)["lr"] - images[i]["lr"] for i in (0, 1)))
    assert NoisyInput(1e5)(images[0], 0, images)["lr"].min() == 0, "values stay in [0, 1]"


def test_blur_and_larger_pixels_are_those_of_the_ops():
    images = data()
    lr = images[0]["lr"]
    blurred = BlurredInput(0.8)(images[0], 0, images)["lr"]
    torch.testing.assert_close(blurred, gaussian_blur(lr.double(), 0.8).float())
    coarse = CoarserInput(2)(images[0], 0, images)["lr"]
    small = resize(lr.double(), (round(lr.shape[-2] / 2), round(lr.shape[-1] / 2)))
    torch.testing.assert_close(coarse, resize(small, lr.shape[-2:]).clamp(0, 1).float())
    assert coarse.std() < lr.std() and CoarserInput(100)(images[0], 0, images)["lr"].std() < 1e-6


def test_a_worse_camera_has_blur_noise_and_stripes_in_one_proportion():
    windows = clips(Radiometry(0.0, 65535.0, 16))
    sample = windows[0]
    noise = {s: WorseInput(s, blur=0, netd=0, stripes=100)(sample, 0, windows)["lr"] - sample["lr"] for s in (1, 2)}
    torch.testing.assert_close(2 * noise[1], noise[2], rtol=0, atol=1e-5)
    columns = noise[1][:, :, :1]
    assert torch.allclose(noise[1], columns[:1].expand_as(noise[1]), atol=1e-6), "a column keeps its offset"
    assert float(columns[0].std()) == pytest.approx(0.1 / 20, rel=0.4)
    images = data()
    alone = WorseInput(2, blur=0.4, netd=30, stripes=0)(images[0], 0, images)["lr"]
    torch.testing.assert_close(alone, NoisyInput(60)(BlurredInput(0.8)(images[0], 0, images), 0, images)["lr"])


def test_conditions_that_cannot_be():
    with pytest.raises(InputError, match=r"ShuffledGuide of data\.test_conditions needs a guide"):
        make_conditions([Complete, NoisyInput, ShuffledGuide], guided=False)
    assert len(make_conditions([Complete, NoisyInput, lambda: NoisyInput(50)], guided=False)) == 3
    for wrong, words in (
        (lambda: NoisyInput(-1), "netd of NoisyInput is -1; it must be at least 0"),
        (lambda: NoisyInput(span=0), "span of NoisyInput is 0; give the Kelvin from black to white"),
        (lambda: BlurredInput(float("nan")), "sigma of BlurredInput is nan; it must be at least 0"),
        (lambda: CoarserInput(0.5), "factor of CoarserInput is 0.5; it must be at least 1"),
        (lambda: WorseInput(1, stripes=-2), "stripes of WorseInput is -2; it must be at least 0"),
    ):
        with pytest.raises(InputError, match=words):
            wrong()


def test_missing_cameras():
    images = data()
    thermal, guide = ConditionedSamples(images, ThermalOnly())[1], ConditionedSamples(images, GuideOnly())[1]
    assert not thermal["has_guide"] and thermal["has_lr"] and same(thermal, images[1], "guide", "has_guide")
    assert not guide["has_lr"] and guide["has_guide"] and same(guide, images[1], "lr", "has_lr")


@pytest.mark.parametrize("count", [2, 3, 6, 7])
def test_shuffled_guides_are_each_anothers(count):
    images = data(count)
    shuffled = ConditionedSamples(images, ShuffledGuide())
    own = [images[index]["guide"].numpy().tobytes() for index in range(count)]
    given = [shuffled[index]["guide"].numpy().tobytes() for index in range(count)]
    assert sorted(given) == sorted(own)
    assert all(one != two for one, two in zip(own, given, strict=True))


def test_shuffled_guide_of_another_size_and_of_one_image():
    images = data(2)
    small = images.sources[1].sample
    images.sources[1] = CachedSample("small", replace(small, hr=small.hr[:16, :24], guide=small.guide[:, :16, :24]), 1)
    shuffled = ConditionedSamples(images, ShuffledGuide())
    assert shuffled[0]["guide"].shape == (3, 40, 48) and shuffled[1]["guide"].shape == (3, 16, 24)
    with pytest.raises(InputError, match="ShuffledGuide needs a second image to take the guide of 'image0' from"):
        ConditionedSamples(data(1), ShuffledGuide())[0]


def test_a_shuffled_guide_is_that_of_an_image_that_has_one():
    images = data(4)
    for index in (0, 2):
        source = images.sources[index]
        images.sources[index] = CachedSample(source.name, replace(source.sample, guide=None), 1)
    shuffled = ConditionedSamples(images, ShuffledGuide())
    # who has none keeps none; image 1 would have got that of image 3, and 3 that of 1, without a look at 0 and 2
    assert same(shuffled[0], images[0]) and same(shuffled[2], images[2])
    assert torch.equal(shuffled[1]["guide"], images[3]["guide"]) and shuffled[1]["has_guide"]
    # half the data set away from 3 of 5 lies 0, which has none; 1 is the next
    images.sources.append(CachedSample("more", replace(images.sources[1].sample, guide=None), 1))
    assert torch.equal(ConditionedSamples(images, ShuffledGuide())[3]["guide"], images[1]["guide"])
    images.sources[1] = images.sources[0]
    with pytest.raises(InputError, match="ShuffledGuide needs a second image to take the guide of 'image3' from"):
        ConditionedSamples(images, ShuffledGuide())[3]


def test_displaced_guide():
    images = data()
    assert same(ConditionedSamples(images, DisplacedGuide(0))[2], images[2])
    ways = set()
    for index in range(5):
        guide, moved = images[index]["guide"], ConditionedSamples(images, DisplacedGuide(6))[index]["guide"]
        for dx in range(-7, 8):
            for dy in range(-7, 8):
                inside = guide[:, 7 - dy : 33 - dy, 7 - dx : 41 - dx]
                if torch.equal(moved[:, 7:33, 7:41], inside):
                    ways.add((dx, dy))
                    assert abs(np.hypot(dx, dy) - 6) <= 0.71
    assert len(ways) >= 4, "directions differ from image to image"
    with pytest.raises(InputError, match="pixels of DisplacedGuide is -1; it must be at least 0"):
        DisplacedGuide(-1)


def test_misaligned_guide():
    images = data()
    steps = []
    for index in range(5):
        sample, guide = images[index], images[index]["guide"]
        for severity, pixels in (("light", 5), ("medium", 10), ("strong", 20)):
            got = ConditionedSamples(images, MisalignedGuide(lambda: Shift(0.5), severity))[index]
            assert same(got, sample, "guide") and not torch.equal(got["guide"], guide)
            rows, columns = (got["guide"][0] != 0).any(1).sum(), (got["guide"][0] != 0).any(0).sum()
            assert abs(np.hypot(40 - rows, 48 - columns) - pixels) < 2
            steps.append((int(rows), int(columns)))
    assert len(set(steps)) >= 9, "directions differ from image to image"
    nothing = ConditionedSamples(images, ThermalOnly())[0]
    assert same(MisalignedGuide()(dict(nothing), 0, images), nothing)
    with pytest.raises(InputError, match="severity of MisalignedGuide is 'bad'; must be one of light, medium, strong"):
        MisalignedGuide(severity="bad")
