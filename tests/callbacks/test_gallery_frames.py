"""Pictures that a test leaves for reports: which, of what depth, and what is not there."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal.batch import Radiometry, output_times
from lit_thermal.callbacks import GalleryFrames
from lit_thermal.callbacks.file_name import file_name
from lit_thermal.data.formats.frames import read_frame
from lit_thermal.errors import InputError
from lit_thermal.evaluation.baselines import reference_baseline


class Method:
    scale = 4


def trainer(folder: Path, names: tuple[str, ...] = ("clean", "noisy"), first: bool = True) -> Any:
    return SimpleNamespace(
        datamodule=SimpleNamespace(test_names=names), is_global_zero=first, default_root_dir=str(folder)
    )


def images(names: list[str], **more: Any) -> Any:
    hr = torch.rand(len(names), 1, 16, 24, generator=torch.Generator().manual_seed(0))
    batch = {"name": names, "hr": hr, "lr": hr[..., ::4, ::4], "radiometry": [Radiometry()] * len(names)}
    return batch | more


def give(callback: GalleryFrames, given: Any, batch: Any, restored: Any, loader: int = 0) -> None:
    callback.on_test_batch_end(given, Method(), {"Method": restored, "nearest": restored}, batch, 0, loader)


def written(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "gallery" / "gallery.json").read_text())


def test_the_first_images_of_each_set(tmp_path):
    given, callback = trainer(tmp_path), GalleryFrames(images=3)
    callback.on_test_epoch_start(given, Method())
    for loader in (0, 1):
        for names in (["a", "b/c"], ["d", "e"]):
            batch = images(names)
            give(callback, given, batch, batch["hr"] / 2 + 0.6, loader)
    callback.on_test_epoch_end(given, Method())
    record = written(tmp_path)
    assert (record["method"], record["scale"]) == ("Method", 4)
    assert [e["name"] for e in record["datasets"]["noisy"]] == ["a", "b/c", "d"]
    entry = record["datasets"]["clean"][1]
    assert entry["files"]["restored"] == [f"clean/{file_name('b/c')}/restored.png"] and entry["size"] == [16, 24]
    assert set(entry["files"]) == {"lr", "bicubic", "restored", "hr"}
    batch = images(["a", "b/c"])
    # what is written is what is measured: clipped and rounded
    expected = (batch["hr"][1, 0] / 2 + 0.6).clamp(0, 1).mul(255).round().numpy()
    assert np.array_equal(read_frame(tmp_path / "gallery" / entry["files"]["restored"][0]), expected)
    bicubic = reference_baseline(batch, 4)[1, 0].mul(255).round().numpy()
    assert np.array_equal(read_frame(tmp_path / "gallery" / entry["files"]["bicubic"][0]), bicubic)
    assert not list(tmp_path.rglob("*.part"))


def test_all_frames_of_the_first_window_of_a_clip(tmp_path):
    radiometry = Radiometry(1000.0, 500.0, 16, "linear", (0.0, 0.04))
    hr = torch.rand(2, 5, 1, 16, 16)
    batch = {
        "name": ["c", "c"],
        "hr": hr,
        "lr": hr[:, ::2, :, ::4, ::4],
        "lr_time": torch.arange(3.0).expand(2, 3),
        "hr_time": output_times(3, 2).expand(2, 5),
        "frame": torch.stack([torch.arange(5), torch.arange(4, 9)]),
        "radiometry": [radiometry] * 2,
    }
    given, callback = trainer(tmp_path, ()), GalleryFrames(clips=2)
    give(callback, given, batch, hr)
    callback.on_test_epoch_end(given, Method())
    (entry,) = written(tmp_path)["datasets"]["test"]
    assert entry["frames"] == [0, 1, 2, 3, 4] and entry["time"] == [0, 0.5, 1, 1.5, 2] and entry["lr_time"] == [0, 1, 2]
    assert [len(entry["files"][kind]) for kind in ("lr", "bicubic", "restored", "hr")] == [3, 5, 5, 5]
    assert entry["files"]["hr"][3] == "test/c/hr_0003.png"
    assert Radiometry(**entry["radiometry"])._replace(constants=(0.0, 0.04)) == radiometry
    counts = read_frame(tmp_path / "gallery" / "test" / "c" / "hr_0003.png")
    assert counts.dtype == np.uint16
    assert np.abs(counts - (1000 + 500 * hr[0, 3, 0].numpy())).max() <= 0.5


def test_what_does_not_exist_has_no_file(tmp_path):
    guide = torch.rand(2, 3, 16, 24)
    batch = images(["with_lr", "without_lr"], guide=guide)
    batch |= {"has_lr": torch.tensor([True, False]), "has_guide": torch.tensor([True, False])}
    restored = batch["hr"].clone()
    restored[0, 0, 3, 3] = torch.nan
    given, callback = trainer(tmp_path), GalleryFrames()
    give(callback, given, batch, restored)
    callback.on_test_epoch_end(given, Method())
    with_lr, without_lr = written(tmp_path)["datasets"]["clean"]
    assert set(with_lr["files"]) == {"lr", "bicubic", "hr", "guide"}
    assert set(without_lr["files"]) == {"restored", "hr"}
    pixels = np.asarray(Image.open(tmp_path / "gallery" / with_lr["files"]["guide"][0]))
    assert np.array_equal(pixels, guide[0].movedim(0, -1).mul(255).round().numpy())


def test_only_the_first_process_writes_and_a_test_begins_anew(tmp_path):
    callback = GalleryFrames(images=1)
    other = trainer(tmp_path / "other", first=False)
    give(callback, other, images(["a"]), images(["a"])["hr"])
    callback.on_test_epoch_end(other, Method())
    assert not (tmp_path / "other").exists()
    for name in ("a", "b"):
        given = trainer(tmp_path / name)
        callback.on_test_epoch_start(given, Method())
        give(callback, given, images([name]), images([name])["hr"])
        callback.on_test_epoch_end(given, Method())
        assert [e["name"] for e in written(tmp_path / name)["datasets"]["clean"]] == [name]


def test_numbers_below_one_are_refused():
    with pytest.raises(InputError, match="needs images and clips of at least 1, not 0 and 2; leave the callback out"):
        GalleryFrames(images=0)
