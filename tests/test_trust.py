"""What a config or a checkpoint names is looked up in a few packages alone, and nothing else runs or is imported.

Each attack would leave a file: a module that writes one when it is imported, or a function that writes one when it is
called.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from lit_thermal import trust
from lit_thermal.cli.dispatch import main
from lit_thermal.errors import InputError
from lit_thermal.weights import load_model
from lit_thermal.weights.checkpoint import build_model, rebuild

EVIL = """
from pathlib import Path
Path({marker!r}).write_text("imported")

def run(*args, **kwargs):
    Path({marker!r}).write_text("called")

class Evil:
    def __init__(self, *args, **kwargs):
        Path({marker!r}).write_text("built")
"""
FAST = "--trainer.fast_dev_run=true"
NAMES = {
    "system": ("os.system", {"command": "touch {marker}"}),
    "posix": ("posix.system", {"command": "touch {marker}"}),
    "popen": ("subprocess.Popen", {"args": ["touch", "{marker}"]}),
    "eval": ("builtins.eval", {"source": "open('{marker}', 'w')"}),
    "open": ("builtins.open", {"file": "{marker}", "mode": "w"}),
    "module beside": ("evil.Evil", {}),
    "function beside": ("evil.run", {}),
    "same letters": ("lit_thermal_evil.Evil", {}),
    "same letters of torch": ("torch_optim.Evil", {}),
    "torch.save": ("torch.save", {"obj": 1, "f": "{marker}"}),
    "torch.hub": ("torch.hub.load", {"repo_or_dir": "{folder}", "model": "run", "source": "local"}),
    "function of ours": ("lit_thermal.files.write_text", {"path": "{marker}", "text": "x"}),
    "command of ours": ("lit_thermal.cli.dispatch.main", {"argv": ["upscale"]}),
    "another's module through ours": ("lit_thermal.files.os.system", {"command": "touch {marker}"}),
    "function of lightning": (
        "lightning.fabric.utilities.cloud_io._atomic_save",
        {"checkpoint": {}, "filepath": "{marker}"},
    ),
    "class method": ("lightning.pytorch.LightningModule.load_from_checkpoint", {"checkpoint_path": "{marker}"}),
    "class of another family": ("torch.nn.Linear", {"in_features": 1, "out_features": 1}),
    "dots": ("..os.system", {}),
}
PLACES = {
    "model": ("theris", "model"),
    "optimizer": ("theris", "model.init_args.optimizer"),
    "lr_scheduler": ("theris", "model.init_args.lr_scheduler"),
    "mask": ("theris", "model.init_args.mask"),
    "scans": ("theris", "model.init_args.scans.0"),
    "nested": ("difiisr", "model.init_args.guidance.init_args.terms.0"),
    "mapping": ("difiisr", "model.init_args.also.drawing"),
    "data": ("theris", "data"),
    "degradation": ("difiisr", "data.init_args.degradation"),
    "test_conditions": ("corefusion", "data.init_args.test_conditions.0"),
    "callbacks": ("theris", "trainer.callbacks.0"),
    "logger": ("theris", "trainer.logger"),
    "loggers": ("theris", "trainer.logger.0"),
    "strategy": ("theris", "trainer.strategy"),
    "plugins": ("theris", "trainer.plugins.0"),
    "profiler": ("theris", "trainer.profiler"),
}


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that an attack that works would leave, in a working directory whose modules Python finds."""
    found = tmp_path / "ran"
    for name in ("evil", "lit_thermal_evil", "torch_optim", "hubconf"):
        (tmp_path / f"{name}.py").write_text(EVIL.format(marker=str(found)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(trust.ALLOW, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield found
    for name in ("evil", "lit_thermal_evil", "torch_optim"):
        sys.modules.pop(name, None)


def at(place: str, value: Any) -> Any:
    """Return a config with a value at a place; a number in its path is the only item of a list."""
    for part in reversed(place.split(".")):
        value = [value] if part.isdigit() else {part: value}
    return value


def filled(value: Any, marker: Path) -> Any:
    """Return an attack with the paths of this test in it."""
    text = json.dumps(value).replace("{marker}", str(marker)).replace("{folder}", str(marker.parent))
    return json.loads(text)


def refused(words: list[str], marker: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused in one sentence before anything ran, and return the sentence."""
    capfd.readouterr()
    code = main(words)
    err = capfd.readouterr().err
    assert not marker.exists(), marker.read_text()
    assert code == 2, err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in err, err
    assert not list(marker.parent.glob("runs/*")), "nothing half-written"
    return lines[0]


def attack_in_a_config(attack: str, place: str, marker: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name, arguments = filled(NAMES[attack], marker)
    experiment, key = PLACES[place]
    Path("bad.yaml").write_text(yaml.safe_dump(at(key, {"class_path": name, "init_args": arguments})))
    said = refused(["fit", "-c", experiment, "-c", "bad.yaml", FAST], marker, capfd)
    assert name in said and said.startswith("error: bad.yaml: "), said


@pytest.mark.parametrize("attack", NAMES)
def test_any_name_in_a_config(attack, marker, capfd):
    attack_in_a_config(attack, "mask", marker, capfd)


@pytest.mark.parametrize("attack", ["module beside", "function of ours"])
@pytest.mark.parametrize("place", [p for p in PLACES if p != "mask"])
def test_any_place_in_a_config(place, attack, marker, capfd):
    attack_in_a_config(attack, place, marker, capfd)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("attack", NAMES)
def test_any_name_at_any_place(attack, place, marker, capfd):
    attack_in_a_config(attack, place, marker, capfd)


@pytest.mark.parametrize("name", ["evil.Evil", "lit_thermal.files.write_text"])
@pytest.mark.parametrize(
    "text",
    [
        "model: {init_args: {mask: NAME}}",
        "model: NAME",
        "model: {init_args: {scans: [NAME]}}",
        "trainer: {callbacks: NAME}",
        "trainer: {strategy: NAME}",
        "experiment: NAME\nmodel: {init_args: {mask: '${experiment}'}}",
        "experiment: NAME\nmodel: {init_args: {mask: {class_path: '${experiment}'}}}",
        "experiment: NAME\nmodel: {init_args: {optimizer: {class_path: '${experiment}'}}}",
        "model: {init_args: {lr_scheduler: {class_path: LambdaLR, init_args: {lr_lambda: NAME}}}}",
        "model: {init_args: {mask: {class_path: RadialMask, dict_kwargs: {knots: {class_path: NAME}}}}}",
        "model: {init_args: {mask: part.yaml}}",
        "trainer: {callbacks: [{class_path: LambdaCallback, init_args: {on_fit_start: NAME}}]}",
    ],
)
def test_names_in_other_guises(text, name, marker, capfd):
    Path("bad.yaml").write_text(text.replace("NAME", name))
    Path("part.yaml").write_text(f"class_path: {name}")
    refused(["fit", "-c", "theris", "-c", "bad.yaml", FAST], marker, capfd)


@pytest.mark.parametrize(
    "word",
    [
        "--model.mask=evil.Evil",
        "--model.mask={class_path: evil.Evil}",
        "--model.mask.class_path=evil.Evil",
        "--model.init_args.mask.class_path=os.system",
        "--model.mask=lit_thermal.files.write_text",
        "--model.optimizer=evil.run",
        "--model.optimizer={'class_path': 'evil.Evil', 'init_args': {'lr': 1}}",
        "--model.lr_scheduler.class_path=evil.Evil",
        "--model.scans=[evil.Evil]",
        "--model.scans+=evil.Evil",
        "--model=evil.Evil",
        "--data=evil.Evil",
        "--trainer.callbacks+=evil.Evil",
        "--trainer.callbacks+={class_path: evil.Evil}",
        "--trainer.logger=evil.Evil",
        "--trainer.strategy={class_path: evil.Evil}",
        "--trainer.profiler=evil.Evil",
        "--trainer.plugins+=evil.Evil",
        "--model.help=evil.Evil",
        "--trainer.callbacks.help=evil.Evil",
        "--model=part.yaml",
        "--model.mask=part.yaml",
    ],
)
def test_in_the_shell(word, marker, capfd):
    Path("part.yaml").write_text("class_path: evil.Evil")
    said = refused(["fit", "-c", "theris", FAST, word], marker, capfd)
    assert word.split("=")[0] in said or "part.yaml" in said or "evil.Evil" in said or "Trainer" in said


def test_the_sentence_names_key_class_and_file_and_says_how_to_allow_it(marker, capfd):
    Path("bad.yaml").write_text("model: {init_args: {scans: [Hilbert, {class_path: evil.Evil}]}}")
    said = refused(["fit", "-c", "theris", "-c", "bad.yaml"], marker, capfd)
    assert said.startswith("error: bad.yaml: model.init_args.scans.1: 'evil.Evil' is outside the packages")
    assert said.endswith("if you trust evil, whose code will be run, add --allow evil or set LIT_THERMAL_ALLOW=evil")
    Path("bad.yaml").write_text("allow: evil\nmodel: {init_args: {mask: Hilbert}}")
    assert "bad.yaml: allow: the config has no 'allow'" in refused(
        ["fit", "-c", "theris", "-c", "bad.yaml"], marker, capfd
    )


OWN = """
from lit_thermal.blocks.spectral_mask import ZeroPhaseMask

class Mine(ZeroPhaseMask):
    pass

def make(*args):
    return Mine(*args)
"""


@pytest.mark.parametrize("words", [["--allow", "my_blocks"], ["--allow=a_b,my_blocks"], []])
def test_a_package_that_the_user_names_is_used(words, marker, capfd, monkeypatch):
    Path("my_blocks.py").write_text(OWN)
    # the script `lit-thermal` does not look in the working directory
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(marker.parent)])
    command = ["fit", "-c", "theris", "--model.mask=my_blocks.Mine", "--print_config"]
    with monkeypatch.context() as environment:
        if not words:
            environment.setenv(trust.ALLOW, "other, my_blocks")
        try:
            assert main([command[0], *words, *command[1:]]) == 0, capfd.readouterr().err
            printed = yaml.safe_load(capfd.readouterr().out)
            assert printed["model"]["init_args"]["mask"]["class_path"] == "my_blocks.Mine"
            said = refused(["fit", *words, "-c", "theris", "--model.mask=my_blocks.make", FAST], marker, capfd)
            assert "there is no SpectralMask 'my_blocks.make'" in said
        finally:
            sys.modules.pop("my_blocks", None)
    assert "add --allow my_blocks" in refused(command[:4], marker, capfd), "the next command does not inherit it"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("os", "would allow everything that Python can do"),
        ("os.path", "would allow"),
        ("builtins", "would allow"),
        ("jsonargparse", "would allow"),
        ("a b", "is not a package name"),
        ("*", "is not a package name"),
        ("../x", "is not a package name"),
    ],
)
def test_what_cannot_be_allowed(name, said, marker, capfd, monkeypatch):
    assert said in refused(["list", "--allow", name], marker, capfd)
    monkeypatch.setenv(trust.ALLOW, name)
    assert said in refused(["list"], marker, capfd)


def test_allow_needs_a_package(marker, capfd):
    assert "--allow needs the name of a package" in refused(["list", "--allow"], marker, capfd)
    assert "no option --allo" in refused(["list", "--allo=x"], marker, capfd)


@pytest.mark.parametrize(
    "text",
    [
        "experiment: ${oc.env:SECRET}",
        "experiment: ${oc.env:SECRET,default}",
        "experiment: a${ oc.env : SECRET }",
        "experiment: ${oc.decode:${oc.env:SECRET}}",
        "experiment: ${oc.create:x}",
        "experiment: ${oc.select:data}",
        "experiment: ${OC.ENV:SECRET}",
        "data: {class_path: oc.env}\nexperiment: '${${data.class_path}:SECRET}'",
        "'${oc.env:SECRET}': 1",
        "model: {init_args: {scans: ['${oc.env:SECRET}']}}",
        "trainer: {logger: {class_path: CSVLogger, init_args: {save_dir: '${oc.env:SECRET}'}}}",
        'experiment: "\\x24{oc.env:SECRET}"',
    ],
)
def test_what_the_machine_holds_stays_there(text, marker, capfd, monkeypatch):
    monkeypatch.setenv("SECRET", "sesame")
    Path("bad.yaml").write_text(text)
    assert "sesame" not in refused(["fit", "-c", "theris", "-c", "bad.yaml", FAST], marker, capfd)


def test_what_the_machine_holds_is_not_for_overrides_either(marker, capfd, monkeypatch):
    monkeypatch.setenv("SECRET", "sesame")
    for word in ("--experiment=${oc.env:SECRET}", "--model.scans=[Hilbert, '${oc.env:SECRET}']"):
        assert "environment variable 'SECRET'" in refused(["fit", "-c", "theris", word, FAST], marker, capfd)


def checkpoint(model: Any, file: str = "bad.ckpt") -> str:
    """Write a checkpoint with a record of a model."""
    torch.save({"state_dict": {}, "lit_thermal": {"version": "0.1", "model": model}}, file)
    return file


RECORDS = {
    "block": lambda spec: {"class_path": "THERIS", "init_args": {"mask": spec}},
    "list": lambda spec: {"class_path": "THERIS", "init_args": {"scans": [spec]}},
    "optimizer": lambda spec: {"class_path": "THERIS", "init_args": {"optimizer": spec}},
    "model": lambda spec: spec,
}


@pytest.mark.parametrize(
    ("record", "attack"),
    [("block", name) for name in NAMES]
    + [(record, name) for record in RECORDS for name in ("system", "module beside", "function of ours")],
)
def test_in_the_record_of_a_checkpoint(record, attack, marker):
    name, arguments = filled(NAMES[attack], marker)
    for spec in ({"class_path": name, "init_args": arguments}, name):
        if isinstance(spec, str) and record == "model":
            continue
        with pytest.raises(InputError) as caught:
            load_model(checkpoint(RECORDS[record](spec)))
        assert not marker.exists() and "bad.ckpt" in str(caught.value)


def test_the_record_of_a_checkpoint_names_less_than_a_config(marker):
    spec = {"class_path": "torch.nn.Identity"}
    with pytest.raises(InputError, match=r"bad.ckpt: init_args.mask: 'torch.nn.Identity' is outside the packages"):
        load_model(checkpoint(RECORDS["block"](spec)))


def test_records_without_end(marker):
    endless: dict[str, Any] = {"class_path": "THERIS"}
    endless["init_args"] = endless
    many: Any = "x"
    for _ in range(40):
        many = [many] * 10
    for record in (endless, {"class_path": "THERIS", "init_args": {"scans": many}}):
        with pytest.raises(InputError, match="values or 64 levels"):
            load_model(checkpoint(record))


@pytest.mark.parametrize(
    "words",
    [
        ["upscale", "frames", "-o", "out", "--model", "bad.ckpt"],
        ["merge", "bad.ckpt", "out.ckpt"],
        ["evaluate", "--hr", "hr", "--lr", "lr", "--comparator", "bad.ckpt"],
    ],
)
def test_the_verbs_that_rebuild_a_model(words, marker, capfd):
    for name, size in {"frames": 16, "lr": 16, "hr": 64}.items():
        Path(name).mkdir()
        for number in range(3):
            Image.new("L", (size, size), 9).save(f"{name}/{number}.png")
    name, arguments = filled(NAMES["system"], marker)
    model = RECORDS["block"]({"class_path": name, "init_args": arguments})
    if words[0] == "merge":
        model["init_args"]["base"] = {"class_path": "SDTurbo", "init_args": {"folder": "base"}}
    state = {"x.lora_A.weight": torch.zeros(1)}
    torch.save({"state_dict": state, "lit_thermal": {"version": "0.1", "model": model}}, "bad.ckpt")
    assert "bad.ckpt: init_args.mask: 'os.system' is outside" in refused(words, marker, capfd)


def test_a_library_is_not_looked_for_in_the_working_directory(marker):
    for name in ("rich", "yaml"):
        Path(f"{name}.py").write_text(EVIL.format(marker=str(marker)))
    done = subprocess.run([sys.executable, "-m", "lit_thermal", "sweep", "no"], capture_output=True, text=True)
    assert done.returncode == 2 and "there is no sweep file 'no'" in done.stderr and not marker.exists()


BOMB = "\n".join(["a: &a [x, x]", *(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghij"))])


@pytest.mark.parametrize("kind", ["pipe", "bomb in a file", "bomb", "deep"])
def test_a_text_in_a_record_neither_blocks_nor_fills_the_memory(kind, tmp_path):
    value = {"bomb": BOMB, "deep": "[" * 3000}.get(kind, str(tmp_path / "mask.yaml"))
    if kind == "pipe":
        os.mkfifo(value)
    elif kind == "bomb in a file":
        Path(value).write_text(BOMB)
    with pytest.raises(InputError, match=r"is a pipe|it expands to more than|nested more than"):
        build_model({"class_path": "lit_thermal.methods.theris.module.THERIS", "init_args": {"mask": value}})


@pytest.mark.parametrize("arguments", [{"mask": None}, {"network": None}, {"scale": None}])
def test_a_record_that_no_model_can_be_built_by(arguments):
    model = {"class_path": "lit_thermal.methods.theris.module.THERIS", "init_args": arguments}
    with pytest.raises(InputError, match=r"x\.ckpt"):
        rebuild({"state_dict": {}, "lit_thermal": {"version": "0", "model": model}}, "x.ckpt")
