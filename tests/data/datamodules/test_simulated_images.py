import pytest
import torch
from jsonargparse import ArgumentParser

from lit_thermal.data.datamodules import simulated_pairs
from lit_thermal.data.datamodules.simulated_images import SimulatedImages
from lit_thermal.data.datamodules.simulated_pairs import SimulatedPairs
from lit_thermal.data.degradations.real_esrgan import RealESRGAN
from lit_thermal.errors import InputError

SMALL = {"size": 64, "crop": 8, "train_images": 3, "val_images": 2, "test_images": 2, "samples_per_epoch": 4}
SMALL |= {"batch_size": 4, "num_workers": 0}


def batches(module: SimulatedPairs) -> list[dict]:
    for stage in ("fit", "test", "predict"):
        module.setup(stage)
    (tested,) = module.test_dataloader()
    return [*module.train_dataloader(), *module.val_dataloader(), *tested, *module.predict_dataloader()]


def test_batches_are_single_images_at_a_quarter() -> None:
    train, val, tested, without = batches(SimulatedImages(**SMALL))
    assert list(train) == ["lr", "hr", "radiometry", "name", "tags"]
    assert train["lr"].shape == (4, 1, 8, 8) and train["hr"].shape == (4, 1, 32, 32)
    assert val["lr"].shape == (2, 1, 16, 16) and val["hr"].shape == (2, 1, 64, 64)
    assert "hr" not in without and torch.equal(without["lr"], tested["lr"])
    assert train["radiometry"][0].unit == "linear"


def test_they_are_the_thermal_images_of_the_pairs() -> None:
    ours = batches(SimulatedImages(**SMALL, seed=3))
    pairs = batches(SimulatedPairs(**SMALL, seed=3, scale=4))
    unguided = batches(SimulatedPairs(**SMALL, seed=3, scale=4, guided=False))
    for alone, guided, other in zip(ours, pairs, unguided, strict=True):
        assert "guide" in guided and alone.keys() == other.keys() == guided.keys() - {"guide", "has_lr", "has_guide"}
        for key in alone:
            same = torch.equal if key in ("lr", "hr") else (lambda a, b: a == b)
            assert same(alone[key], guided[key]) and same(alone[key], other[key])


def test_the_visible_view_is_not_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments, **options):
        raise AssertionError("nobody looks at it")

    monkeypatch.setattr(simulated_pairs, "render_visible", refused)
    assert len(batches(SimulatedImages(**SMALL))) == 4


def test_splits_share_no_scene() -> None:
    module = SimulatedImages(**SMALL)
    seen = [source.read().hr.tobytes() for split in ("train", "val", "test") for source in module.sources(split)]
    assert len(set(seen)) == len(seen) == 7


def test_any_degradation_makes_the_input() -> None:
    train, val, *_ = batches(SimulatedImages(**SMALL, degradation=RealESRGAN))
    again, *_ = batches(SimulatedImages(**SMALL, degradation=RealESRGAN))
    assert torch.equal(train["lr"], again["lr"])
    for batch in (train, val):
        levels = batch["lr"] * 255
        torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)


def test_arguments_about_guides_are_not_taken() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SimulatedImages, "data")
    defaults = parser.get_defaults().data
    assert defaults.scale == 4
    assert {"size", "degradation", "test_scenario", "seed"} <= vars(defaults).keys()
    assert not {"guided", "guide_shift"} & vars(defaults).keys()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 66}, "data.size 66 is not a multiple of data.scale 4; take 68"),
        ({"crop": 17}, "data.crop 17 at scale 4 needs images of 68 pixels, but data.size is 64"),
        ({"scenario": "rain"}, "data.scenario is 'rain'; must be"),
    ],
)
def test_bad_arguments(arguments: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        SimulatedImages(**SMALL | arguments)
