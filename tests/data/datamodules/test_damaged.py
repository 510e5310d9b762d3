"""Damaged files end the run, or are left out, counted and listed, in every split."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lit_thermal.data.datamodules.composite import CompositePairs
from lit_thermal.data.datamodules.damaged import Damaged
from lit_thermal.data.readers.guided_folder import GuidedFolder
from lit_thermal.data.readers.image_folder import ImageFolder
from lit_thermal.data.readers.video_folder import VideoFolder
from lit_thermal.errors import InputError


def save(path: Path, seed: int, shape: tuple[int, ...] = (32, 48)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(1, 256, shape).astype(np.uint8)).save(path)


def cut(path: Path) -> None:
    """Take the end of a file away; its header stays right."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def scramble(path: Path) -> None:
    """Change the pixels' part of a PNG, whose header and end stay right."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40] = bytes(40)
    path.write_bytes(data)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images of three splits."""
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        for index in range(count):
            save(tmp_path / split / "hr" / f"{split}{index}.png", index)
    return tmp_path


def images(root: Path, **options) -> ImageFolder:
    return ImageFolder(str(root), **{"crop": 4, "batch_size": 2, "num_workers": 0} | options)


@pytest.mark.parametrize("cache_gib", [0.0, 2.0])
@pytest.mark.parametrize("damage", [cut, scramble, lambda path: path.write_bytes(b"")])
def test_damaged_images_are_left_out_counted_and_listed(root, caplog, cache_gib, damage):
    for name in ("train/hr/train1.png", "val/hr/val0.png", "test/hr/test2.png"):
        damage(root / name)
    with pytest.raises(InputError, match=r"train1\.png"):
        stopping = images(root, cache_gib=cache_gib)
        stopping.setup("fit")
        list(stopping.train_dataloader())
    folder = images(root, cache_gib=cache_gib, damaged="skip", samples_per_epoch=30)
    with caplog.at_level(logging.WARNING):
        folder.setup("fit")
        folder.setup("test")
    seen = {name for batch in folder.train_dataloader() for name in batch["name"]}
    assert seen == {f"train{index}" for index in (0, 2, 3, 4, 5)}
    assert [batch["name"] for batch in folder.val_dataloader()] == [["val1"], ["val2"]]
    assert [batch["name"] for batch in folder.test_dataloader()[0]] == [["test0"], ["test1"]]
    assert "damaged: 3 left out: train/train1, val/val0, test/test2" in caplog.text
    assert "train1.png" in folder.damaged.why["train"]["train1"]
    again = images(root, cache_gib=2.0 - cache_gib, damaged="skip", samples_per_epoch=30, num_workers=2)
    again.setup("fit")
    for one, other in zip(folder.train_dataloader(), again.train_dataloader(), strict=True):
        assert one["name"] == other["name"] and one["lr"].equal(other["lr"])


def test_when_all_are_damaged_one_sentence_tells(root):
    for path in (root / "train" / "hr").iterdir():
        cut(path)
    with pytest.raises(InputError, match=r"^all 6 images of \S+ for train are damaged; the first: \S+train0.png "):
        images(root, damaged="skip").setup("fit")


def test_sizes_that_do_not_go_together_are_no_damage(root):
    save(root / "train" / "lr" / "train0.png", 1, (7, 7))
    for index in range(1, 6):
        save(root / "train" / "lr" / f"train{index}.png", 1, (8, 12))
    with pytest.raises(InputError, match="which is not 1/4 of it"):
        images(root, damaged="skip").setup("fit")


def test_a_damaged_guide_takes_its_image_with_it_in_composites_too(tmp_path):
    for split, index in (("train", 0), ("train", 1), ("train", 2), ("val", 0)):
        for kind, shape in (("hr", (32, 48)), ("lr", (4, 6)), ("guide", (32, 48, 3))):
            save(tmp_path / split / kind / f"{split}{index}.png", index, shape)
    scramble(tmp_path / "train" / "guide" / "train1.png")
    cut(tmp_path / "train" / "lr" / "train2.png")
    both = CompositePairs({"mine": lambda: GuidedFolder(str(tmp_path))}, damaged="skip", batch_size=1, crop=2)
    both.setup("fit")
    assert [source.name for source in both._sources["train"]] == ["train0"]
    assert set(both.damaged.why["train"]) == {"train1", "train2"}


def test_damaged_clips_are_left_out(tmp_path, caplog):
    for split, clip in (("train", "a"), ("train", "b"), ("val", "c"), ("val", "d")):
        for index in range(9):
            save(tmp_path / split / clip / f"{index}.png", index)
    scramble(tmp_path / "train" / "b" / "5.png")
    cut(tmp_path / "val" / "c" / "8.png")
    options = {"frames": 5, "crop": 4, "batch_size": 2, "samples_per_epoch": 4, "num_workers": 0}
    with pytest.raises(InputError, match=r"\.png"):
        VideoFolder(str(tmp_path), **options).setup("fit")
    folder = VideoFolder(str(tmp_path), damaged="skip", **options)
    with caplog.at_level(logging.WARNING):
        folder.setup("fit")
    assert {name for batch in folder.train_dataloader() for name in batch["name"]} == {"a"}
    assert {name for batch in folder.val_dataloader() for name in batch["name"]} == {"d"}
    assert "damaged: 2 left out: train/b, val/c" in caplog.text
    scramble(tmp_path / "train" / "a" / "5.png")
    with pytest.raises(InputError, match=r"all 2 clips of \S+ for train are damaged; the first: \S+"):
        VideoFolder(str(tmp_path), damaged="skip", **options).setup("fit")


def test_the_list_is_kept_in_the_run_folder(tmp_path):
    class Trainer:
        is_global_zero, default_root_dir = True, str(tmp_path)

    damaged = Damaged("skip")
    damaged.report(Trainer())
    assert not list(tmp_path.iterdir())
    with damaged.leaving_out("val", "a"):
        raise InputError("a.png is cut")
    damaged.report(Trainer())
    assert json.loads((tmp_path / "damaged.json").read_text()) == {"val": {"a": "a.png is cut"}}


def test_there_are_two_actions(root):
    with pytest.raises(InputError, match=r"data\.damaged is 'ignore'; must be one of stop, skip"):
        images(root, damaged="ignore")
