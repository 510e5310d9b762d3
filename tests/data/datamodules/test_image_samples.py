from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import lit_thermal.data.datamodules.sample as sample_module
from lit_thermal.batch import Radiometry, collate
from lit_thermal.data.datamodules.image_samples import TrainingCrops, WholeImages
from lit_thermal.data.datamodules.sample import CachedSample, Sample
from lit_thermal.data.degradations.degradation import Bicubic, BlurNoise, Degradation
from lit_thermal.errors import InputError

SIXTEEN = Radiometry(0.0, 65535.0, 16)


class BlockMean(Degradation):
    """Each LR pixel sees its own block alone, so that a crop, a flip and the reduction may change places."""

    def degrade(self, hr, scale, generator):
        return F.avg_pool2d(hr, scale)


def make_sample(
    seed: int, lr: bool = True, guide: bool = True, size: tuple[int, int] = (12, 15), scale: int = 4
) -> Sample:
    """Blocks of one gray each, of which the guide shows the same."""
    small = np.random.default_rng(seed).integers(1, 256, size, dtype=np.uint8)
    hr = small.repeat(scale, 0).repeat(scale, 1)
    return Sample(Radiometry(), hr, small if lr else None, np.stack([hr] * 3) if guide else None)


def kept(*shots: Sample) -> list[CachedSample]:
    return [CachedSample(f"image{number}", one, 1) for number, one in enumerate(shots)]


def crops(sources, **arguments) -> TrainingCrops:
    usual = {"scale": 4, "crop": 5, "guided": True, "degradation": BlockMean(), "augment": True, "samples": 8}
    return TrainingCrops(sources, **(usual | {"seed": 0} | arguments))


def whole(sources, **arguments) -> WholeImages:
    return WholeImages(sources, **({"scale": 4, "guided": True, "degradation": Bicubic(), "seed": 0} | arguments))


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("crop", [5, 0])
def test_crops_and_flips_agree(made, crop):
    source = make_sample(0, lr=not made)
    data = crops(kept(source), crop=crop)
    looks = set()
    for index in range(40):
        sample = data[index]
        side = (5, 5) if crop else (12, 15)
        assert sample["lr"].shape == (1, *side)
        assert sample["hr"].shape == (1, 4 * side[0], 4 * side[1])
        assert torch.equal(sample["guide"], sample["hr"].expand(3, -1, -1))
        assert torch.allclose(F.avg_pool2d(sample["hr"], 4), sample["lr"], atol=1e-6)
        looks.add(sample["lr"].numpy().tobytes())
    # 8 x 11 places of a crop on whole LR pixels (more where the input is made), 4 flips
    assert len(looks) == 4 if crop == 0 else len(looks) > 30


def test_given_input_is_cut_on_whole_pixels_and_shown_as_it_is():
    given = make_sample(0)
    odd = replace(given, lr=255 - given.lr)
    for index in range(10):
        sample = crops(kept(odd), augment=False)[index]
        assert torch.allclose(F.avg_pool2d(sample["hr"], 4), 1 - sample["lr"], atol=1e-6)


def test_made_input_does_not_see_the_border_of_the_crop():
    y, x = np.mgrid[:256, :256]
    # The guide tells where a crop lies. An even slope stays one under a reduction that sees no border.
    guide = np.stack([y, x, 0 * x]).astype(np.uint8)
    data = crops(
        kept(Sample(SIXTEEN, (200 * x + 50 * y).astype(np.uint16), None, guide)), degradation=Bicubic(), scale=8
    )
    inside = 0
    for index in range(40):
        sample = data[index]
        place = sample["guide"][:2] * 255
        if place.min() >= 16 and place.max() <= 255 - 16:
            assert torch.allclose(F.avg_pool2d(sample["hr"], 8), sample["lr"], atol=1e-5)
            inside += 1
    assert inside > 10


def test_a_pass_shows_each_image_once_in_its_own_order():
    data = crops(kept(*(make_sample(seed) for seed in range(7))), samples=7)
    passes = [[data[7 * number + place]["name"] for place in range(7)] for number in range(3)]
    assert all(sorted(names) == [f"image{n}" for n in range(7)] for names in passes)
    assert len({tuple(names) for names in passes}) == 3


def test_a_sample_depends_on_seed_and_index_alone():
    sources = kept(*(make_sample(seed, lr=False, size=(30, 30)) for seed in range(5)))
    data, other = crops(sources, degradation=BlurNoise()), crops(sources, degradation=BlurNoise())
    for index in (3, 17, 4, 3, 10_000_000):
        one, two = data[index], other[index]
        assert one["name"] == two["name"]
        for key in ("lr", "hr", "guide"):
            assert torch.equal(one[key], two[key])
    reseeded = crops(sources, degradation=BlurNoise(), seed=1)
    assert not torch.equal(data[3]["lr"], reseeded[3]["lr"])


