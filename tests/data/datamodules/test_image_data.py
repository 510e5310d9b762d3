from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from lit_thermal.batch import Radiometry
from lit_thermal.data.datamodules.image_data import ImageData
from lit_thermal.data.datamodules.sample import CachedSample, Sample
from lit_thermal.data.datamodules.training_sampler import TrainingSampler
from lit_thermal.data.degradations.conditions import Complete, DisplacedGuide, ShuffledGuide, ThermalOnly
from lit_thermal.errors import InputError


class Counted:
    """A picture that knows how often it was decoded."""

    bytes = 1000

    def __init__(self, name: str) -> None:
        self.name, self.reads = name, 0

    def read(self) -> Sample:
        self.reads += 1
        rng = np.random.default_rng(len(self.name))
        hr = rng.integers(1, 256, (40, 48), np.uint8)
        return Sample(Radiometry(), hr, None, rng.integers(0, 256, (3, 40, 48), np.uint8))


class Pictures(ImageData):
    """So many pictures in each split."""

    data_name = "pictures"

    def __init__(self, counts=None, guided=True, **arguments) -> None:
        super().__init__(**({"scale": 8, "crop": 3, "num_workers": 0, "batch_size": 2} | arguments), guided=guided)
        self.counts = {"train": 6, "val": 2, "test": 3, "predict": 1} | (counts or {})
        self.asked: list[str] = []

    def sources(self, split):
        self.asked.append(split)
        return [Counted(f"{split}{number}") for number in range(self.counts[split])]


def ready(stage: str = "fit", **arguments) -> Pictures:
    data = Pictures(**arguments)
    data.setup(stage)
    return data


def training(data: ImageData, *, batches: int = 0, world: int = 1, rank: int = 0, testing: bool = False) -> ImageData:
    """The data in a training that has made so many batches."""
    loop = SimpleNamespace(total_batch_idx=batches - 1)
    data.trainer = SimpleNamespace(world_size=world, global_rank=rank, fit_loop=loop, testing=testing)
    return data


def test_an_epoch_is_the_training_images_by_default():
    batches = list(ready().train_dataloader())
    assert sorted(name for batch in batches for name in batch["name"]) == [f"train{number}" for number in range(6)]
    assert batches[0]["lr"].shape == (2, 1, 3, 3) and batches[0]["guide"].shape == (2, 3, 24, 24)
    assert len(ready(samples_per_epoch=9).train_dataloader()) == 4


def test_resume_goes_on_where_it_stopped():
    def epoch(batches: int) -> list[torch.Tensor]:
        return [batch["hr"] for batch in training(ready(), batches=batches).train_dataloader()]

    first, second, middle = epoch(0), epoch(3), epoch(2)
    assert torch.equal(middle[0], first[2]) and torch.equal(middle[1], second[0])
    assert not any(torch.equal(one, two) for one, two in zip(first, second, strict=True))


def test_ranks_share_no_index():
    class Numbers(Dataset):
        def __len__(self):
            return 12

    indices = []
    for rank in range(2):
        trainer = training(ready(), batches=5, world=2, rank=rank).trainer
        indices.append(list(TrainingSampler(Numbers(), 3, trainer)))
    assert not set(indices[0]) & set(indices[1])
    assert sorted(indices[0] + indices[1]) == list(range(30, 42))
    names = [
        [name for batch in training(ready(), world=2, rank=rank).train_dataloader() for name in batch["name"]]
        for rank in range(2)
    ]
    assert len(names[0]) == len(names[1]) == 2, "the odd third image of each rank fills no batch"
    assert not set(names[0]) & set(names[1])


def test_each_split_is_asked_for_once_and_only_when_needed():
    data = ready()
    assert data.asked == ["train", "val"]
    for stage in ("validate", "fit", "test", "test", "predict"):
        data.setup(stage)
    assert data.asked == ["train", "val", "test", "predict"]


