"""Points run in processes of their own; what fails, is killed or has changed is dealt with point by point."""

import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from lit_thermal.errors import InputError
from lit_thermal.sweeping import runner
from lit_thermal.sweeping.points import named_points
from lit_thermal.sweeping.record import PointRecord, read_sweep
from lit_thermal.sweeping.sweep_file import read_sweep_file

SWEEP = """
parameters:
  kind: {values: [good, slow, bad]}
command: ["${env}", "${interpreter}", -m, lit_thermal, fit, -c, base.yaml, "${args}"]
"""
CHILD = """
import json, os, pathlib, sys, time
options = dict(word[2:].split("=", 1) for word in sys.argv[1:] if word.startswith("--"))
folder = pathlib.Path(options["trainer.default_root_dir"]) / options["experiment"] / "20260101-fit"
folder.mkdir()
(folder / "config.yaml").write_text("x: 1")
pathlib.Path(os.environ["LIT_THERMAL_PROGRESS"]).write_text(json.dumps({"phase": "train", "step": 3, "steps": 9}))
kind = os.environ.get("BECOME", options["kind"])
if kind == "slow":
    time.sleep(60)
print("threads", os.environ.get("OMP_NUM_THREADS"))
if kind == "bad":
    sys.exit("cannot go on")
"""


