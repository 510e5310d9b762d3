import pickle

import numpy as np
import pytest
import torch

from lit_thermal.data.datamodules.simulated_pairs import TAG_BYTES, RenderedPairs, SimulatedPairs
from lit_thermal.data.degradations.conditions import Complete, GuideOnly, ShuffledGuide
from lit_thermal.data.degradations.degradation import Bicubic, BlurNoise
from lit_thermal.data.simulator import RIGS, SCENARIOS
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize


def data(*stages: str, **arguments) -> SimulatedPairs:
    small = {"size": 64, "crop": 4, "train_images": 5, "val_images": 3, "test_images": 2, "samples_per_epoch": 8}
    module = SimulatedPairs(**({"num_workers": 0, "batch_size": 4} | small | arguments))
    for stage in stages:
        module.setup(stage)
    return module


def pairs(split: str = "train", count: int = 2, **arguments) -> RenderedPairs:
    defaults = {"size": 64, "scenario": "standard", "guide_shift": 0.0, "guided": True, "seed": 0}
    return RenderedPairs(split, count, **(defaults | arguments))


def test_training_batch_keeps_the_contract():
    batches = list(data("fit").train_dataloader())
    assert len(batches) == 2
    batch = batches[0]
    assert list(batch) == ["lr", "hr", "guide", "has_lr", "has_guide", "radiometry", "name", "tags"]
    assert batch["lr"].shape == (4, 1, 4, 4) and batch["hr"].shape == (4, 1, 32, 32)
    assert batch["guide"].shape == (4, 3, 32, 32)
    for key in ("lr", "hr", "guide"):
        assert batch[key].dtype == torch.float32 and batch[key].min() >= 0 and batch[key].max() <= 1
    for key in ("has_lr", "has_guide"):
        assert batch[key].dtype == torch.bool and batch[key].shape == (4,) and batch[key].all()
    record = batch["radiometry"][0]
    assert record.bits == 16 and record.unit == "linear"
    assert 200 < record.to_kelvin(torch.tensor(0.5)) < 600
    assert all(tags and all(isinstance(word, str) and word for word in tags) for tags in batch["tags"])


def test_whole_images_and_their_degradation():
    module = data("fit", "test", "predict")
    (batch,) = module.val_dataloader()
    assert batch["hr"].shape == (3, 1, 64, 64) and batch["guide"].shape == (3, 3, 64, 64)
    torch.testing.assert_close(batch["lr"], resize(batch["hr"], 8).clamp(0, 1))
    (loader,) = module.test_dataloader()
    (tested,), (without,) = loader, module.predict_dataloader()
    assert tested["name"] == ["test_standard_0000", "test_standard_0001"] == without["name"]
    assert "hr" not in without and torch.equal(without["lr"], tested["lr"])
    assert torch.equal(without["guide"], tested["guide"])
    assert module.test_names == ["simulated"]


def test_other_scale_scenario_and_conditions():
    conditions = (Complete, GuideOnly, ShuffledGuide)
    module = data("test", scale=4, test_scenario="hot_boundaries", test_conditions=conditions)
    assert module.test_names == ["simulated", "simulated_guide_only", "simulated_shuffled_guide"]
    complete, guide_only, shuffled = (next(iter(loader)) for loader in module.test_dataloader())
    assert complete["lr"].shape == (2, 1, 16, 16) and complete["name"][0] == "test_hot_boundaries_0000"
    assert not guide_only["has_lr"].any() and torch.equal(guide_only["guide"], complete["guide"])
    assert torch.equal(shuffled["guide"], complete["guide"].flip(0))


@pytest.mark.parametrize("degradation", [Bicubic, BlurNoise])
def test_workers_do_not_change_the_samples(degradation):
    def seen(workers: int) -> list[dict]:
        module = data("fit", num_workers=workers, degradation=degradation)
        return [*module.train_dataloader(), *module.val_dataloader()]

    for alone, worked in zip(seen(0), seen(1), strict=True):
        for key in ("lr", "hr", "guide"):
            assert torch.equal(alone[key], worked[key])
        assert alone["name"] == worked["name"] and alone["tags"] == worked["tags"]
        assert alone["radiometry"] == worked["radiometry"]


