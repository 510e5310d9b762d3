"""Published models: a folder or the hub, a card made of the run's record, shipped names, and nothing executed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal import load
from lit_thermal.cli.dispatch import main
from lit_thermal.errors import InputError
from lit_thermal.methods.base import SuperResolver
from lit_thermal.weights import find, load_model, model_for, save_model
from lit_thermal.weights.checkpoint import build_model

METRICS = {
    "method": "PlainCNN",
    "results": {
        "simulated": {
            "PlainCNN": {"all": {"psnr": 34.5678, "ssim": 0.91}},
            "PlainCNN mean": {"all": {"psnr": 34.6, "ssim": 0.91}},
            "bicubic": {"all": {"psnr": 31.25, "ssim": 0.85}},
            "nearest": {"all": {"psnr": 29.0, "ssim": 0.8}},
        }
    },
    "intervals": {"simulated": {"PlainCNN": {"all": {"psnr": [34.1, 35.0]}}}},
    "against_baselines": {"simulated": {"strongest": "bicubic", "gain": {"all": 3.3178}}},
    "data": {"simulated": {"images": 32}},
    "protocol": {"text": "Gray images in [0, 1]."},
}


def model(scale: int = 2, **arguments: object) -> SuperResolver:
    torch.manual_seed(0)
    made = build_model(
        {"class_path": "lit_thermal.PlainCNN", "init_args": {"scale": scale, "width": 4, "blocks": 1, **arguments}}
    )
    made.normalize = "minmax"
    torch.nn.init.normal_(made.network.tail.weight, std=0.1)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A checkpoint in the folders of a run, with a test of the same model beside it."""
    made = model()
    path = tmp_path / "runs" / "plain_cnn" / "1-fit" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    save_model(made, path)
    test = path.parents[2] / "2-test"
    test.mkdir()
    (test / "metrics.json").write_text(json.dumps(METRICS | {"model": made.config}))
    return path


def test_a_folder_gives_the_same_model_back(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "published"
    assert main(["publish", str(run), str(folder)]) == 0
    assert "with the numbers of" in capsys.readouterr().out
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    ours, theirs = load(run), load(folder)
    assert theirs.normalize == "minmax" and not theirs.training
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())
    card = (folder / "README.md").read_text(encoding="utf-8")
    for text in (
        "license: apache-2.0",
        "| PlainCNN | 34.57 [34.1, 35] | 0.91 |",
        "| bicubic | 31.25 | 0.85 |",
        "Strongest simple baseline: bicubic; gain 3.32 dB PSNR.",
        "Protocol: Gray images in [0, 1].",
        f"model = load({str(folder)!r})",
        "Data: simulated, 32 images.",
    ):
        assert text in card
    assert "PlainCNN mean" not in card
    assert main(["publish", str(run), str(folder)]) == 2
    assert "holds a published model: choose another folder or give --overwrite" in capsys.readouterr().err
    assert main(["publish", str(run), str(folder), "--overwrite", "--license", "mit"]) == 0


def test_without_a_test_the_card_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(model(), tmp_path / "a.ckpt")
    assert main(["publish", str(tmp_path / "a.ckpt"), str(tmp_path / "out")]) == 0
    assert "without numbers" in capsys.readouterr().out
    assert "published without a test" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_nothing_outside_the_package_is_named(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    assert main(["publish", str(run), str(folder)]) == 0
    config = json.loads((folder / "config.json").read_text())
    config["lit_thermal"]["model"]["class_path"] = "os.system"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="os"):
        load_model(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError, match="has no record of a model"):
        load_model(folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"model\.safetensors"):
        load_model(folder)


class Hub:
    """A stand-in for the hub: a folder for each name."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def create_repo(self, name: str, exist_ok: bool) -> str:
        assert exist_ok
        return f"https://hub/{name}"

    def upload_folder(self, repo_id: str, folder_path: str, commit_message: str) -> None:
        shutil.copytree(folder_path, self.place / repo_id, dirs_exist_ok=True)

    def download(self, name: str, allow_patterns: list[str]) -> str:
        assert sorted(allow_patterns) == ["config.json", "model.safetensors"], "nothing else is fetched"
        if not (self.place / name).is_dir():
            raise OSError("404 not found")
        return str(self.place / name)


def test_the_hub(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub.download)
    monkeypatch.chdir(tmp_path)
    assert main(["publish", str(run), "someone/x2"]) == 0
    assert "model = load('someone/x2')" in (tmp_path / "hub/someone/x2/README.md").read_text(encoding="utf-8")
    assert load("someone/x2").scale == 2
    with pytest.raises(InputError, match="could not be fetched from the hub"):
        load("someone/x3")
    with pytest.raises(InputError, match=r"there is no checkpoint runs/none\.ckpt"):
        load("runs/none.ckpt")


def test_models_that_come_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "SHIPPED", tmp_path / "pretrained")
    with pytest.raises(InputError, match="this installation comes without the model x4: give a checkpoint by --model"):
        model_for(clips=False, guided=False)
    for name, made in {"x4": model(4), "x8_guided": model(8, guided=True)}.items():
        save_model(made, tmp_path / "a.ckpt")
        assert main(["publish", str(tmp_path / "a.ckpt"), str(tmp_path / "pretrained" / name)]) == 0
    assert find.shipped() == ["x4", "x8_guided"]
    assert find.find_model("x4") == tmp_path / "pretrained" / "x4" == model_for(clips=False, guided=False)
    assert model_for(clips=False, guided=True).name == "x8_guided"
    assert load("x8_guided").scale == 8 and load("x4").scale == 4
    with pytest.raises(InputError, match="the models that come with this package are x4, x8_guided"):
        find.find_model("x5")


def test_upscale_without_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(find, "SHIPPED", tmp_path / "pretrained")
    save_model(model(4), tmp_path / "a.ckpt")
    assert main(["publish", str(tmp_path / "a.ckpt"), str(tmp_path / "pretrained" / "x4")]) == 0
    Image.fromarray(np.full((12, 16), 90, np.uint8)).save(tmp_path / "in.png")
    command = ["upscale", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "--device", "cpu"]
    assert main(command) == 0
    assert "model: x4, which comes with this package" in capsys.readouterr().out
    assert Image.open(tmp_path / "out.png").size == (64, 48)
    assert main([*command, "--overwrite", "--model", "x4"]) == 0
