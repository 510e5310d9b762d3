import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

from lit_thermal.data.datamodules.composite import CompositePairs
from lit_thermal.data.datamodules.simulated_pairs import SimulatedPairs
from lit_thermal.data.degradations.conditions import Complete, GuideOnly, MisalignedGuide, ShuffledGuide
from lit_thermal.data.degradations.degradation import Bicubic
from lit_thermal.data.readers.guided_folder import GuidedFolder
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize


def write(root: Path, split: str, names: str, height: int = 32, width: int = 48, bits: int = 8) -> None:
    """Smooth pictures, so that they can be resized; what they show depends on the name."""
    for name in names.split():
        rng = np.random.default_rng(sum(name.encode()))
        y, x = np.mgrid[:height, :width] / 10
        top, kind = (4000, np.uint16) if bits == 16 else (250, np.uint8)
        wave = 0.5 + 0.5 * np.sin(rng.uniform(0.5, 1) * x + rng.uniform(0.5, 1) * y + rng.uniform(0, 6))
        hr = (1 + top * wave).astype(kind)
        for folder, pixels in (("hr", hr), ("guide", rng.integers(0, 256, (height, width, 3), np.uint8))):
            (root / split / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / split / folder / f"{name}.png")


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, str]:
    for part, bits in (("one", 8), ("two", 16)):
        write(tmp_path / part, "train", "0 1 2 3 4 5 6", bits=bits)
        write(tmp_path / part, "val", "7", bits=bits)
        write(
            tmp_path / part, "test", "8 9 10" if part == "one" else "8 9", height=40 if part == "two" else 32, bits=bits
        )
    return {part: str(tmp_path / part) for part in ("one", "two")}


def data(roots: dict[str, str], *stages: str, **changes) -> CompositePairs:
    parts = {part: lambda root=root: GuidedFolder(root, lr="") for part, root in roots.items()}
    options = {"prefixes": {"two": "b"}, "num_workers": 0, "crop": 2, "batch_size": 2} | changes
    module = CompositePairs(parts, **options)
    for stage in stages:
        module.setup(stage)
    return module


def names(loader) -> list[str]:
    return [name for batch in loader for name in batch["name"]]


def test_parts_are_joined_and_tested_alone(roots, caplog):
    with caplog.at_level(logging.INFO, "lit_thermal"):
        module = data(roots, "fit", "test", "predict", test_conditions=(Complete, ShuffledGuide))
    assert "composite has 14 train images: one 7, two 7" in caplog.text
    assert module.counts["test"] == {"one": 3, "two": 2}
    assert sorted(names(module.train_dataloader())) == sorted([*"0123456", *(f"b{i}" for i in range(7))])
    assert names(module.val_dataloader()) == ["7", "b7"]
    assert module.test_names == ["one", "one_shuffled_guide", "two", "two_shuffled_guide"]
    tests = [names(loader) for loader in module.test_dataloader()]
    assert tests == [["8", "9", "10"]] * 2 + [["b8", "b9"]] * 2
    assert names(module.predict_dataloader()) == ["8", "9", "10", "b8", "b9"]
    complete, shuffled = ([b["guide"] for b in loader] for loader in module.test_dataloader()[2:])
    assert torch.equal(shuffled[0], complete[1]), "guides are exchanged within a part"


def test_steps_and_counts(roots, caplog):
    with caplog.at_level(logging.WARNING, "lit_thermal"):
        module = data(
            roots, "fit", "test",
            steps={"one": {"train": 3}, "two": {"train": 2}},
            counts={"one": {"test": 1, "val": 0}, "two": {"train": 3, "test": 0, "val": 5}},
        )  # fmt: skip
    assert module.counts["train"] == {"one": 3, "two": 3}
    assert [source.name for source in module._sources["train"]] == ["0", "3", "6", "b0", "b2", "b4"]
    assert names(module.val_dataloader()) == ["b7"]
    assert module.test_names == ["one"] and [names(loader) for loader in module.test_dataloader()] == [["8"]]
    assert "data.counts asks for 5 val images of two, which has 1" in caplog.text


