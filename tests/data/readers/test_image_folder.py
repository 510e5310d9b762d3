import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from jsonargparse import ArgumentParser
from PIL import Image

from lit_thermal.batch import Batch
from lit_thermal.data.degradations.degradation import Bicubic, Degradation, PillowBicubic
from lit_thermal.data.degradations.real_esrgan import RealESRGAN
from lit_thermal.data.readers.image_folder import ImageFolder
from lit_thermal.errors import InputError

REAL = Path(__file__).parents[3].parent / "shared" / "data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real images lie beside the repository of the project only")


def picture(*shape: int, bits: int = 8, seed: int = 0) -> np.ndarray:
    low, high, kind = (2700, 3100, np.uint16) if bits == 16 else (1, 256, np.uint8)
    return np.random.default_rng(seed).integers(low, high, shape).astype(kind)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folders of three splits with targets and inputs."""
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        for index in range(count):
            save(tmp_path / split / "hr" / f"{split}{index}.png", picture(32, 48, seed=index))
            save(tmp_path / split / "lr" / f"{split}{index}.png", picture(8, 12, seed=index + 10))
    return tmp_path


def data(root: Path, *stages: str, **changes) -> ImageFolder:
    folder = ImageFolder(str(root), **{"crop": 4, "batch_size": 2, "num_workers": 0} | changes)
    for stage in stages:
        folder.setup(stage)
    return folder


def whole(folder: ImageFolder) -> list[Batch]:
    return list(folder.test_dataloader()[0])


def names(batches: list[Batch]) -> list[str]:
    return [name for batch in batches for name in batch["name"]]


def counts(values: torch.Tensor) -> np.ndarray:
    return (values[0, 0] * 255).round().numpy()


def test_targets_and_inputs_are_read_as_they_are(root: Path) -> None:
    folder = data(root, "fit", "test", "predict", name="mine")
    assert folder.test_names == ["mine"]
    (train,) = folder.train_dataloader()
    assert list(train) == ["lr", "hr", "radiometry", "name"]
    assert train["lr"].shape == (2, 1, 4, 4) and train["hr"].shape == (2, 1, 16, 16)
    for index, batch in enumerate(whole(folder)):
        assert np.array_equal(counts(batch["hr"]), picture(32, 48, seed=index))
        assert np.array_equal(counts(batch["lr"]), picture(8, 12, seed=index + 10))
    assert all("hr" not in batch for batch in folder.predict_dataloader())


@pytest.mark.parametrize("member", [Bicubic, PillowBicubic, RealESRGAN])
def test_without_inputs_a_named_degradation_makes_them(root: Path, member: type[Degradation], caplog) -> None:
    for folder in root.glob("*/lr"):
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    with caplog.at_level(logging.INFO):
        auto = whole(data(root, "test", degradation=member))
    assert f"{member.__name__} makes the inputs of the images in {root / 'test' / 'hr'}" in caplog.text
    for batch, other in zip(auto, whole(data(root, "test", degradation=member, lr="")), strict=True):
        assert torch.equal(batch["lr"], other["lr"])
        if member is not RealESRGAN:
            assert torch.equal(batch["lr"][0], member()(batch["hr"][0], scale=4, seed=0))


def test_inputs_are_looked_for_in_each_folder_by_itself(root: Path) -> None:
    (root / "train" / "lr").rename(root / "train" / "spare")
    folder = data(root, "fit", "test")
    assert all(source.read().lr is None for source in folder.sources("train"))
    assert np.array_equal(counts(whole(folder)[0]["lr"]), picture(8, 12, seed=10))
    # An input that was asked for by name must be there.
    with pytest.raises(InputError, match=r"found in .*train/lr; expected .*/\{train,val,test\}/\{hr,lr\}/\*\.png"):
        data(root, "fit", lr="lr")
    (made,) = data(root, "test", lr="", eval_batch_size=2).test_dataloader()[0]
    assert torch.equal(made["lr"][0], Bicubic()(made["hr"][0], scale=4, seed=0))


@pytest.mark.parametrize("layout", ["lr", ".", "predict/lr", "predict"])
def test_prediction_needs_inputs_alone(tmp_path: Path, layout: str) -> None:
    for index in range(3):
        save(tmp_path / layout / f"frame_{index}.png", picture(8, 12, seed=index))
    folder = data(tmp_path, "predict")
    batches = list(folder.predict_dataloader())
    assert names(batches) == ["frame_0", "frame_1", "frame_2"]
    for index, batch in enumerate(batches):
        assert list(batch) == ["lr", "radiometry", "name", "source"]
        assert [path.stem for path in batch["source"]] == batch["name"]
        assert np.array_equal(counts(batch["lr"]), picture(8, 12, seed=index))
    with pytest.raises(InputError, match=r"no images (for train )?found in"):
        data(tmp_path, "fit")
    with pytest.raises(InputError, match=r"found in .*hr; expected .*/hr/\*\.png \(or .tif, .jpg; data.hr names"):
        data(tmp_path, "fit", split=[0.4, 0.3, 0.3])


def test_a_named_folder_of_inputs_is_restored_as_it_is(tmp_path: Path) -> None:
    for folder in ("x4", "hr"):
        save(tmp_path / folder / "a.png", picture(8, 12, seed=3))
    (batch,) = data(tmp_path, "predict", lr="x4").predict_dataloader()
    assert np.array_equal(counts(batch["lr"]), picture(8, 12, seed=3))
    (made,) = data(tmp_path, "predict").predict_dataloader()
    assert made["lr"].shape == (1, 1, 2, 3), "targets without inputs are degraded"


def test_one_folder_of_images_is_split_by_shares_or_lists(tmp_path: Path) -> None:
    for index in range(10):
        save(tmp_path / f"frame_{index}.png", picture(33, 49, seed=index))
    shares = data(tmp_path, "fit", "test", hr=".", split=[0.6, 0.2, 0.2])
    parts = {split: {source.name for source in shares._sources[split]} for split in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [6, 2, 2] and len(set.union(*parts.values())) == 10
    again = data(tmp_path, "test", hr=".", split=[0.6, 0.2, 0.2], split_seed=1)
    assert {source.name for source in again._sources["test"]} != parts["test"]
    lists = data(tmp_path, "test", hr=".", split={"train": ["frame_[0-7]"], "val": ["frame_8"], "test": ["frame_9"]})
    (batch,) = whole(lists)
    assert batch["name"] == ["frame_9"] and batch["hr"].shape == (1, 1, 32, 48) and batch["lr"].shape == (1, 1, 8, 12)


def test_three_equal_channels_are_one(tmp_path: Path) -> None:
    gray = picture(32, 48)
    save(tmp_path / "test" / "hr" / "a.png", np.stack([gray] * 3, -1))
    (batch,) = whole(data(tmp_path, "test"))
    assert np.array_equal(counts(batch["hr"]), gray)
    save(tmp_path / "test" / "hr" / "a.png", picture(32, 48, 3))
    with pytest.raises(InputError, match=r"hr/a\.png is in colour"):
        whole(data(tmp_path, "test"))


def test_16_bit_keeps_its_counts(tmp_path: Path) -> None:
    deep = picture(32, 48, bits=16)
    save(tmp_path / "test" / "hr" / "a.png", deep)
    (batch,) = whole(data(tmp_path, "test", degradation=RealESRGAN))
    record = batch["radiometry"][0]
    assert record.bits == 16 and np.array_equal(record.to_counts(batch["hr"][0, 0]).round().numpy(), deep)


@pytest.mark.parametrize(("value", "words"), [(np.nan, " with 1 pixels"), (np.inf, " with 1 pixels"), (1.0, ", not")])
def test_images_of_floating_point_are_refused_by_one_sentence(root: Path, value: float, words: str) -> None:
    pixels = np.full((32, 48), 300, np.float32)
    pixels[3, 4] = value
    (root / "val" / "hr" / "val1.png").unlink()
    tifffile.imwrite(root / "val" / "hr" / "val1.tif", pixels)
    with pytest.raises(InputError, match=rf"hr/val1\.tif holds float32{words}.*convert it to uint16") as caught:
        data(root, "fit")
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_reported(tmp_path: Path, root: Path) -> None:
    for folder, changes, words in [
        (tmp_path / "none", {}, r"none does not exist; expected .*none/\{train,val,test\}/hr/\*\.png"),
        (
            root,
            {"hr": "gt"},
            r"found in .*train/gt; expected .*/\{train,val,test\}/gt/.*which holds hr/, lr/",
        ),
        (root, {"scale": 8}, r"train0\.png is 48x32 and \S+ is 12x8, which is not 1/8 of it each way: set data.scale"),
    ]:
        with pytest.raises(InputError, match=words) as caught:
            data(folder, "fit", **changes)
        assert "\n" not in str(caught.value)
    (root / "test" / "lr" / "test1.png").unlink()
    with pytest.raises(InputError, match=r"there is no test1 in \S+test/lr: add or remove files$"):
        data(root, "test")


def test_arguments_about_guides_are_not_taken() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ImageFolder, "data")
    defaults = vars(parser.get_defaults().data)
    assert defaults["scale"] == 4 and defaults["lr"] == "auto"
    assert {"split", "split_seed", "test_split", "degradation", "normalize", "leave_out"} <= defaults.keys()
    assert not {"guide", "guided", "incomplete"} & defaults.keys()


@real
@pytest.mark.parametrize(
    ("folder", "arguments", "sizes"),
    [
        ("m3fd", {"lr": "LR_x4", "split": [0.6, 0.2, 0.2]}, (3, 1, 1)),
        ("m3fd", {"degradation": RealESRGAN, "split": [0.6, 0.2, 0.2]}, (3, 1, 1)),
        ("roadscene", {"hr": "ir", "split": [0.8, 0.1, 0.1]}, (96, 12, 12)),
    ],
)
def test_the_sets_of_the_project_load_by_arguments_alone(folder: str, arguments: dict, sizes: tuple) -> None:
    images = data(REAL / folder, "fit", "test", "predict", crop=16, cache_gib=0, samples_per_epoch=2, **arguments)
    assert tuple(len(images._sources[split]) for split in ("train", "val", "test")) == sizes
    (batch,) = images.train_dataloader()
    for one in (batch, next(iter(images.val_dataloader())), whole(images)[0]):
        assert one["hr"].shape[-2:] == (4 * one["lr"].shape[-2], 4 * one["lr"].shape[-1])
        assert float((one["hr"].mean() - one["lr"].mean()).abs()) < 0.1
    assert "hr" not in next(iter(images.predict_dataloader()))
