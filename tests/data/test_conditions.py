from dataclasses import replace

import numpy as np
import pytest
import torch

from lit_thermal.batch import Radiometry
from lit_thermal.data.conditions import (
    Complete,
    Condition,
    ConditionedImages,
    DisplacedGuide,
    GuideOnly,
    MisalignedGuide,
    ShuffledGuide,
    ThermalOnly,
)
from lit_thermal.data.degradations import Bicubic
from lit_thermal.data.images import KeptShot, Shot, WholeImages
from lit_thermal.data.misalignment import Rotation, Shift
from lit_thermal.errors import InputError


def data(count: int = 5) -> WholeImages:
    rng = np.random.default_rng(0)
    sources = []
    for number in range(count):
        hr, guide = rng.integers(0, 256, (40, 48), np.uint8), rng.integers(0, 256, (3, 40, 48), np.uint8)
        sources.append(KeptShot(f"image{number}", Shot(Radiometry(), hr, None, guide), 1))
    return WholeImages(sources, scale=8, guided=True, degradation=Bicubic(), seed=0)


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
    once, again = ConditionedImages(images, kind()), ConditionedImages(data(), kind())
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


def test_missing_cameras():
    images = data()
    thermal, guide = ConditionedImages(images, ThermalOnly())[1], ConditionedImages(images, GuideOnly())[1]
    assert not thermal["has_guide"] and thermal["has_lr"] and same(thermal, images[1], "guide", "has_guide")
    assert not guide["has_lr"] and guide["has_guide"] and same(guide, images[1], "lr", "has_lr")


@pytest.mark.parametrize("count", [2, 3, 6, 7])
def test_shuffled_guides_are_each_anothers(count):
    images = data(count)
    shuffled = ConditionedImages(images, ShuffledGuide())
    own = [images[index]["guide"].numpy().tobytes() for index in range(count)]
    given = [shuffled[index]["guide"].numpy().tobytes() for index in range(count)]
    assert sorted(given) == sorted(own)
    assert all(one != two for one, two in zip(own, given, strict=True))


def test_shuffled_guide_of_another_size_and_of_one_image():
    images = data(2)
    small = images.sources[1].shot
    images.sources[1] = KeptShot("small", replace(small, hr=small.hr[:16, :24], guide=small.guide[:, :16, :24]), 1)
    shuffled = ConditionedImages(images, ShuffledGuide())
    assert shuffled[0]["guide"].shape == (3, 40, 48) and shuffled[1]["guide"].shape == (3, 16, 24)
    with pytest.raises(InputError, match="ShuffledGuide needs a second image to take the guide of 'image0' from"):
        ConditionedImages(data(1), ShuffledGuide())[0]


def test_a_shuffled_guide_is_that_of_an_image_that_has_one():
    images = data(4)
    for index in (0, 2):
        source = images.sources[index]
        images.sources[index] = KeptShot(source.name, replace(source.shot, guide=None), 1)
    shuffled = ConditionedImages(images, ShuffledGuide())
    # who has none keeps none; image 1 would have got that of image 3, and 3 that of 1, without a look at 0 and 2
    assert same(shuffled[0], images[0]) and same(shuffled[2], images[2])
    assert torch.equal(shuffled[1]["guide"], images[3]["guide"]) and shuffled[1]["has_guide"]
    # half the data set away from 3 of 5 lies 0, which has none; 1 is the next
    images.sources.append(KeptShot("more", replace(images.sources[1].shot, guide=None), 1))
    assert torch.equal(ConditionedImages(images, ShuffledGuide())[3]["guide"], images[1]["guide"])
    images.sources[1] = images.sources[0]
    with pytest.raises(InputError, match="ShuffledGuide needs a second image to take the guide of 'image3' from"):
        ConditionedImages(images, ShuffledGuide())[3]


def test_displaced_guide():
    images = data()
    assert same(ConditionedImages(images, DisplacedGuide(0))[2], images[2])
    ways = set()
    for index in range(5):
        guide, moved = images[index]["guide"], ConditionedImages(images, DisplacedGuide(6))[index]["guide"]
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
            got = ConditionedImages(images, MisalignedGuide(lambda: Shift(0.5), severity))[index]
            assert same(got, sample, "guide") and not torch.equal(got["guide"], guide)
            rows, columns = (got["guide"][0] != 0).any(1).sum(), (got["guide"][0] != 0).any(0).sum()
            assert abs(np.hypot(40 - rows, 48 - columns) - pixels) < 2
            steps.append((int(rows), int(columns)))
    assert len(set(steps)) >= 9, "directions differ from image to image"
    nothing = ConditionedImages(images, ThermalOnly())[0]
    assert same(MisalignedGuide()(dict(nothing), 0, images), nothing)
    with pytest.raises(InputError, match="severity of MisalignedGuide is 'bad'; choose of light, medium, strong"):
        MisalignedGuide(severity="bad")
