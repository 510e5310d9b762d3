"""The verb `sweep`: two points to the end, offline; the words of the user; what is reported."""

import json
import os
import shlex
import sys
from types import SimpleNamespace

import pytest

from lit_thermal.callbacks.tell_progress import TellProgress
from lit_thermal.sweeping import runner

TOY_SWEEP = """
method: grid
metric: {name: val/psnr, goal: maximize}
parameters:
  model.init_args.depth:
    values: [1, 2]
command: ["${env}", "${interpreter}", -m, lit_thermal, fit, -c, toy.yaml, "${args}", --then_test=true]
"""


@pytest.fixture
def toy(folder, monkeypatch):
    """The stand-in's experiment as a process of its own finds it, and a sweep over it."""
    text = (folder / "toy.yaml").read_text()
    for name in ("StandInData", "StandIn"):
        text = text.replace(f"class_path: {name}\n", f"class_path: stand_in.{name}\n")
    (folder / "toy.yaml").write_text(text.replace("class_path: GatedMixer", "class_path: stand_in.GatedMixer"))
    (folder / "depths.yaml").write_text(TOY_SWEEP)
    monkeypatch.setenv("PYTHONPATH", __file__.rsplit("/", 1)[0])
    monkeypatch.setenv("WANDB_MODE", "offline")
    return folder


def test_two_points_are_trained_and_tested_and_not_again(toy, run):
    words = ("sweep", "depths.yaml", "--jobs", "2", "--trainer.max_epochs=1")
    first = run(*words)
    assert first.code == 0, first.err + "".join(p.read_text() for p in toy.rglob("log.txt"))
    assert "2 points (1 seed each), 0 finished before, 2 at a time" in first.out
    assert "[2/2] finished" in first.out and "report runs/sweeps/depths" in first.out
    for depth in (1, 2):
        point = json.loads((toy / f"runs/sweeps/depths/depth={depth}-seed0/point.json").read_text())
        assert point["parameters"] == {"model.init_args.depth": depth} and point["state"] == "finished"
        left = toy / f"runs/sweeps/depths/depth={depth}-seed0" / point["run"]
        assert json.loads((left / "metrics.json").read_text())["model"]["init_args"]["depth"] == depth
        assert (left / "checkpoints/best.ckpt").is_file() and (left / "gallery/gallery.json").is_file()
    again = run(*words)
    assert again.code == 0 and "2 finished before" in again.out and "started" not in again.out
    other = run("sweep", "depths.yaml", "--trainer.max_epochs=2")
    assert other.code == 2 and "finished under other settings" in other.err


def test_a_failed_point_is_reported_with_its_last_words(folder, run, monkeypatch):
    (folder / "depths.yaml").write_text(TOY_SWEEP)
    last_words = "import sys; sys.exit('error: trainer has no max_epoch')"
    monkeypatch.setattr(runner, "program", lambda words: [sys.executable, "-S", "-c", last_words])
    outcome = run("sweep", "depths.yaml", "--points", "depth=1", "--out", "other")
    assert outcome.code == 1 and "0 of 1 points are finished" in outcome.out
    assert "failed: depth=1-seed0 (error: trainer has no max_epoch); see other/depth=1-seed0/log.txt" in outcome.err


def test_dry_run_prints_the_commands_of_a_packaged_sweep(folder, run):
    outcome = run("sweep", "corefusion_beta", "--dry_run", "--seeds", "2", "--trainer.max_steps=7")
    assert outcome.code == 0 and len(outcome.out.splitlines()) == 10 and not (folder / "runs").exists()
    assert "beta=0.1-seed1: python -m lit_thermal fit -c experiments/corefusion.yaml" in outcome.out
    assert "--model.init_args.beta=0.1 --then_test=true --trainer.max_steps=7 --seed_everything=1" in outcome.out


def test_overlays_apply_to_all_points_and_name_the_folder(folder, run):
    outcome = run("sweep", "theris_ablation", "-c", "data/aliased.yaml", "--points", "full", "--dry_run")
    assert "without" not in outcome.out and "runs/sweeps/theris_ablation-aliased" in outcome.out
    assert "full.yaml --config=data/aliased.yaml --then_test=true" in outcome.out
    outcome = run("sweep", "corefusion_beta", "-c", "rows/corefusion/direct.yaml", "--dry_run", "--out", "here")
    assert "--config=rows/corefusion/direct.yaml --model.init_args.beta=0.0" in outcome.out
    assert "--trainer.default_root_dir=" + str(folder / "here") in outcome.out


def test_a_run_tells_how_far_it_is_until_its_sweep_is_gone(tmp_path, monkeypatch):
    trainer = SimpleNamespace(num_test_batches=[4, 4, 4], is_global_zero=True, callback_metrics={}, global_step=9)
    monkeypatch.setenv("LIT_THERMAL_SWEEP_PROCESS", str(os.getppid()))
    TellProgress(tmp_path / "note").on_test_batch_end(trainer, None, None, None, 1, 2)
    assert json.loads((tmp_path / "note").read_text()) == {"phase": "test", "step": 10, "steps": 12, "val/psnr": None}
    monkeypatch.setenv("LIT_THERMAL_SWEEP_PROCESS", "1234567")  # killed while this run started
    with pytest.raises(KeyboardInterrupt):
        TellProgress(tmp_path / "note").on_test_batch_end(trainer, None, None, None, 1, 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    TellProgress(tmp_path / "note").on_test_batch_end(trainer, None, None, None, 1, 2)


def test_dry_run_prints_what_a_shell_takes(toy, run):
    text = (toy / "depths.yaml").read_text()
    (toy / "depths.yaml").write_text(text.replace("[1, 2]", "[{class_path: A, init_args: {b: 1}}]"))
    outcome = run("sweep", "depths.yaml", "--dry_run")
    line = outcome.out.splitlines()[0]
    assert "--model.init_args.depth={'class_path': 'A', 'init_args': {'b': 1}}" in shlex.split(line.split(": ", 1)[1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("theris_ablatio",), "did you mean theris_ablation or"),
        (("theris_ablation", "--seeds", "0"), "--seeds is 0 and must be at least 1"),
        (("theris_ablation", "--trainer.max_steps", "3"), "--trainer.max_steps=VALUE"),
        (("theris_ablation", "--points", "ful"), "no point 'ful'; did you mean full?"),
        (("theris_ablation", "--seed", "3"), "did you mean --seeds"),
        (("theris_ablation", "-c", "data/alaised.yaml"), "did you mean data/aliased"),
    ],
)
def test_mistakes_are_reported(run, words, message):
    outcome = run("sweep", *words)
    assert outcome.code == 2 and message in outcome.err
