import pickle
from types import SimpleNamespace

import pytest
import torch

from lit_thermal.batch import is_observed
from lit_thermal.data.datamodules.simulated_video import RenderedClips, SimulatedVideo
from lit_thermal.data.degradations.conditions import BlurredInput, Complete, GuideOnly, NoisyInput
from lit_thermal.data.degradations.degradation import Bicubic, BlurNoise
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize


def data(**arguments) -> SimulatedVideo:
    small = {"size": 32, "crop": 4, "train_clips": 5, "val_clips": 3, "test_clips": 2, "samples_per_epoch": 8}
    return SimulatedVideo(**({"num_workers": 0, "batch_size": 4} | small | arguments))


def test_training_batch_keeps_the_contract() -> None:
    batches = list(data().train_dataloader())
    assert len(batches) == 2
    batch = batches[0]
    assert batch["lr"].shape == (4, 4, 1, 4, 4) and batch["hr"].shape == (4, 7, 1, 16, 16)
    for key in ("lr", "hr", "lr_time", "hr_time"):
        assert batch[key].dtype == torch.float32
    assert batch["hr"].min() >= 0 and batch["hr"].max() <= 1
    assert torch.equal(batch["lr_time"][0], torch.arange(4.0))
    assert torch.equal(batch["hr_time"][0], torch.arange(7) / 2)
    assert is_observed(batch["hr_time"]).sum() == 16
    record = batch["radiometry"][0]
    assert record.bits == 16 and record.unit == "linear"
    assert 200 < record.to_kelvin(torch.tensor(0.5)) < 600


def test_whole_clips_and_their_degradation() -> None:
    module = data()
    (batch,) = module.val_dataloader()
    assert batch["hr"].shape == (3, 7, 1, 32, 32)
    torch.testing.assert_close(batch["lr"], resize(batch["hr"][:, ::2], 8).clamp(0, 1))
    names = [name for loader in module.test_dataloader() for b in loader for name in b["name"]]
    assert names[0] == "test_standard_0000" and len(set(names)) == 8
    assert module.test_names == ["standard", "fast_motion", "switching_sources", "hot_boundaries"]
    for loader, there in zip(module.predict_dataloader(), module.test_dataloader(), strict=True):
        for without, batch in zip(loader, there, strict=True):
            assert "hr" not in without and torch.equal(without["lr"], batch["lr"])


def test_conditions_of_each_kind_of_scene() -> None:
    module = data(test_scenarios=["standard", "hot_boundaries"], test_conditions=[Complete, NoisyInput, BlurredInput])
    names = [f"{scene}{end}" for scene in ("standard", "hot_boundaries") for end in ("", "_netd_100", "_blur_1")]
    assert module.test_names == names
    sets = [next(iter(loader)) for loader in module.test_dataloader()]
    for first in (0, 3):
        plain, noisy, blurred = sets[first : first + 3]
        for changed in (noisy, blurred):
            assert torch.equal(changed["hr"], plain["hr"]) and not torch.equal(changed["lr"], plain["lr"])
        record = plain["radiometry"][0]
        kelvin = record.to_kelvin(noisy["lr"][0]) - record.to_kelvin(plain["lr"][0])
        assert float(kelvin.std()) == pytest.approx(0.1, rel=0.2)
    assert len(list(module.predict_dataloader())) == 2
    with pytest.raises(InputError, match=r"GuideOnly of data\.test_conditions needs a guide"):
        data(test_conditions=[GuideOnly])


def test_other_temporal_scales() -> None:
    module = data(temporal_scale=8, frames=25, train_clips=2, samples_per_epoch=2, batch_size=2)
    (batch,) = module.train_dataloader()
    assert batch["lr"].shape[:2] == (2, 4) and batch["hr"].shape[:2] == (2, 25)
    assert torch.equal(batch["hr_time"][0], torch.arange(25) / 8)


def after(module: SimulatedVideo, batches: int) -> SimulatedVideo:
    """The module in a training that has made so many batches."""
    loop = SimpleNamespace(total_batch_idx=batches - 1)
    module.trainer = SimpleNamespace(world_size=1, global_rank=0, fit_loop=loop)  # type: ignore[assignment]
    return module


@pytest.mark.parametrize("degradation", [Bicubic, BlurNoise])
def test_same_samples_on_any_number_of_workers(degradation) -> None:
    def epochs(workers: int) -> list[torch.Tensor]:
        module = data(num_workers=workers, degradation=degradation)
        seen = []
        for done in (0, 4):
            train = after(module, done).train_dataloader()
            seen += [tensor for batch in train for tensor in (batch["lr"], batch["hr"])]
        return seen + [batch["lr"] for loader in module.test_dataloader()[:2] for batch in loader]

    alone = epochs(0)
    for workers in (1, 2):
        for ours, theirs in zip(epochs(workers), alone, strict=True):
            assert torch.equal(ours, theirs)


def test_epochs_differ_and_repeat_on_resume() -> None:
    def epoch(module: SimulatedVideo, number: int) -> torch.Tensor:
        return torch.cat([batch["hr"] for batch in after(module, 2 * number).train_dataloader()])

    module = data()
    first, second = epoch(module, 0), epoch(module, 1)
    assert not torch.equal(first, second)
    assert torch.equal(epoch(data(), 1), second)
    assert not torch.equal(epoch(data(seed=1), 0), first)


def test_cached_clip_equals_a_fresh_one() -> None:
    arguments = {"frames": 7, "size": 32, "scenario": "standard", "max_speed": 3.0, "seed": 0}
    clips = RenderedClips("train", 2, **arguments)  # type: ignore[arg-type]
    counts, limits = clips[1]
    first = counts.copy()
    assert (clips[1][0] == first).all() and clips[1][1] == limits
    elsewhere = pickle.loads(pickle.dumps(clips))
    assert len(pickle.dumps(clips)) < 1000
    assert (elsewhere[1][0] == first).all() and elsewhere[1][1] == limits


def test_splits_share_no_scene() -> None:
    clips = {}
    for split in ("train", "val", "test"):
        rendered = RenderedClips(split, 4, frames=3, size=32, scenario="standard", max_speed=3.0, seed=0)  # type: ignore[arg-type]
        for index in range(4):
            clips[split, index] = rendered[index][0].tobytes()
    assert len(set(clips.values())) == 12


def test_default_degradation_can_be_sent_to_a_worker() -> None:
    assert type(data().degradation) is Bicubic
    pickle.loads(pickle.dumps(data().val_dataloader().dataset))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 34}, "data.size 34 is not a multiple of data.scale 4; take 36"),
        ({"crop": 9}, "data.crop 9 at scale 4 needs clips of 36 pixels, but data.size is 32: take a crop of 1 to 8"),
        ({"train_clips": 0}, "data.train_clips is 0"),
        ({"eval_batch_size": 0}, "data.eval_batch_size is 0"),
        ({"scenario": "rain"}, "data.scenario is 'rain'; must be one of"),
        ({"test_scenarios": []}, "data.test_scenarios is empty"),
    ],
)
def test_bad_arguments(arguments: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        data(**arguments)
