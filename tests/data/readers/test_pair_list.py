import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal.data.datamodules.composite import CompositePairs
from lit_thermal.data.readers.pair_list import PairList
from lit_thermal.errors import InputError


def picture(*shape: int, seed: int) -> np.ndarray:
    """Smooth, so that it can be resized."""
    coarse = torch.rand(1, shape[2] if len(shape) > 2 else 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, shape[:2], mode="bilinear")[0]
    return (fine.permute(1, 2, 0).squeeze(-1) * 255).round().numpy().astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def released(root: Path, train: str = "a000001 LL010001 M00000 001_01_D1_vis", test: str = "a017003 LL190001") -> Path:
    """Folders as the released list names them: targets and guides of other sizes, inputs of 8 x 8 in three channels."""
    content = {}
    for split, names in (("train", train), ("test", test)):
        for number, name in enumerate(names.split()):
            save(root / split / "gt" / f"{name}.png", picture(64 + 16 * number, 64, seed=number))
            save(root / split / "lr" / f"{name}.png", picture(8, 8, seed=number)[..., None].repeat(3, -1))
            save(root / split / "rgb" / f"{name}.jpg", picture(60, 120, 3, seed=number))
        keys = {"target_image": "gt", "image": "lr", "ref_image": "rgb"}
        content[split] = {key: f"{split}/{folder}" for key, folder in keys.items()} | {"prompt": "remove degradation"}
    (root / "data.json").write_text(json.dumps(content))
    return root / "data.json"


def data(file: Path, *stages: str, **changes) -> PairList:
    module = PairList(str(file), **{"crop": 0, "batch_size": 1, "num_workers": 0, "val_images": 1} | changes)
    for stage in stages:
        module.setup(stage)
    return module


def found(module: PairList) -> dict[str, list[str]]:
    return {split: [source.name for source in sources] for split, sources in module._sources.items()}


def test_the_released_form(tmp_path):
    module = data(released(tmp_path), "fit", "test", "predict")
    assert found(module) == {
        "train": ["001_01_D1_vis", "a000001", "LL010001"],
        "val": ["M00000"],
        "test": ["a017003", "LL190001"],
        "predict": ["a017003", "LL190001"],
    }
    assert module.data_name == "data" and module.test_names == ["data"]
    (loader,) = module.test_dataloader()
    for number, batch in enumerate(loader):
        assert batch["lr"].shape == (1, 1, 8, 8) and batch["hr"].shape == (1, 1, 64, 64)
        assert batch["guide"].shape == (1, 3, 64, 64) and batch["has_guide"].all() and batch["has_lr"].all()
        full = torch.from_numpy(picture(64 + 16 * number, 64, seed=number)).float() / 255
        kind = {"mode": "bilinear", "antialias": True}
        expected = torch.nn.functional.interpolate(full[None, None], (64, 64), **kind)
        assert (batch["hr"] - expected).abs().max() < 1.1 / 255
        given = torch.from_numpy(picture(60, 120, 3, seed=number)).permute(2, 0, 1)[None].float() / 255
        squeezed = torch.nn.functional.interpolate(given, (64, 64), **kind)
        assert (batch["guide"] - squeezed).abs().mean() < 3 / 255, "as far as JPEG lets"
    assert "hr" not in next(iter(module.predict_dataloader()))


def test_a_crop_of_resized_pictures(tmp_path):
    module = data(released(tmp_path), "fit", crop=3)
    batch = next(iter(module.train_dataloader()))
    assert batch["hr"].shape == (1, 1, 24, 24) and batch["guide"].shape == (1, 3, 24, 24)


def test_patterns_tell_the_sources_apart(tmp_path):
    file = released(tmp_path, "a1 a2 LL1 LL2 M1 M2", "a3 LL3 M3")
    assert found(data(file, "fit", "test", keep=["LL*"])) == {"train": ["LL1"], "val": ["LL2"], "test": ["LL3"]}
    patterns = {"irvi": "a*", "llvip": "LL*", "m3fd": "M[0-9]*"}
    parts = {
        name: lambda pattern=pattern: PairList(str(file), keep=[pattern], val_images=1)
        for name, pattern in patterns.items()
    }
    module = CompositePairs(parts, crop=0, batch_size=1, num_workers=0)
    module.setup("fit")
    module.setup("test")
    assert module.counts["train"] == {"irvi": 1, "llvip": 1, "m3fd": 1} and module.test_names == list(patterns)


def test_validation_of_its_own(tmp_path):
    file = released(tmp_path)
    content = json.loads(file.read_text())
    content["val"] = content["test"]
    file.write_text(json.dumps(content))
    parts = found(data(file, "fit"))
    assert len(parts["train"]) == 4 and parts["val"] == ["a017003", "LL190001"]


def test_unguided_and_without_a_partner(tmp_path):
    file = released(tmp_path)
    assert "guide" not in next(iter(data(file, "fit", guided=False).train_dataloader()))
    (tmp_path / "train" / "rgb" / "a000001.jpg").unlink()
    with pytest.raises(InputError, match=r"rgb has no a000001: add or remove files"):
        data(file, "fit")
    module = data(file, "fit", incomplete=True)
    present = {
        name: flag
        for batch in module.train_dataloader()
        for name, flag in zip(batch["name"], batch["has_guide"], strict=True)
    }
    assert not present["a000001"] and present["LL010001"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "data.json cannot be read as a list of folders in JSON"),
        ("[1]", "data.json has another form; expected"),
        (
            '{"train": {"image": "lr"}}',
            "'train' in the list .*data.json does not name the folder of target_image and of",
        ),
        ('{"train": 3}', "does not name the folder of target_image and of image and of ref_image"),
        (
            '{"test": {"target_image": "a", "image": "b", "ref_image": "c"}}',
            "no images for train found in ",
        ),
        (
            '{"train": {"target_image": "a", "image": "b", "ref_image": "c"}}',
            r"found in .*a; expected the folders that",
        ),
    ],
)
def test_bad_lists(tmp_path, content, words):
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(InputError, match=words):
        data(tmp_path / "data.json", "fit")


def test_bad_files(tmp_path):
    with pytest.raises(InputError, match=r"none.json does not exist"):
        data(tmp_path / "none.json", "fit")
    with pytest.raises(InputError, match=r"data.val_images is 0; it must be at least 1"):
        data(tmp_path / "none.json", val_images=0)
    file = released(tmp_path)
    save(tmp_path / "train" / "gt" / "a000001.png", np.zeros((64, 64), np.uint16) + 300)
    with pytest.raises(InputError, match=r"a000001.png is of 16 bit and .*a000001.png of 8: a level must mean"):
        data(file, "fit")
    save(tmp_path / "train" / "gt" / "a000001.png", np.zeros((64, 64), np.uint8))
    (tmp_path / "train" / "rgb" / "a000001.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"a000001.jpg"):
        data(file, "fit")