def test_kept_pair_equals_a_fresh_one():
    rendered = pairs()
    first = rendered[1]
    elsewhere = pickle.loads(pickle.dumps(rendered))
    assert len(pickle.dumps(rendered)) < 1000
    for other in (rendered[1], elsewhere[1]):
        assert np.array_equal(other.hr, first.hr) and np.array_equal(other.guide, first.guide)
        assert other.tags == first.tags and other.radiometry == first.radiometry
    assert first.hr.dtype == np.uint16 and first.guide.dtype == np.uint8


def test_splits_share_no_scene():
    seen = {pairs(split, 3)[index].hr.tobytes() for split in ("train", "val", "test") for index in range(3)}
    assert len(seen) == 9


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_tags_find_room(scenario):
    rendered = pairs(count=6, scenario=scenario, size=32)
    assert all(len("\n".join(rendered[index].tags).encode()) < TAG_BYTES / 2 for index in range(6))


def test_the_visible_camera_is_displaced():
    beside = pairs(count=4, guide_shift=6.0)
    assert np.array_equal(beside[2].hr, pairs(count=4, guide_shift=5.5)[2].hr), "the margin is the same"
    assert not np.array_equal(beside[2].guide, pairs(count=4, guide_shift=5.5)[2].guide)
    pickle.loads(pickle.dumps(data("test", guide_shift=3.0)._sources["test"][0]))


def test_phones_look_at_the_same_scenes():
    rigs = {name: pairs(count=3, second_camera=name) for name in RIGS}
    light, phone, strong = (rigs[f"phone{severity}"] for severity in ("_light", "", "_strong"))
    for index in range(3):
        assert np.array_equal(light[index].hr, phone[index].hr) and np.array_equal(light[index].hr, strong[index].hr)
        assert light[index].tags == phone[index].tags
        guides = {rig[index].guide.tobytes() for rig in rigs.values()}
        assert len(guides) == 4 and light[index].guide.shape == (3, 64, 64)
        assert np.array_equal(pickle.loads(pickle.dumps(strong))[index].guide, strong[index].guide)
    assert np.array_equal(rigs["coaxial"][1].guide, pairs(count=3)[1].guide)


def test_a_phone_in_batches():
    (batch, *_) = data("fit", second_camera="phone", guide_shift=2.0).train_dataloader()
    assert batch["guide"].shape == (4, 3, 32, 32) and batch["has_guide"].all() and len(batch["tags"]) == 4


def test_unguided():
    (batch, _) = data("fit", guided=False).train_dataloader()
    assert list(batch) == ["lr", "hr", "radiometry", "name", "tags"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 68}, "data.size 68 is not a multiple of data.scale 8; take 72"),
        ({"size": 8, "crop": 1}, "data.size is 8; a scene needs at least 16 pixels a side"),
        ({"crop": 9}, "data.crop 9 at scale 8 needs images of 72 pixels, but data.size is 64: take a crop of 1 to 8"),
        ({"train_images": 0}, "data.train_images is 0; it must be at least 1"),
        ({"test_images": -3}, "data.test_images is -3"),
        ({"eval_batch_size": 0}, "data.eval_batch_size is 0"),
        ({"guide_shift": -1.0}, "data.guide_shift is -1.0; it must be from 0 to data.size 64"),
        (
            {"second_camera": "tablet"},
            "data.second_camera is 'tablet'; must be one of coaxial, phone_light, phone",
        ),
        ({"scenario": "rain"}, "data.scenario is 'rain'; must be one of standard, fast_motion"),
        ({"test_scenario": "rain"}, "data.test_scenario is 'rain'; must be"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(InputError, match=words):
        data(**arguments)