def test_whole_images_are_cut_to_the_scale():
    full = make_sample(0, lr=False, size=(12, 15))
    odd = replace(full, hr=full.hr[:-1, :-2], guide=full.guide[:, :-1, :-2])
    sample = whole(kept(odd))[0]
    assert sample["lr"].shape == (1, 11, 14) and sample["hr"].shape == (1, 44, 56) and sample["guide"].shape[0] == 3
    assert torch.equal(sample["hr"][0] * 255, torch.from_numpy(full.hr[:44, :56]).float())
    assert torch.equal(sample["guide"], sample["hr"].expand(3, -1, -1))
    assert sample["has_lr"].item() is True and sample["has_guide"].dtype == torch.bool
    assert sample["name"] == "image0" and sample["radiometry"] == Radiometry() and "tags" not in sample


def test_what_is_absent_is_zero_and_flagged():
    lone, guide_only = make_sample(0, guide=False), replace(make_sample(1), hr=None, lr=None, tags=("car",))
    sample = whole(kept(lone))[0]
    assert not sample["has_guide"] and sample["guide"].shape == (3, 48, 60) and not sample["guide"].any()
    assert not crops(kept(lone))[0]["has_guide"]
    dark = whole(kept(guide_only), target=False)[0]
    assert not dark["has_lr"] and dark["has_guide"] and dark["lr"].shape == (1, 12, 15) and not dark["lr"].any()
    assert dark["tags"] == ["car"] and "hr" not in dark
    collate([whole(kept(one), target=False)[0] for one in (lone, make_sample(2), replace(make_sample(3), hr=None))])


def test_unguided_samples_have_no_guide():
    for sample in (crops(kept(make_sample(0)), guided=False)[0], whole(kept(make_sample(0)), guided=False)[0]):
        assert list(sample) == ["lr", "hr", "radiometry", "name"]


def test_the_noise_of_an_image_comes_from_its_name():
    def lr(name: str, seed: int = 0) -> torch.Tensor:
        source = CachedSample(name, make_sample(0, lr=False, size=(20, 20)), 1)
        return whole([source], degradation=BlurNoise(), seed=seed, target=False)[0]["lr"]

    assert torch.equal(lr("a"), lr("a"))
    assert not torch.equal(lr("a"), lr("b")) and not torch.equal(lr("a"), lr("a", seed=1))


def test_black_images_are_valid_and_warned_of_once(caplog, monkeypatch):
    monkeypatch.setattr(sample_module, "_black", set())
    black = replace(make_sample(0), hr=np.zeros((48, 60), np.uint8), lr=np.zeros((12, 15), np.uint8))
    for _ in range(2):
        assert not whole(kept(black))[0]["lr"].any()
        assert not crops(kept(black))[0]["hr"].any()
    assert [r.message for r in caplog.records] == ["the thermal image image0 is entirely black"]
    assert caplog.records[0].name.startswith("lit_thermal")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hr": np.ones((48, 60), np.uint16)}, "image0 has an hr of 16 bits and an lr of 8: give both the same depth"),
        ({"lr": np.ones((12, 14), np.uint8)}, "image0 has an hr of 60x48 and an lr of 14x12, which is not 1/4 of it"),
        ({"guide": np.ones((3, 48, 64), np.uint8)}, "image0 has a guide of 64x48, but its target .* is 60x48"),
        ({"hr": None, "lr": None, "guide": None}, "image0 has no thermal image and no guide"),
        ({"hr": None}, "image0 has no target to measure against"),
    ],
)
def test_pictures_that_do_not_fit(change, words):
    with pytest.raises(InputError, match=words):
        whole(kept(replace(make_sample(0), **change)))[0]


def test_images_that_training_cannot_use():
    with pytest.raises(InputError, match="image0 has no target to train on"):
        crops(kept(replace(make_sample(0), hr=None)))[0]
    with pytest.raises(
        InputError, match=r"data\.crop 13 at scale 4 needs images of at least 52x52, but image0 is 60x48"
    ):
        crops(kept(make_sample(0)), crop=13)[0]
    with pytest.raises(InputError, match=r"image0 is 15x12, smaller than data\.scale 16"):
        whole(kept(Sample(SIXTEEN, np.ones((12, 15), np.uint16))), scale=16)[0]
