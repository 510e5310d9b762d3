from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from lit_thermal.batch import Batch
from lit_thermal.data.degradations.conditions import Complete, GuideOnly, ShuffledGuide, ThermalOnly
from lit_thermal.data.degradations.degradation import Bicubic, OpenCVBilinear
from lit_thermal.data.formats.guides import read_guide
from lit_thermal.data.readers.guided_folder import GuidedFolder
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize

REAL = Path(__file__).parents[3].parent / "shared" / "data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real images lie beside the repository of the project only")


def picture(*shape: int, bits: int = 8, seed: int = 0) -> np.ndarray:
    low, high, kind = (2700, 3100, np.uint16) if bits == 16 else (1, 256, np.uint8)
    return np.random.default_rng(seed).integers(low, high, shape).astype(kind)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_scene(base: Path, name: str, *, height: int = 32, width: int = 48, scale: int = 8, bits: int = 8) -> None:
    """One scene of `hr`, `lr` and `guide`; what the pictures show depends on the name."""
    seed = sum(name.encode())
    save(base / "hr" / f"{name}.png", picture(height, width, bits=bits, seed=seed))
    save(base / "lr" / f"{name}.png", picture(height // scale, width // scale, bits=bits, seed=seed + 1))
    save(base / "guide" / f"{name}.png", picture(height, width, 3, seed=seed + 2))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        for index in range(count):
            write_scene(tmp_path / split, f"{split}{index}")
    return tmp_path


def data(root: Path, stage: str = "", **changes) -> GuidedFolder:
    folder = GuidedFolder(str(root), **{"crop": 2, "batch_size": 2, "num_workers": 0} | changes)
    if stage:
        folder.setup(stage)
    return folder


def batches_of(folder: GuidedFolder) -> list[Batch]:
    return list(folder.test_dataloader()[0])


def names(batches: list[Batch]) -> list[str]:
    return [name for batch in batches for name in batch["name"]]


def fails(folder: GuidedFolder, stage: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        folder.setup(stage)
    sentence = str(caught.value).replace(str(folder.root), "")
    assert "\n" not in sentence and len(sentence) < 500


def test_all_three_files_of_a_scene_are_read_as_they_are(root: Path) -> None:
    folder = data(root, "test", name="mine")
    assert folder.test_names == ["mine"]
    batches = batches_of(folder)
    assert names(batches) == ["test0", "test1"]
    for batch in batches:
        seed = sum(batch["name"][0].encode())
        assert np.array_equal((batch["hr"][0, 0] * 255).round().numpy(), picture(32, 48, seed=seed))
        assert np.array_equal((batch["lr"][0, 0] * 255).round().numpy(), picture(4, 6, seed=seed + 1))
        guide = np.moveaxis(picture(32, 48, 3, seed=seed + 2), -1, 0)
        assert np.array_equal((batch["guide"][0] * 255).round().numpy(), guide)
        assert batch["has_lr"].item() and batch["has_guide"].item()


def test_training_crops_lie_at_one_place_in_all_three(tmp_path: Path) -> None:
    y, x = np.mgrid[:8, :10]
    for split in ("train", "val"):
        cells = (10 * y + x + 1).astype(np.uint8)
        whole = cells.repeat(8, 0).repeat(8, 1)
        save(tmp_path / split / "lr" / "a.png", cells)
        save(tmp_path / split / "hr" / "a.bmp", whole)
        save(tmp_path / split / "guide" / "a.tif", np.stack([whole] * 3, -1))
    crops = data(tmp_path, "fit", crop=3, batch_size=1, samples_per_epoch=20).train_dataloader()
    for batch in crops:
        assert torch.equal(batch["lr"].repeat_interleave(8, -1).repeat_interleave(8, -2), batch["hr"])
        assert torch.equal(batch["guide"], batch["hr"].expand_as(batch["guide"]))


@pytest.mark.parametrize("member", [Bicubic, OpenCVBilinear])
def test_without_a_folder_of_inputs_they_are_made(root: Path, member: type) -> None:
    for batch in batches_of(data(root, "test", lr="", degradation=member)):
        assert torch.equal(batch["lr"][0], member()(batch["hr"][0], scale=8, seed=0))
        assert batch["has_lr"].item()


def test_without_a_folder_of_guides_there_are_none(root: Path) -> None:
    for batch in batches_of(data(root, "test", guide="")):
        assert not batch["has_guide"].item() and batch["guide"].shape == (1, 3, 32, 48) and not batch["guide"].any()
    for file in (root / "test" / "guide").iterdir():
        file.unlink()
    (root / "test" / "guide").rmdir()
    assert all("guide" not in batch for batch in batches_of(data(root, "test", guided=False)))


def test_files_of_one_stem_belong_together_and_folders_may_be_spelled_otherwise(tmp_path: Path) -> None:
    save(tmp_path / "test" / "HR" / "a.png", picture(16, 16))
    save(tmp_path / "test" / "X8" / "a.bmp", picture(2, 2))
    save(tmp_path / "test" / "Vis" / "a.jpg", picture(16, 16, 3))
    (batch,) = batches_of(data(tmp_path, "test", lr="X8", guide="vis"))
    assert batch["has_guide"].item() and batch["has_lr"].item()
    save(tmp_path / "test" / "X8" / "a.png", picture(2, 2))
    fails(data(tmp_path, lr="X8", guide="vis"), "test", "a.bmp and a.png, which have the same stem")


def test_names_that_look_alike_are_alike(tmp_path: Path) -> None:
    # macOS writes an accent as a letter of its own
    save(tmp_path / "test" / "hr" / "caf\u00e9.png", picture(16, 16))
    save(tmp_path / "test" / "lr" / "cafe\u0301.png", picture(2, 2))
    assert names(batches_of(data(tmp_path, "test", guide=""))) == ["caf\u00e9"]


def test_splits_of_a_flat_root(tmp_path: Path) -> None:
    for index in range(10):
        write_scene(tmp_path, f"{index:02d}")
    folder = data(tmp_path, "fit", split=[0.6, 0.2, 0.2])
    folder.setup("test")
    folder.setup("predict")
    sizes = {split: len(sources) for split, sources in folder._sources.items()}
    assert sizes == {"train": 6, "val": 2, "test": 2, "predict": 2}
    every = sorted(source.name for split in ("train", "val", "test") for source in folder._sources[split])
    assert every == [f"{index:02d}" for index in range(10)]
    assert all("hr" not in batch for batch in folder.predict_dataloader())
    listed = data(tmp_path, "test", split={"train": ["0[0-5]"], "val": ["06"], "test": ["07", "09"]})
    assert names(batches_of(listed)) == ["07", "09"]
    fails(data(tmp_path, split={"train": ["11"]}), "fit", "'11', which is no image of")
    fails(data(tmp_path, split=[0.6, 0.2, 0.2], split_seed=-1), "fit", "data.split_seed is -1; it must be at least 0")
    fails(data(tmp_path), "fit", "no images for train found in .*; expected .*set data.split to shares or lists")


def test_validation_images_to_test_on_where_the_data_have_no_others(root: Path) -> None:
    (root / "test").rename(root / "elsewhere")
    fails(data(root), "test", "no images for test found in .*data.test_split=val")
    folder = data(root, "test", test_split="val")
    folder.setup("predict")
    assert names(batches_of(folder)) == ["val0", "val1"] == names(list(folder.predict_dataloader()))


def test_prediction_needs_no_target(root: Path, tmp_path: Path) -> None:
    for base in (root / "predict", tmp_path / "alone"):
        write_scene(base, "x")
        (base / "hr" / "x.png").unlink()
        (base / "hr").rmdir()
    for where in (root, tmp_path / "alone"):
        (batch,) = data(where, "predict").predict_dataloader()
        assert batch["name"] == ["x"] and "hr" not in batch
        assert batch["lr"].shape == (1, 1, 4, 6) and batch["guide"].shape == (1, 3, 32, 48)
    # What is there of targets is not read.
    (root / "predict" / "hr").mkdir()
    (root / "predict" / "hr" / "y.png").write_bytes(b"no image")
    assert names(list(data(root, "predict").predict_dataloader())) == ["x"]
    (made,) = data(root, "predict", lr="", split=None, guide="", hr="lr", scale=2).predict_dataloader()
    assert made["lr"].shape == (1, 1, 2, 3) and "hr" not in made


def test_images_that_are_left_out(root: Path) -> None:
    assert names(batches_of(data(root, "test", leave_out=["test0", "nothing*"]))) == ["test1"]


def test_nothing_left_is_reported_by_what_left_it_out(root: Path) -> None:
    fails(data(root, leave_out=["v*"]), "fit", r"no images for val: data.leave_out \['v\*'\] leaves out all 2 of them")
    assert data(root, "test", leave_out=["val*"]) is not None


def test_a_condition_that_takes_the_only_camera_is_reported_before_the_test(root: Path) -> None:
    (root / "test" / "guide" / "test0.png").unlink()
    (root / "test" / "lr" / "test1.png").unlink()
    for condition, lost in ((GuideOnly, "test0, .* no guide"), (ThermalOnly, "test1, .* no thermal input")):
        folder = data(root, incomplete=True, test_conditions=[Complete, condition])
        fails(folder, "test", f"{condition.__name__} leaves nothing of {lost}: .*data.test_conditions .*data.leave_out")
        folder.setup("fit")
        folder.setup("predict")
    fails(
        data(root, lr="", guide="", test_conditions=[GuideOnly]), "test", "leaves nothing of test0 and 1 more, .*guide"
    )
    data(root, "test", lr="", guide="", test_conditions=[Complete, ThermalOnly, ShuffledGuide])


def test_unequal_lists_name_the_first_five(root: Path) -> None:
    for index in range(7):
        write_scene(root / "train", f"more{index}")
        (root / "train" / "guide" / f"more{index}.png").unlink()
    (root / "train" / "lr" / "more0.png").unlink()
    fails(
        data(root),
        "fit",
        r"there is no more0 in \S+/train/lr and \S+/train/guide, more1 in \S+/train/guide, more2.*more4 in \S+ "
        r"and 2 more: .*data.incomplete",
    )
    (root / "train" / "hr" / "train0.png").unlink()
    fails(data(root, incomplete=True), "fit", r"no train0 in \S+/hr: add or remove files$")


def test_incomplete_images_say_what_they_lack(root: Path) -> None:
    (root / "test" / "guide" / "test0.png").unlink()
    (root / "test" / "lr" / "test1.png").unlink()
    folder = data(root, "test", incomplete=True)
    folder.setup("predict")
    for batches in (batches_of(folder), list(folder.predict_dataloader())):
        flags = [(batch["has_lr"].item(), batch["has_guide"].item()) for batch in batches]
        assert flags == [(True, False), (False, True)]
        assert not batches[0]["guide"].any() and not batches[1]["lr"].any()
        assert batches[1]["lr"].shape == (1, 1, 4, 6) and batches[0]["guide"].shape == (1, 3, 32, 48)
    (root / "test").rename(root / "kept")
    (root / "train" / "lr" / "train1.png").unlink()
    batches = list(data(root, "fit", incomplete=True, samples_per_epoch=6).train_dataloader())
    for batch in batches:
        for name, seen, lr in zip(batch["name"], batch["has_lr"], batch["lr"], strict=True):
            assert seen == (name != "train1") == bool(lr.any())
    (root / "train" / "guide" / "train1.png").unlink()
    fails(data(root, incomplete=True), "fit", "neither an input in .* nor a guide of train1")


def test_what_does_not_go_together_is_reported_before_training(root: Path) -> None:
    def replaced(kind: str, pixels: np.ndarray, words: str) -> None:
        path = root / "test" / kind / "test1.png"
        whole = path.read_bytes()
        save(path, pixels)
        fails(data(root), "test", words)
        path.write_bytes(whole)

    replaced("hr", picture(32, 48, bits=16), r"hr/test1.png is of 16 bit and \S+lr/test1.png of 8")
    replaced("lr", picture(8, 12), r"hr/test1.png is 48x32 and \S+lr/test1.png is 12x8, which is not 1/8 .*data.scale")
    replaced("guide", picture(32, 40, 3), r"guide/test1.png is 40x32, .*hr/test1.png is 48x32: .*fields of view")
    # Of almost the same shape, or twice as large, it is the same view.
    save(root / "test" / "guide" / "test1.png", picture(64, 96, 3))
    assert batches_of(data(root, "test"))[1]["guide"].shape == (1, 3, 32, 48)
    save(root / "test" / "lr" / "test1.png", picture(4, 6, 3))
    with pytest.raises(InputError, match=r"lr/test1.png is in colour"):
        batches_of(data(root, "test"))


def test_a_wrong_root_error_names_what_is_expected_and_found(tmp_path: Path, root: Path) -> None:
    fails(data(tmp_path / "none"), "fit", r"does not exist; expected .*/\{train,val,test\}/\{hr,lr,guide\}/\*\.png")
    (tmp_path / "empty").mkdir()
    fails(data(tmp_path / "empty"), "fit", "no images for train found in .*; expected .*, but .* is empty")
    fails(
        data(root, hr="gt"),
        "fit",
        r"found in .*train/gt; expected .*there is no folder gt in .*which holds guide/, hr/, lr/",
    )
    (root / "test" / "lr" / "test1.png").write_bytes(b"broken")
    fails(data(root), "test", "test1.png cannot be read")


def test_16_bit_is_mapped_by_what_is_there_at_prediction_too(tmp_path: Path) -> None:
    write_scene(tmp_path / "test", "a", bits=16)
    folder = data(tmp_path, "test")
    folder.setup("predict")
    (batch,), (alone,) = batches_of(folder), list(folder.predict_dataloader())
    assert batch["radiometry"] == alone["radiometry"] and batch["radiometry"][0].bits == 16
    assert torch.equal(batch["lr"], alone["lr"])
    counts = batch["radiometry"][0].to_counts(batch["lr"][0, 0]).round().numpy()
    assert np.array_equal(counts, picture(4, 6, bits=16, seed=sum(b"a") + 1))
    (full,) = batches_of(data(tmp_path, "test", normalize="full", lr=""))
    assert np.array_equal((full["hr"][0, 0] * 65535).round().numpy(), picture(32, 48, bits=16, seed=sum(b"a")))


def test_guides_of_all_kinds(tmp_path: Path) -> None:
    colour, deep = picture(12, 16, 3), np.random.default_rng(1).integers(0, 2**16, (12, 16), np.uint16)
    save(tmp_path / "rgb.png", colour)
    assert np.array_equal(read_guide(tmp_path / "rgb.png", (12, 16)), np.moveaxis(colour, -1, 0))
    Image.fromarray(colour).convert("RGBA").save(tmp_path / "alpha.png")
    assert np.array_equal(read_guide(tmp_path / "alpha.png", (12, 16)), np.moveaxis(colour, -1, 0))
    save(tmp_path / "gray.png", colour[..., 0])
    assert np.array_equal(read_guide(tmp_path / "gray.png", (12, 16)), np.stack([colour[..., 0]] * 3))
    save(tmp_path / "deep.png", deep)
    tifffile.imwrite(tmp_path / "deep.tif", np.stack([deep] * 3, -1), photometric="rgb")
    for name in ("deep.png", "deep.tif"):
        assert np.array_equal(read_guide(tmp_path / name, (12, 16)), np.stack([np.round(deep / 257)] * 3))
    save(tmp_path / "large.png", picture(48, 64, 3))
    small = read_guide(tmp_path / "large.png", (12, 16))
    values = torch.from_numpy(np.moveaxis(picture(48, 64, 3), -1, 0).copy()).float()
    inner = (slice(None), slice(2, -2), slice(2, -2))
    assert np.abs(small - resize(values, (12, 16)).clamp(0, 255).numpy())[inner].max() < 1.5


@real
@pytest.mark.parametrize(
    ("folder", "arguments", "sizes", "guide"),
    [
        (
            "pbvs",
            {"hr": "gt", "lr": "lr_x8", "guide": "vis", "test_split": "val", "leave_out": ["062_01"]},
            (160, 9, 9),
            3,
        ),
        ("roadscene", {"hr": "ir", "lr": "", "guide": "vi", "split": [0.8, 0.1, 0.1]}, (96, 12, 12), 3),
        ("tno", {"hr": "ir", "lr": "", "guide": "vi", "split": [0.6, 0.1, 0.3]}, (12, 2, 6), 1),
        ("m3fd", {"hr": "HR", "lr": "LR_x4", "guide": "", "scale": 4, "split": [0.6, 0.2, 0.2]}, (3, 1, 1), 0),
    ],
)
def test_the_sets_of_the_project_load_by_arguments_alone(
    folder: str, arguments: dict, sizes: tuple[int, int, int], guide: int
) -> None:
    images = data(REAL / folder, "fit", cache_gib=0, samples_per_epoch=2, **arguments)
    images.setup("test")
    assert tuple(len(images._sources[split]) for split in ("train", "val", "test")) == sizes
    (batch,) = images.train_dataloader()
    scale = images.scale
    for one in (batch, next(iter(images.test_dataloader()[0]))):
        assert one["hr"].shape[-2:] == (one["lr"].shape[-2] * scale, one["lr"].shape[-1] * scale)
        assert one["guide"].shape[-2:] == one["hr"].shape[-2:] and one["has_guide"].all() == (guide > 0)
        channels = one["guide"][0]
        assert bool((channels == channels[:1]).all()) == (guide < 3)
    assert sum(source.bytes > 0 for source in images._sources["train"]) == sizes[0]