class Recorder:
    """Remembers what a sweep tells."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.steps: list[Any] = []

    def started(self, point: PointRecord) -> None:
        self.events.append(("started", point.name))

    def running(self, point: PointRecord, progress: dict[str, Any]) -> None:
        self.steps.append(progress.get("step"))

    def ended(self, point: PointRecord) -> None:
        self.events.append((point.state, point.name))


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Runs the sweep, with processes that train nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "program", lambda words: [sys.executable, "-S", "-c", CHILD, *words])
    monkeypatch.setattr(runner, "POLL", 0.02)
    monkeypatch.setenv("BECOME", "good")
    (tmp_path / "kinds.yaml").write_text(SWEEP)
    base = Path("base.yaml")
    base.write_text("a: 1")

    def run(
        seeds: int = 1,
        overrides: tuple[str, ...] = (),
        places: int = 1,
        recorder: Recorder | None = None,
        count: int | None = None,
    ) -> Any:
        file = read_sweep_file(Path("kinds.yaml"))
        planned = runner.plan(file, named_points(file, count), seeds, tmp_path / "out", overrides)
        environment = [{"OMP_NUM_THREADS": str(place + 5)} for place in range(places)]
        return runner.run(planned, recorder or Recorder(), environment, lambda point: [base])

    return run


def states(record: Any) -> dict[str, str]:
    return {point.folder.name: point.state for point in record.points}


def test_every_point_runs_under_every_seed_with_the_words_that_were_added(sweep, tmp_path):
    recorder = Recorder()
    record = sweep(seeds=2, overrides=("--trainer.max_steps=4",), recorder=recorder)
    names = [f"kind={kind}-seed{seed}" for seed in (0, 1) for kind in ("good", "slow", "bad")]
    assert states(record) == dict.fromkeys(names, "finished")
    assert recorder.events[:2] == [("started", "kind=good"), ("finished", "kind=good")], "one after the other"
    point = record.points[4]
    assert point.parameters == {"kind": "slow"} and point.seed == 1 and point.run == point.folder / "20260101-fit"
    assert {"--kind=slow", "--seed_everything=1", "--trainer.max_steps=4"} <= set(point.command)
    assert f"--trainer.default_root_dir={tmp_path / 'out'}" in point.command
    assert read_sweep(tmp_path / "out") == record
    assert (point.folder / "log.txt").read_text().startswith("threads 5")


def test_a_failed_point_does_not_stop_the_others_and_runs_again(sweep, tmp_path, monkeypatch):
    monkeypatch.delenv("BECOME")
    (tmp_path / "kinds.yaml").write_text(SWEEP.replace("slow", "fine"))
    first = sweep()
    assert states(first) == {"kind=good-seed0": "finished", "kind=fine-seed0": "finished", "kind=bad-seed0": "failed"}
    assert "cannot go on" in (tmp_path / "out/kind=bad-seed0/log.txt").read_text()
    monkeypatch.setenv("BECOME", "good")
    recorder = Recorder()
    assert set(states(sweep(recorder=recorder)).values()) == {"finished"}
    assert recorder.events == [("started", "kind=bad"), ("finished", "kind=bad")], "finished points are skipped"


def test_several_points_run_at_once_each_in_its_place(sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("BECOME", "good")
    recorder = Recorder()
    sweep(places=3, recorder=recorder)
    assert [event for event, _ in recorder.events[:3]] == ["started"] * 3
    threads = {path.read_text().strip() for path in (tmp_path / "out").glob("*/log.txt")}
    assert threads == {"threads 5", "threads 6", "threads 7"}


def test_an_interrupted_sweep_ends_its_processes_and_loses_only_what_was_in_flight(sweep, tmp_path, monkeypatch):
    monkeypatch.delenv("BECOME")
    slow, recorder = tmp_path / "out/kind=slow-seed0", Recorder()

    def interrupt() -> None:
        while 3 not in recorder.steps or not slow.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        sweep(recorder=recorder)
    assert recorder.events == [("started", "kind=good"), ("finished", "kind=good"), ("started", "kind=slow")]
    assert [p.state for p in read_sweep(tmp_path / "out").points] == ["finished", "missing", "missing"]
    (slow / "half-written").touch()
    monkeypatch.setenv("BECOME", "good")
    again = Recorder()
    assert set(states(sweep(recorder=again)).values()) == {"finished"}
    assert ("started", "kind=good") not in again.events and not (slow / "half-written").exists()


def test_points_of_other_settings_are_not_mixed(sweep, tmp_path):
    sweep()
    with pytest.raises(InputError, match=r"kind=good-seed0 in .*its command was different"):
        sweep(overrides=("--trainer.max_steps=5",))
    (tmp_path / "base.yaml").write_text("a: 2")
    with pytest.raises(InputError, match=r"base\.yaml has changed since"):
        sweep()
    (tmp_path / "base.yaml").write_text("a: 1")
    assert len(sweep(seeds=2).points) == 6, "more seeds are no other settings"


def test_points_that_are_not_asked_for_stay_in_the_record(sweep):
    everything = sweep(seeds=2)
    recorder = Recorder()
    assert sweep(count=1, recorder=recorder) == everything and not recorder.events
    shutil.rmtree(everything.points[0].folder)
    with pytest.raises(InputError, match=r"kind=bad-seed0 .* finished under other settings \(added options: none\)"):
        sweep(count=1, overrides=("--trainer.max_steps=4",))


def test_a_file_is_remembered_as_it_was_when_its_point_started(sweep, tmp_path):
    class Edits(Recorder):
        def ended(self, point: PointRecord) -> None:
            (tmp_path / "base.yaml").write_text("a: 2")

    sweep(recorder=Edits())
    with pytest.raises(InputError, match=r"kind=good-seed0 .*base\.yaml has changed since"):
        sweep()
    (tmp_path / "base.yaml").write_text("a: 1")
    with pytest.raises(InputError, match=r"kind=slow-seed0 .*base\.yaml has changed since"):
        sweep()


def test_a_sweep_goes_on_from_another_working_directory(sweep, tmp_path, monkeypatch):
    first = sweep()
    file = read_sweep_file(Path("kinds.yaml"))
    monkeypatch.chdir("/")
    planned = runner.plan(file, named_points(file), 1, tmp_path / "out", ())
    again = runner.run(planned, Recorder(), [{}], lambda point: [tmp_path / "base.yaml"])
    assert states(again) == states(first)


def test_a_folder_that_cannot_be_made_and_a_broken_point_are_reported(sweep, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match=r"out is a file; name a folder"):
        sweep()
    (tmp_path / "out").unlink()
    (sweep().points[0].folder / "point.json").write_text("{")
    with pytest.raises(InputError, match=r"point\.json cannot be read as a record of `sweep`"):
        sweep()


def test_long_names_get_folders_of_their_own(tmp_path):
    path = tmp_path / "long.yaml"
    path.write_text(SWEEP.replace("[good, slow, bad]", str([[1] * 200, [2] * 200])))
    file = read_sweep_file(path)
    folders = [point.folder.name for point in runner.plan(file, named_points(file), 1, tmp_path, ()).points]
    assert len(set(folders)) == 2 and all(len(name) < 100 for name in folders)


def test_two_sweeps_do_not_run_in_one_folder(sweep, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out/.lock"), pytest.raises(InputError, match="another process is using the sweep"):
        sweep()


def test_a_broken_record_is_reported(tmp_path):
    with pytest.raises(InputError, match=r"holds no sweep\.json"):
        read_sweep(tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(InputError, match="was not written by `sweep`"):
        read_sweep(tmp_path)


def test_a_command_of_another_program_is_refused(tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text(SWEEP.replace("-m, lit_thermal, fit", "train.py"))
    file = read_sweep_file(path)
    with pytest.raises(InputError, match="must be"):
        runner.plan(file, named_points(file), 1, tmp_path, ())
    path.write_text(SWEEP.replace("base.yaml", '"${program}"'))
    file = read_sweep_file(path)
    with pytest.raises(InputError, match="which only W&B's agent knows"):
        runner.plan(file, named_points(file), 1, tmp_path, ())
