"""Configs and checkpoints that name a class by an old path still work after the class has moved."""

import logging
from pathlib import Path

import pytest
import torch
import yaml

from lit_thermal import moved, trust
from lit_thermal.cli.dispatch import main
from lit_thermal.errors import InputError
from lit_thermal.weights import load_model
from lit_thermal.weights.checkpoint import build_model, save_model

OLD = "lit_thermal.data.image_folder.ImageFolder"
NEW = "lit_thermal.data.readers.image_folder.ImageFolder"
MODEL = """
class_path: lit_thermal.methods.corefusion.module.CoReFusion
init_args: {scale: 2, fusion: {class_path: lit_thermal.methods.corefusion.fusion.MaxFusion}}
"""


@pytest.fixture(autouse=True)
def forget():
    """Lets each test see the log line, which is written once per process."""
    moved.current.cache_clear()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Config as an earlier version saved it: a moved reader with a moved degradation."""
    path = tmp_path / "config.yaml"
    path.write_text(f"""
model: {{class_path: CoReFusion, init_args: {{scale: 2}}}}
data:
  class_path: {OLD}
  init_args:
    root: data
    scale: 2
    degradation: {{class_path: lit_thermal.data.degradations.Bicubic}}
""")
    return path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (OLD, NEW),
        ("lit_thermal.data.degradations.Bicubic", "lit_thermal.data.degradations.degradation.Bicubic"),
        ("lit_thermal.callbacks.old.EMA", "lit_thermal.callbacks.ema.EMA"),
    ],
)
def test_old_paths_are_found_by_name_and_logged_once(old, new, caplog):
    with caplog.at_level(logging.INFO):
        assert [moved.current(old), moved.current(old)] == [new, new]
    assert caplog.messages == [f"{old} has moved to {new}"]


@pytest.mark.parametrize(
    "name",
    [
        NEW,
        "lit_thermal.data.ImageFolder",  # a lazy name that imports
        "lit_thermal.data.image_folder.Gone",
        "lit_thermal.data.image_folder._Hidden",
        "lit_thermal.files.write",
        "lit_thermal_evil.ImageFolder",
        "evil.ImageFolder",
        "torch.optim.old.ImageFolder",
        "lit_thermal.os.system.Popen",
        "lit_thermal..ImageFolder",
        "ImageFolder",
    ],
)
def test_other_names_stay(name, caplog):
    assert moved.current(name) == name and not caplog.messages


def test_a_name_that_two_files_define_stays(monkeypatch):
    monkeypatch.setattr(moved, "places", lambda package: {"ImageFolder": ["lit_thermal.a", "lit_thermal.b"]})
    assert moved.current(OLD) == OLD


def test_old_paths_stay_outside_of_the_allowed_packages():
    assert trust.find(OLD, ("torch.optim",)) is None
    assert trust.find(OLD, trust.CONFIGS) is trust.find(NEW, trust.CONFIGS)


def test_saved_config_runs(config, capfd):
    assert main(["fit", "-c", str(config), "--print_config"]) == 0
    out, err = capfd.readouterr()
    data = yaml.safe_load(out)["data"]
    assert data["class_path"] == NEW
    assert data["init_args"]["degradation"]["class_path"].endswith(".Bicubic")
    assert f"{OLD} has moved to {NEW}" in err


@pytest.mark.parametrize(
    "words",
    [
        [f"--data={OLD}"],
        ["--data", OLD],
        [f"--data.class_path={OLD}"],
        [f"--data={{class_path: {OLD}, init_args: {{degradation: lit_thermal.data.degradations.Bicubic}}}}"],
        ["--data.degradation=lit_thermal.data.degradations.Bicubic"],
    ],
)
def test_overrides_with_old_paths_run(config, capfd, words):
    assert main(["fit", "-c", str(config), *words, "--data.root=data", "--data.scale=2", "--print_config"]) == 0
    assert yaml.safe_load(capfd.readouterr().out)["data"]["class_path"] == NEW


def test_a_class_that_is_gone_gives_one_sentence(config, capfd):
    config.write_text(config.read_text().replace("ImageFolder", "ImageFolderOfOld"))
    assert main(["fit", "-c", str(config)]) == 2
    err = capfd.readouterr().err
    *moves, error = err.splitlines()
    assert len(moves) <= 1 and error.startswith("error: ") and "there is no" in error and "ImageFolderOfOld" in error


def test_checkpoint_with_an_old_path_loads(tmp_path):
    path = tmp_path / "last.ckpt"
    model = build_model(yaml.safe_load(MODEL.replace("methods.corefusion.fusion", "blocks.fusion")))
    model.config = yaml.safe_load(MODEL)
    save_model(model, path)
    loaded = load_model(path)
    assert loaded.config["init_args"]["fusion"]["class_path"] == "lit_thermal.blocks.fusion.MaxFusion"
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True)
    )


def test_checkpoint_of_a_class_that_is_gone_gives_one_sentence(tmp_path):
    path = tmp_path / "last.ckpt"
    model = build_model(yaml.safe_load(MODEL.replace("methods.corefusion.fusion", "blocks.fusion")))
    model.config = {"class_path": "lit_thermal.methods.gone.Gone", "init_args": {}}
    save_model(model, path)
    with pytest.raises(InputError, match="cannot build its model"):
        load_model(path)


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    capsys.readouterr()
    assert main(["fit", *words, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("form", ["--model.tokenizer_steps=7", "--model.tokenizer_steps 7"])
def test_an_old_option_of_the_tokenizer_reaches_the_callback(form, capsys):
    callbacks = printed(["-c", "real_iisr", *form.split()], capsys)["trainer"]["callbacks"]
    assert callbacks[-1]["class_path"].endswith("TokenizerFirst") and callbacks[-1]["init_args"]["steps"] == 7


def test_a_config_with_the_sizes_of_an_earlier_theris_is_read(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text(
        "model: {class_path: THERIS, init_args: {preset: tiny, depth: 2, scale: 4}}\n"
        "data: {class_path: SimulatedVideo, init_args: {scale: 4}}\n"
    )
    model = printed(["-c", str(path)], capsys)["model"]["init_args"]
    assert "preset" not in model
    assert model["network"]["init_args"]["depth"] == 2 and model["network"]["init_args"]["channels"] == 16