def test_pictures_become_squares_of_one_size(roots):
    module = data(roots, "fit", "test", side=24, crop=0, batch_size=8, degradation=Bicubic)
    batch = next(iter(module.train_dataloader()))
    assert batch["hr"].shape == (8, 1, 24, 24) and batch["guide"].shape == (8, 3, 24, 24)
    assert batch["lr"].shape == (8, 1, 3, 3)
    plain, square = data(roots, "test"), module
    for one, two in zip(plain.test_dataloader(), square.test_dataloader(), strict=True):
        for full, cut in zip(one, two, strict=True):
            height, width = full["hr"].shape[-2:]
            left = (width - height) // 2
            for key in ("hr", "guide"):
                middle = resize(full[key][..., left : left + height], 24, kernel="linear")
                step = full["radiometry"][0].gain if key == "hr" else 255
                assert (middle - cut[key]).abs().max() <= 0.51 / step
    assert {batch["radiometry"][0].bits for loader in square.test_dataloader() for batch in loader} == {8, 16}


def test_conditions_and_misalignment_are_those_of_the_whole(roots):
    module = data(roots, "fit", "test", test_conditions=(Complete, lambda: MisalignedGuide(severity="strong")))
    assert module.test_names == ["one", "one_combined_strong", "two", "two_combined_strong"]
    complete, askew = (next(iter(loader)) for loader in module.test_dataloader()[:2])
    assert not torch.equal(complete["guide"], askew["guide"]) and torch.equal(complete["hr"], askew["hr"])


def test_the_simulator_can_be_a_part(tmp_path):
    write(tmp_path, "train", "0 1")
    write(tmp_path, "val", "2")
    small = {"size": 32, "crop": 2, "train_images": 2, "val_images": 1, "test_images": 1}
    module = CompositePairs(
        {"folder": lambda: GuidedFolder(str(tmp_path), lr=""), "simulated": lambda: SimulatedPairs(**small)},
        crop=2, batch_size=1, num_workers=0,
    )  # fmt: skip
    module.setup("fit")
    assert module.counts == {"train": {"folder": 2, "simulated": 2}, "val": {"folder": 1, "simulated": 1}}
    assert len(names(module.train_dataloader())) == 4
    module.trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False)
    with pytest.raises(InputError, match=r"GuideOnly leaves nothing of 3"):
        write(tmp_path, "test", "3")
        (tmp_path / "test" / "guide" / "3.png").unlink()
        write(tmp_path, "test", "4")
        part = {"folder": lambda: GuidedFolder(str(tmp_path), lr="", incomplete=True)}
        CompositePairs(part, test_conditions=(Complete, GuideOnly)).setup("test")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prefixes": {}}, "data.parts one and two both have an image '0': set data.prefixes of one"),
        ({"prefixes": {"three": "c"}}, "data.prefixes names 'three', which is not a part; data.parts has one, two"),
        ({"steps": {"one": {"train": 0}}}, "data.steps.one.train is 0; it must be at least 1"),
        ({"counts": {"two": {"val": -1}}}, "data.counts.two.val is -1; it must be at least 0"),
        ({"side": 20}, "data.side is 20; it must be a multiple of data.scale 8, or 0"),
        ({"scale": 4}, "scale of data.parts.one is 8 and data.scale is 4: give both the same"),
        ({"guided": False}, "guided of data.parts.one is True and data.guided is False"),
        ({"counts": {p: {"train": 0} for p in ("one", "two")}}, "the data set composite has no images for train"),
    ],
)
def test_bad_arguments(roots, changes, words):
    with pytest.raises(InputError, match=words):
        data(roots, "fit", **changes)


def test_no_part_and_a_part_without_images(roots, tmp_path):
    with pytest.raises(InputError, match=r"data.parts is empty; name at least one data set"):
        CompositePairs({})
    with pytest.raises(InputError, match=r"the data root .*nowhere does not exist; expected"):
        data({"one": str(tmp_path / "nowhere")}, "fit", prefixes={})
    write(tmp_path / "bare", "train", "0 1")
    with pytest.raises(InputError, match=r"no images for val found in .*; expected"):
        data({"bare": str(tmp_path / "bare")}, "fit", prefixes={})
