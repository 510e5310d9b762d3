from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal.data.readers.folder_reader import FolderReader
from lit_thermal.data.readers.irvi import IRVI
from lit_thermal.data.readers.llvip import LLVIP
from lit_thermal.data.readers.m3fd import M3FD
from lit_thermal.data.readers.pbvs import PBVS
from lit_thermal.data.readers.roadscene import RoadScene
from lit_thermal.data.readers.tno import TNO
from lit_thermal.errors import InputError


def write(path: Path, height: int = 16, width: int = 24, channels: int = 1) -> np.ndarray:
    """An image whose pixels depend on its place; several channels differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(sum(str(path).encode())).integers(1, 256, (height, width, channels), np.uint8)
    Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(path)
    return pixels


def pairs(root: Path, thermal: str, visible: str, names: list[str], channels: int = 3) -> None:
    for name in names:
        write(root / thermal / name)
        write(root / visible / name, channels=channels)


def opened(kind: type[FolderReader], root: Path, *stages: str, **changes) -> FolderReader:
    data = kind(root=str(root), **{"num_workers": 0, "crop": 1, "batch_size": 2} | changes)
    for stage in stages:
        data.setup(stage)
    return data


def found(data: FolderReader) -> dict[str, list[str]]:
    return {split: [source.name for source in sources] for split, sources in data._sources.items()}


def challenge(root: Path) -> Path:
    for folder, prefix, count in (
        ("train_val/training", "train", 3),
        ("train_val/validation", "valid", 2),
        ("test_THER-LR_VIS-HR", "test", 2),
    ):
        for index in range(count):
            name = f"{prefix[:2]}{index}_01.bmp"
            write(root / folder / f"{prefix}_VIS_HR" / name, 32, 48, 3)
            lr = write(root / folder / f"{prefix}_input_THER_LR_bicubic" / "X8" / name, 4, 6)
            Image.fromarray(lr.repeat(3, -1)).save(root / folder / f"{prefix}_input_THER_LR_bicubic" / "X8" / name)
            if prefix != "test":
                write(root / folder / f"{prefix}_output_gt_THER_HR" / name, 32, 48)
    return root


@pytest.mark.parametrize("inside", ["", "Dataset"])
def test_pbvs(tmp_path: Path, inside: str) -> None:
    challenge(tmp_path / inside)
    data = opened(PBVS, tmp_path, "fit", "test", "predict")
    assert found(data) == {
        "train": ["tr0_01", "tr1_01", "tr2_01"],
        "val": ["va0_01", "va1_01"],
        "test": ["va0_01", "va1_01"],
        "predict": ["te0_01", "te1_01"],
    }
    batch = next(iter(data.test_dataloader()[0]))
    folder = tmp_path / inside / "train_val" / "validation"
    lr = np.asarray(Image.open(folder / "valid_input_THER_LR_bicubic" / "X8" / "va0_01.bmp"))[..., 0]
    assert np.array_equal((batch["lr"][0, 0] * 255).round().numpy(), lr)
    assert (
        batch["hr"].shape == (1, 1, 32, 48) and batch["guide"].shape == (1, 3, 32, 48) and data.test_names == ["pbvs"]
    )
    for restored in data.predict_dataloader():
        assert "hr" not in restored and restored["has_lr"].item() and restored["has_guide"].item()
    spared = opened(PBVS, tmp_path, "test", leave_out=["va0_01"])
    assert found(spared)["test"] == ["va1_01"]
    with pytest.raises(InputError, match=r"which is not 1/4 of it"):
        opened(PBVS, tmp_path, "test", scale=4)


def test_llvip_validates_on_a_camera_that_it_does_not_train_on(tmp_path: Path) -> None:
    pairs(tmp_path, "infrared/train", "visible/train", ["010001.jpg", "010002.jpg", "070001.jpg", "250001.jpg"])
    pairs(tmp_path, "infrared/test", "visible/test", ["190001.jpg"])
    data = opened(LLVIP, tmp_path, "fit", "test", "predict")
    assert found(data) == {
        "train": ["010001", "010002", "070001"],
        "val": ["250001"],
        "test": ["190001"],
        "predict": ["190001"],
    }
    (batch,) = data.test_dataloader()[0]
    assert torch.equal(batch["lr"][0], data.degradation(batch["hr"][0], scale=8, seed=0))
    (tmp_path / "infrared" / "train").rename(tmp_path / "elsewhere")
    assert found(opened(LLVIP, tmp_path, "test")) == {"test": ["190001"]}


def test_irvi_takes_all_subsets_and_validates_on_the_ends_of_their_training_frames(tmp_path: Path) -> None:
    for subset in ("traffic", "monitoring/sub-1"):
        frames = [f"{index:06d}.png" for index in range(9, 50)]
        pairs(tmp_path / subset, "trainA", "trainB", frames)
        pairs(tmp_path / subset, "testA", "testB", ["000001.png"])
    data = opened(IRVI, tmp_path, "fit", "test", "predict")
    names = found(data)
    assert names["val"] == [f"{subset}_0000{i}" for subset in ("monitoring_sub-1", "traffic") for i in (48, 49)]
    assert len(names["train"]) == 2 * 39 and not set(names["train"]) & set(names["val"])
    assert names["test"] == names["predict"] == ["monitoring_sub-1_000001", "traffic_000001"]
    one = opened(IRVI, tmp_path / "traffic", "test")
    assert found(one)["test"] == ["000001"]


@pytest.mark.parametrize("folders", [("Ir", "Vis"), ("ir", "vi"), ("ir", "vis")])
def test_m3fd(tmp_path: Path, folders: tuple[str, str]) -> None:
    pairs(tmp_path, *folders, [f"{index:05d}.png" for index in range(20)])
    (tmp_path / "Annotation").mkdir()
    data = opened(M3FD, tmp_path, "fit", "test")
    assert [len(data._sources[split]) for split in ("train", "val", "test")] == [16, 2, 2]
    listed = opened(M3FD, tmp_path, "test", split={"train": ["0000?"], "test": ["0001[0-2]"]})
    assert found(listed)["test"] == ["00010", "00011", "00012"]
    assert listed.test_names == ["m3fd"]


def test_road_scene_of_many_sizes(tmp_path: Path) -> None:
    for index, (height, width) in enumerate([(17, 25), (24, 40), (30, 33)]):
        write(tmp_path / "cropinfrared" / f"FLIR_{index}.jpg", height, width)
        write(tmp_path / "crop_LR_visible" / f"FLIR_{index}.jpg", height, width, 3)
    data = opened(RoadScene, tmp_path, "test", split=[0, 0, 1])
    shapes = [tuple(batch["hr"].shape[-2:]) for batch in data.test_dataloader()[0]]
    assert shapes == [(16, 24), (24, 40), (24, 32)]
    joined = opened(RoadScene, tmp_path, "test", split=[0, 0, 1], eval_batch_size=2)
    with pytest.raises(InputError, match=r"differs in shape within a batch.*data.eval_batch_size outside training"):
        list(joined.test_dataloader()[0])


def test_tno_is_for_testing_unless_it_is_split(tmp_path: Path) -> None:
    pairs(tmp_path, "ir", "vi", ["01.png", "02.png", "03.png"], channels=1)
    data = opened(TNO, tmp_path, "test")
    assert found(data) == {"test": ["01", "02", "03"]}
    batch = next(iter(data.test_dataloader()[0]))
    assert batch["has_guide"].item() and torch.equal(batch["guide"], batch["guide"][:, :1].expand(-1, 3, -1, -1))
    with pytest.raises(InputError, match=r"no images for train found in .*set data.split"):
        opened(TNO, tmp_path, "fit")
    assert len(found(opened(TNO, tmp_path, "fit", split=[0.4, 0.3, 0.3]))["train"]) == 1


@pytest.mark.parametrize("kind", [PBVS, LLVIP, M3FD, RoadScene, TNO, IRVI])
def test_a_wrong_root_is_one_sentence_with_the_tree_and_what_was_found(
    kind: type[FolderReader], tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    for root, words in ((tmp_path, "photos/"), (tmp_path / "none", "does not exist")):
        with pytest.raises(InputError, match=words) as caught:
            opened(kind, root, "test")
        assert f"expected {root}/{kind.tree}" in str(caught.value) and "\n" not in str(caught.value)
