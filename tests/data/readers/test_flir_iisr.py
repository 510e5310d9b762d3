from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal.data.degradations.conditions import BlurredInput, Complete
from lit_thermal.data.readers.flir_iisr import FLIRIISR, FullSizeInput
from lit_thermal.errors import InputError

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "flir_iisr"
NAMES = [f"{scene:06d}_{sample}" for scene in range(5) for sample in range(2)]


def write(path: Path, height: int, width: int, channels: int = 1) -> np.ndarray:
    """A smooth random image, so that a reduction of it says where it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(sum(path.stem.encode())).integers(20, 230, (height // 4, width // 4), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    Image.fromarray(pixels if channels == 1 else pixels[..., None].repeat(channels, -1)).save(path)
    return pixels


def made(root: Path, names: list[str] = NAMES, full: bool = False, size: tuple[int, int] = (48, 64)) -> Path:
    """Pairs whose input is the target itself, at its size or at a quarter of it."""
    for name in names:
        pixels = write(root / "HR" / f"{name}.bmp", *size, channels=3)
        lr = Image.fromarray(pixels)
        lr = lr if full else lr.resize((size[1] // 4, size[0] // 4), Image.Resampling.BICUBIC)
        (root / "LR").mkdir(exist_ok=True)
        lr.save(root / "LR" / f"{name}.bmp")
    return root


def opened(root: Path, *stages: str, **changes) -> FLIRIISR:
    data = FLIRIISR(root=str(root), **{"num_workers": 0, "crop": 4, "batch_size": 1} | changes)
    for stage in stages:
        data.setup(stage)
    return data


def found(data: FLIRIISR) -> dict[str, list[str]]:
    return {split: [source.name for source in sources] for split, sources in data._sources.items()}


def test_shares_keep_the_shots_of_a_scene_together(tmp_path):
    parts = found(opened(made(tmp_path), "fit", "test", "predict", split=[0.6, 0.2, 0.2]))
    assert {split: len(names) for split, names in parts.items()} == {"train": 6, "val": 2, "test": 2, "predict": 2}
    assert sorted(parts["train"] + parts["val"] + parts["test"]) == NAMES and parts["test"] == parts["predict"]
    scenes = [{name[:6] for name in parts[split]} for split in ("train", "val", "test")]
    assert sum(map(len, scenes)) == len(set.union(*scenes))
    listed = found(opened(tmp_path, "test", split={"train": ["00000[01]_?"], "test": ["000004_1"]}))
    assert listed == {"test": ["000004_1"]}


def test_inputs_of_full_size_give_what_quarters_of_them_do(tmp_path):
    quarter, full = made(tmp_path / "a"), made(tmp_path / "b", full=True)
    one, other = (opened(root, "fit", "test", "predict", split=[0.6, 0.2, 0.2]) for root in (quarter, full))
    assert found(one) == found(other)
    assert isinstance(other._sources["test"][0], FullSizeInput)
    assert not isinstance(one._sources["test"][0], FullSizeInput)
    for a, b in (
        (one.test_dataloader()[0], other.test_dataloader()[0]),
        (one.predict_dataloader(), other.predict_dataloader()),
    ):
        for x, y in zip(a, b, strict=True):
            assert x["name"] == y["name"] and torch.equal(x["lr"], y["lr"]) and x["lr"].shape == (1, 1, 12, 16)
            assert ("hr" in x) == ("hr" in y) and ("hr" not in x or torch.equal(x["hr"], y["hr"]))
    batch = next(iter(other.test_dataloader()[0]))
    assert torch.equal(batch["displacement"], torch.zeros(1, 2, dtype=torch.int64)) and "groups" not in batch


def test_kinds_may_be_mixed_and_sides_are_cut(tmp_path):
    made(tmp_path, NAMES[:1], size=(48, 64))
    made(tmp_path, NAMES[1:2], full=True, size=(50, 67))
    data = opened(tmp_path, "test", split=[0, 0, 1], registration=False)
    shapes = [tuple(b["hr"].shape[-2:]) for b in data.test_dataloader()[0]]
    assert shapes == [(48, 64), (48, 64)]
    assert all("displacement" not in batch for batch in data.test_dataloader()[0])
    at_scale_2 = opened(tmp_path, split=[0, 0, 1], scale=2, leave_out=["*_0"])
    at_scale_2.setup("test")
    assert next(iter(at_scale_2.test_dataloader()[0]))["lr"].shape[-2:] == (25, 33)
    with pytest.raises(InputError, match="which is not 1/2 of it each way"):
        opened(tmp_path, "test", split=[0, 0, 1], scale=2)


@pytest.mark.parametrize("full", [False, True])
def test_inputs_without_a_target_are_restored_only(tmp_path, full):
    made(tmp_path, full=full)
    write(tmp_path / "LR" / "000099_1.bmp", *((48, 64) if full else (12, 16)))
    data = opened(tmp_path, "test", "predict", split=[0, 0, 1])
    assert found(data) == {"test": NAMES, "predict": [*NAMES, "000099_1"]}
    shapes = {tuple(batch["lr"].shape) for batch in data.predict_dataloader()}
    assert shapes == {(1, 1, 12, 16)}
    for path in (tmp_path / "HR").iterdir():
        path.unlink()
    (tmp_path / "HR").rmdir()
    alone = opened(tmp_path, "predict")
    assert len(found(alone)["predict"]) == 11
    assert next(iter(alone.predict_dataloader()))["lr"].shape == ((1, 1, 48, 64) if full else (1, 1, 12, 16))


def test_a_displaced_target_is_reported(tmp_path):
    pixels = write(tmp_path / "whole.png", 192, 192)
    for folder, part in (("HR", pixels[20:148, 28:156]), ("LR", pixels[24:152, 16:144])):
        (tmp_path / folder).mkdir()
        Image.fromarray(part).save(tmp_path / folder / "000000_0.png")
    batch = next(iter(opened(tmp_path, "test", split=[0, 0, 1]).test_dataloader()[0]))
    down, right = batch["displacement"][0].tolist()
    assert abs(down - 4) <= 1 and abs(right + 12) <= 1


def test_conditions_leave_displacements_and_groups_alone(tmp_path):
    (made(tmp_path) / "labels.csv").write_text("name,blur\n000000_0,motion\n")
    data = opened(tmp_path, "test", split=[0, 0, 1], test_conditions=[Complete, lambda: BlurredInput(2.0)])
    assert data.test_names == ["flir_iisr", "flir_iisr_blur_2"]
    for plain, blurred in zip(*data.test_dataloader(), strict=True):
        assert not torch.equal(plain["lr"], blurred["lr"]) and plain["groups"] == blurred["groups"]
        assert torch.equal(plain["displacement"], blurred["displacement"])


def test_labels_are_groups(tmp_path):
    made(tmp_path)
    text = "name,blur,scene\n000000_0,optical blur,car; person\n000000_1,motion blur,\nelsewhere,optical blur,bus\n"
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8-sig")
    data = opened(tmp_path, "test", split={"test": ["00000[01]_?"]}, eval_batch_size=2)
    groups = [own for batch in data.test_dataloader()[0] for own in batch["groups"]]
    assert groups == [["optical blur", "car", "person"], ["motion blur"], [], []]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,blur\na,b\n", "has no column 'name'"),
        ("name,scene\n000000_0,all\n", "has the label 'all'"),
        ("name,scene\n000000_0.bmp,car\n", "names 000000_0.bmp and none of .* such as 000000_0: .* suffix"),
        ("name,scene\n000000_0,caf\xe9\n", "labels.csv is not in UTF-8"),
    ],
)
def test_bad_labels(tmp_path, text, words):
    (made(tmp_path) / "labels.csv").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=words):
        opened(tmp_path, "test").test_dataloader()


def test_folders_that_do_not_go_together_are_one_sentence(tmp_path):
    made(tmp_path / "names")
    for path in list((tmp_path / "names" / "HR").iterdir())[:7]:
        path.rename(path.with_name(f"hr_{path.name}"))
    with pytest.raises(InputError, match=r"no input of hr_.* and 2 more: add or rename files"):
        opened(tmp_path / "names", "test")
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos" / "HR").mkdir(parents=True)
    for root, words in (("empty", r"/\{HR,LR\}/"), ("photos", r"/\{HR,LR\}/"), ("none", "does not exist")):
        for stage in ("test", "predict"):
            with pytest.raises(InputError, match=words) as caught:
                opened(tmp_path / root, stage)
            assert "\n" not in str(caught.value)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real pairs lie beside the repository of the project only")
def test_real_pairs_are_registered():
    data = opened(REAL, "test", "predict", split=[0, 0, 1])
    places = {batch["name"][0]: batch["displacement"][0].tolist() for batch in data.test_dataloader()[0]}
    # The best of all whole displacements by correlation with the target.
    best = {"000009_0": (0, -2), "000134_0": (1, -14), "000191_1": (0, -3), "000858_1": (0, 1)}
    assert places.keys() == best.keys() == set(found(data)["predict"])
    for name, place in best.items():
        assert places[name] == pytest.approx(place, abs=1)
