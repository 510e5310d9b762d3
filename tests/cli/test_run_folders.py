"""Folders of runs: their names, which one a checkpoint is taken from, and which cannot be."""

import os
import time

import pytest
from written_runs import runs

from lit_thermal.cli import run_folder
from lit_thermal.errors import InputError
from lit_thermal.files import locked


def test_two_runs_of_one_second_and_the_newest_that_holds_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda _: "20250101-000000")
    folders = [run_folder.new_folder(tmp_path / "toy", "fit") for _ in range(12)]
    assert len(set(folders)) == 12 and sorted(folders) == folders
    for number in (3, 10):
        (folders[number] / "checkpoints").mkdir()
        (folders[number] / "checkpoints" / "best.ckpt").touch()
    with pytest.raises(InputError, match=r"20250101-000000-fit-12, holds no checkpoint .*fit-11 is an older one"):
        run_folder.find_checkpoint(tmp_path / "toy", "best")
    found = run_folder.find_checkpoint(tmp_path / "toy", "best", strict=False)
    assert found == folders[10] / "checkpoints" / "best.ckpt"
    assert run_folder.folder_of(found, tmp_path / "toy") == folders[10]
    assert run_folder.folder_of(found, tmp_path / "other") is None
    with pytest.raises(InputError, match=r"no run in .*other holds checkpoints/best.ckpt; .* has one of toy"):
        run_folder.find_checkpoint(tmp_path / "other", "best")


def test_a_requeued_job_finds_its_folder_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    first = run_folder.new_folder(tmp_path, "fit")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert run_folder.new_folder(tmp_path, "fit") == first
    assert run_folder.new_folder(tmp_path, "test") != first
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    assert run_folder.new_folder(tmp_path, "fit") != first


def test_a_requeued_job_does_not_take_the_folder_of_a_job_whose_number_begins_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "777")
    other = run_folder.new_folder(tmp_path, "fit")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert run_folder.new_folder(tmp_path, "fit") != other


@pytest.mark.parametrize("kind", ["pipe", "deep"])
def test_a_strange_config_in_a_newer_run_does_not_hinder_the_search(kind, tmp_path):
    for name in ("20260101-000000-fit", "20260102-000000-fit"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
    (tmp_path / "20260101-000000-fit/checkpoints/last.ckpt").touch()
    if kind == "deep":
        (tmp_path / "20260102-000000-fit/config.yaml").write_text("[" * 3000)
    else:
        os.mkfifo(tmp_path / "20260102-000000-fit/config.yaml")
    with pytest.raises(InputError, match="the newest training of"):
        run_folder.find_checkpoint(tmp_path, "last")


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_an_experiment_is_one_folder(run, folder, name):
    refused = run("fit", "-c", "toy.yaml", f"--experiment={name}")
    assert refused.code == 2 and "it names one folder" in refused.err


def test_the_newest_run_is_taken_and_named_or_refused(run, folder):
    assert run("fit", "-c", "toy.yaml").code == 0
    (first,) = runs(folder)
    measured = run("test", "-c", "toy.yaml", "--ckpt_path=last")
    name = first.relative_to(folder) / "checkpoints/last.ckpt"
    assert measured.code == 0 and f"last checkpoint of toy: {name}" in measured.out

    newer = folder / "runs" / "toy" / "20991231-000000-fit"
    newer.mkdir()
    for words in (["test", "--ckpt_path=best"], ["fit", "--from=last"], ["fit", "--ckpt_path=last"]):
        refused = run(words[0], "-c", "toy.yaml", *words[1:])
        assert refused.code == 2 and f"{newer.name}, holds no checkpoint" in refused.err
        assert f"and {first.name} is an older one: to use that, give the file {name.parent}" in refused.err
    assert {newer, first} == set(runs(folder)), "nothing half-written"
    assert run("test", "-c", "toy.yaml", f"--ckpt_path={name}").code == 0
    (newer / "config.yaml").write_text("trainer: {fast_dev_run: true}\n")
    assert run("test", "-c", "toy.yaml", "--ckpt_path=best").code == 0, "a quick trial writes no checkpoints"


def test_one_run_goes_on_in_one_process(run, folder):
    assert run("fit", "-c", "toy.yaml").code == 0
    (only,) = runs(folder)
    there = sorted(path.name for path in only.iterdir())
    words = ["fit", "-c", "toy.yaml", "--ckpt_path=last", "--trainer.max_epochs=3"]
    with locked(only / ".lock", "it"):
        refused = run(*words)
        assert run("test", "-c", "toy.yaml", "--ckpt_path=last").code == 0, "reading is free"
    assert refused.code == 2
    assert f"another process is using the run folder {only.relative_to(folder)}: wait until" in refused.err
    assert sorted(path.name for path in only.iterdir()) == there
    assert run(*words).code == 0, "the lock goes with the process"


def test_a_clock_that_was_set_back_makes_no_older_run(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda _: "20250101-000000")
    first = run_folder.new_folder(tmp_path, "fit")
    monkeypatch.setattr(time, "strftime", lambda _: "20241231-235959")
    assert [run_folder.new_folder(tmp_path, "fit").name for _ in range(2)] == [f"{first.name}-02", f"{first.name}-03"]
    assert run_folder.new_folder(tmp_path, "test").name == "20241231-235959-test"


def test_a_run_folder_that_cannot_be_is_one_sentence(run, folder):
    (folder / "file").touch()
    for words, said in (
        (["--experiment", "x" * 256], "has 256 bytes, more than the limit of 255 for a file"),
        (["--trainer.default_root_dir", "z" * 300], "File name too long"),
        (["--trainer.default_root_dir=file"], "cannot be created (Not a directory)"),
        ([f"--ckpt_path={'y' * 300}.ckpt"], "there is no checkpoint yyy"),
        ([f"--from={'y' * 300}.ckpt"], "there is no checkpoint yyy"),
    ):
        refused = run("fit", "-c", "toy.yaml", *words)
        assert refused.code == 2 and said in refused.err and "Traceback" not in refused.err
