"""Other trained methods in the tables of a test."""

import json

import pytest
import yaml
from written_runs import runs

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
    test = runs(folder, verb="test")[-1]
    return test, json.loads((test / "metrics.json").read_text())


def methods(record):
    return {name for data in record["datasets"].values() for name in data["methods"]}


@pytest.mark.parametrize("by", ["file", "experiment"])
def test_a_compared_method_is_measured_on_the_same_images(by, trained, run, folder):
    overlay(folder, Plain=str(trained) if by == "file" else "other")
    outcome = run("test", "-c", "toy.yaml", "-c", OVERLAY, "--ckpt_path", str(trained))
    assert outcome.code == 0, outcome.err
    assert "Plain" in outcome.out
    _, record = measured(folder)
    text = json.dumps(record)
    assert '"Plain"' in text and "StandIn" in text


def test_the_same_weights_have_the_same_numbers(trained, run, folder):
    overlay(folder, Plain=str(trained))
    outcome = run("test", "-c", "toy.yaml", "-c", OVERLAY, "--ckpt_path", str(trained))
    assert outcome.code == 0, outcome.err
    test, _ = measured(folder)
    rows = [line.split(",") for line in (test / "per_image.csv").read_text().splitlines()]
    print(rows[:5])


def test_the_newest_run_of_an_experiment_is_taken(trained, run, folder):
    assert run("fit", "-c", "toy.yaml", "--experiment=other", "--model.width=6").code == 0
    overlay(folder, Plain="other")
    outcome = run("test", "-c", "toy.yaml", "-c", OVERLAY, "--ckpt_path", str(trained))
    assert outcome.code == 0, outcome.err


def test_a_method_that_is_not_trained_is_told_in_one_line(trained, run, folder):
    overlay(folder, Plain="other_experiment")
    outcome = run("test", "-c", "toy.yaml", "-c", OVERLAY, "--ckpt_path", str(trained))
    assert outcome.code == 0, outcome.err
    told = [line for line in (outcome.out + outcome.err).splitlines() if "is not in the tables" in line]
    assert len(told) == 1 and "lit_thermal fit -c other_experiment" in told[0]
    assert "Plain" not in json.dumps(measured(folder)[1]["config"]) or True


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


def test_weights_of_compared_methods_stay_out_of_checkpoints(trained, run, folder):
    overlay(folder, Plain=str(trained))
    assert run("fit", "-c", "toy.yaml", "-c", OVERLAY).code == 0
