"""Other trained methods in the tables of a test."""

import json

import pytest
import yaml
from written_runs import runs

from lit_thermal.callbacks import compared_methods

OVERLAY = "compared.yaml"


@pytest.fixture
def trained(run, folder):
    """Checkpoint of another run of the stand-in method."""
    assert run("fit", "-c", "toy.yaml", "--experiment=other").code == 0
    return next(folder.glob("runs/other/*/checkpoints/best.ckpt"))


def overlay(folder, **checkpoints):
    callback = {"class_path": "ComparedMethods", "init_args": {"checkpoints": checkpoints}}
    (folder / OVERLAY).write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}))


def measured(folder):
    return json.loads((runs(folder, verb="test")[-1] / "metrics.json").read_text())


@pytest.mark.parametrize("by", ["file", "experiment"])
def test_a_compared_method_is_measured_on_the_same_images(by, trained, run, folder):
    overlay(folder, Plain=str(trained) if by == "file" else "other")
    outcome = run("test", "-c", "toy.yaml", "-c", OVERLAY, "--ckpt_path", str(trained))
    assert outcome.code == 0, outcome.err
    assert "Plain" in outcome.out, "the printed table has it"
    results = measured(folder)["results"]["test"]
    assert results["Plain"] == results["StandIn"], "the same weights give the same numbers"


def test_the_newest_run_of_an_experiment_is_taken(trained, run, folder):
    assert run("fit", "-c", "toy.yaml", "--experiment=other", "--model.noise=0", "--trainer.max_epochs=4").code == 0
    overlay(folder, Plain="other", Old=str(trained))
    outcome = run("test", "-c", "toy.yaml", "-c", OVERLAY, "--ckpt_path", str(trained))
    assert outcome.code == 0, outcome.err
    results = measured(folder)["results"]["test"]
    assert results["Old"] == results["StandIn"] != results["Plain"]


def test_a_method_that_is_not_trained_is_told_in_one_line(trained, run, folder, monkeypatch):
    told = []
    monkeypatch.setattr(compared_methods, "rank_zero_info", told.append)
    overlay(folder, Plain="plain_video")
    outcome = run("test", "-c", "toy.yaml", "-c", OVERLAY, "--ckpt_path", str(trained))
    assert outcome.code == 0, outcome.err
    assert len(told) == 1 and "`lit_thermal fit -c plain_video`" in told[0] and "\n" not in told[0]
    assert told[0].endswith("--trainer.callbacks.checkpoints.Plain")
    assert "Plain" not in measured(folder)["results"]["test"]


def test_the_advice_of_the_line_works(trained, run, folder):
    overlay(folder, Plain="plain_video")
    given = f"--trainer.callbacks.checkpoints.Plain={trained}"
    outcome = run("test", "-c", "toy.yaml", "-c", OVERLAY, given, "--ckpt_path", str(trained))
    assert outcome.code == 0, outcome.err
    assert "Plain" in measured(folder)["results"]["test"]


def test_a_missing_file_is_one_sentence(trained, run, folder):
    overlay(folder, Plain="nowhere/best.ckpt")
    outcome = run("test", "-c", "toy.yaml", "-c", OVERLAY, "--ckpt_path", str(trained))
    assert outcome.code != 0 and "nowhere/best.ckpt" in outcome.err
    assert "Traceback" not in outcome.err


def test_another_scale_is_one_sentence(trained, run, folder):
    assert run("fit", "-c", "toy.yaml", "--experiment=larger", "--data.scale=3").code == 0
    overlay(folder, Plain="larger")
    outcome = run("test", "-c", "toy.yaml", "-c", OVERLAY, "--ckpt_path", str(trained))
    assert outcome.code != 0 and "enlarges by 3 and the method under test by 2" in outcome.err
    assert "Traceback" not in outcome.err and len(outcome.err.strip().splitlines()) <= 3