def test_training_images_are_kept_as_far_as_memory_goes():
    data = ready(cache_gib=2500 / 2**30)
    kept = [isinstance(source, CachedSample) for source in data._sources["train"]]
    assert kept == [True, True, False, False, False, False]
    list(data.train_dataloader())
    assert [source.reads for source in data._sources["train"][2:]] == [1] * 4
    assert not any(isinstance(source, CachedSample) for source in ready(cache_gib=0)._sources["train"])


def test_a_loader_for_each_condition():
    data = ready("test", test_conditions=(Complete, ThermalOnly, lambda: DisplacedGuide(3)))
    assert data.test_names == ["pictures", "pictures_thermal_only", "pictures_displaced_3"]
    complete, thermal, displaced = ([batch for batch in loader] for loader in data.test_dataloader())
    assert [batch["name"] for batch in complete] == [["test0"], ["test1"], ["test2"]]
    assert complete[0]["hr"].shape == (1, 1, 40, 48)
    for one, two, three in zip(complete, thermal, displaced, strict=True):
        assert torch.equal(one["lr"], two["lr"]) and torch.equal(one["hr"], three["hr"])
        assert one["has_guide"].all() and not two["has_guide"].any() and not two["guide"].any()
        assert not torch.equal(one["guide"], three["guide"])


def test_workers_stay_for_loaders_that_are_read_again_alone():
    data = ready("test", num_workers=2, test_conditions=(Complete, ThermalOnly))
    data.setup("fit")
    data.setup("predict")
    assert data.train_dataloader().persistent_workers and data.val_dataloader().persistent_workers
    # each condition has workers of its own: eleven of them would be there at once at the end of a robustness test
    once = [*data.test_dataloader(), data.predict_dataloader()]
    assert not any(loader.persistent_workers for loader in once)


def test_predict_has_no_target():
    (batch,) = ready("predict").predict_dataloader()
    assert "hr" not in batch and batch["lr"].shape == (1, 1, 5, 6) and batch["name"] == ["predict0"]


def test_unguided_data():
    (batch, *_) = ready(guided=False).train_dataloader()
    assert set(batch) == {"lr", "hr", "radiometry", "name"}
    with pytest.raises(InputError, match=r"ThermalOnly of data\.test_conditions needs a guide"):
        Pictures(guided=False, test_conditions=(ThermalOnly,))


def test_a_test_run_can_do_without_validation_images():
    data = training(Pictures({"val": 0}), testing=True)
    data.setup("validate")
    assert data.val_dataloader() == []
    with pytest.raises(InputError, match="the data set pictures has no images for val"):
        training(Pictures({"val": 0})).setup("validate")
    with pytest.raises(InputError, match="the data set pictures has no images for test"):
        ready("test", counts={"test": 0})


def test_an_epoch_must_fill_a_batch():
    with pytest.raises(InputError, match=r"6 samples does not fill one batch of data\.batch_size 7 on each device"):
        ready(batch_size=7).train_dataloader()
    with pytest.raises(InputError, match="there are 6"):
        training(ready(), world=6).train_dataloader()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": 0}, "data.scale is 0; it must be at least 1"),
        ({"batch_size": 0}, "data.batch_size is 0"),
        ({"eval_batch_size": 0}, "data.eval_batch_size is 0"),
        ({"crop": -1}, "data.crop is -1; it must be at least 0"),
        ({"samples_per_epoch": -1}, "data.samples_per_epoch is -1"),
        ({"num_workers": -1}, "data.num_workers is -1"),
        ({"seed": -1}, "data.seed is -1"),
        ({"cache_gib": -0.5}, "data.cache_gib is -0.5"),
        ({"cache_gib": float("nan")}, "data.cache_gib is nan"),
        ({"test_conditions": ()}, "data.test_conditions is empty or names one twice"),
        ({"test_conditions": (ShuffledGuide, Complete, ShuffledGuide)}, "names one twice"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(InputError, match=words):
        Pictures(**arguments)
