"""Runs that end early: interrupted, killed, on a full disk or without shared memory."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toy import CONFIG
from written_runs import runs, same, weights

from lit_thermal.callbacks import step_seeds
from lit_thermal.weights import load_model

SCRIPT = "import sys; import stand_in; from lit_thermal.cli.dispatch import main; sys.exit(main())"


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    (folder / "program.py").write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, "program.py", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_run_leaves_whole_checkpoints_to_go_on_from(sent, code, run, folder):
    process = start(folder, "fit", "-c", "toy.yaml", "--trainer.max_epochs=100000")
    waited = time.monotonic() + 60
    while not list(folder.glob("runs/toy/*/checkpoints/last.ckpt")) and time.monotonic() < waited:
        time.sleep(0.1)
    process.send_signal(sent)
    try:
        out, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code and "Traceback" not in out, out
    done = torch.load(runs(folder)[0] / "checkpoints/last.ckpt", weights_only=True)["epoch"] + 1
    assert run("fit", "-c", "toy.yaml", "--ckpt_path=last", f"--trainer.max_epochs={done + 1}").code == 0
    assert run("fit", "-c", "toy.yaml", "--experiment=whole", f"--trainer.max_epochs={done + 1}").code == 0
    assert same(weights(runs(folder)[0]), weights(runs(folder, "whole")[0]))


@pytest.mark.slow
def test_processes_of_a_distributed_run_share_one_folder(folder):
    words = ["-c", "toy.yaml", "-c", "strategy/ddp", "--trainer.devices=2", "--trainer.max_epochs=1"]
    out, _ = (process := start(folder, "fit", *words)).communicate(timeout=120)
    assert process.returncode == 0, out
    (only,) = runs(folder)
    assert {p.name for p in only.iterdir()} == {"config.yaml", "checkpoints", "csv", "tensorboard", ".lock"}
    assert out.count("run folder: ") == 1
    assert (folder / "toy.yaml").read_text() == CONFIG


@pytest.mark.parametrize("error", [RuntimeError("[enforce fail at inline_container.cc:1] ."), OSError(28, "full")])
def test_a_full_disk_is_one_sentence_and_leaves_the_last_checkpoint(error, run, folder, monkeypatch):
    assert run("fit", "-c", "toy.yaml").code == 0
    (only,) = runs(folder)
    before = weights(only)

    def full(value, file):
        file.write(b"half")
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        refused = run("fit", "-c", "toy.yaml", "--ckpt_path=last", "--trainer.max_epochs=3")
    assert refused.code == 2 and ".ckpt cannot be written (" in refused.err and "Traceback" not in refused.err
    assert {path.name for path in (only / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert same(weights(only), before) and load_model(only / "checkpoints/best.ckpt")


def test_a_logger_on_a_full_disk_is_one_sentence(run, folder, monkeypatch):
    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lightning.pytorch.loggers.CSVLogger.save", full)
    refused = run("fit", "-c", "toy.yaml")
    assert refused.code == 2 and "Traceback" not in refused.err
    assert refused.err.splitlines()[-1].startswith("error: runs/toy/")
    assert "cannot be written (No space left on device): make room or choose another place" in refused.err


def test_wandb_without_a_key_is_reported_before_training(run, folder, monkeypatch):
    import wandb

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb, "login", lambda prompt: False)
    refused = run("fit", "-c", "toy.yaml", "-c", "logger/wandb")
    assert refused.code == 2 and "this machine has no API key): run `wandb login`, set WANDB_API_KEY" in refused.err
    assert not runs(folder) and {p.name for p in folder.iterdir()} <= {"toy.yaml", "runs"}

    def unreachable(prompt):
        raise wandb.errors.CommError("no such host")

    monkeypatch.setattr(wandb, "login", unreachable)
    assert "cannot be used (no such host)" in run("fit", "-c", "toy.yaml", "-c", "logger/wandb").err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            "a data worker was killed (DataLoader",
        ),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "lower --data.num_workers (0 reads"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is"),
            "(/dev/shm) is full: enlarge",
        ),
        (
            MemoryError("Caught MemoryError in DataLoader worker process 0.\nTraceback"),
            "a data worker ran out of memory",
        ),
        (MemoryError(), "this machine has too little memory"),
        (
            OSError(28, "No space left on device"),
            "cannot be written (No space left on device): make room or choose another place by",
        ),
    ],
)
def test_what_stops_a_run_from_outside_is_one_sentence(run, folder, monkeypatch, error, said):
    def fail(self, trainer, *_):
        if trainer.current_epoch == 1:
            raise error

    monkeypatch.setattr(step_seeds.StepSeeds, "on_train_batch_start", fail)
    stopped = run("fit", "-c", "toy.yaml")
    assert stopped.code == 2 and "Traceback" not in stopped.err and said in stopped.err.splitlines()[-1]
    assert (runs(folder)[0] / "checkpoints/last.ckpt").is_file()


def test_a_run_folder_that_is_removed_meanwhile_is_one_sentence(run, folder, monkeypatch):
    def remove(self, trainer, *_):
        shutil.rmtree(folder / "runs", ignore_errors=True)

    monkeypatch.setattr(step_seeds.StepSeeds, "on_train_batch_start", remove)
    stopped = run("fit", "-c", "toy.yaml")
    assert stopped.code == 2 and "was removed while the run wrote to it" in stopped.err.splitlines()[-1]
    assert not list(folder.glob("runs/*/*/checkpoints/*"))


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_a_killed_data_worker_ends_the_run(run, folder, monkeypatch):
    def kill(self, trainer, *_):
        if trainer.current_epoch == 1:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            time.sleep(0.2)

    monkeypatch.setattr(step_seeds.StepSeeds, "on_train_batch_start", kill)
    stopped = run("fit", "-c", "toy.yaml", "--data.workers=1", "--trainer.max_epochs=20")
    assert stopped.code == 2 and "a data worker was killed" in stopped.err.splitlines()[-1]


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_full_shared_memory_ends_the_run(run, folder, monkeypatch):
    def full(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", full)
    monkeypatch.setattr(torch.UntypedStorage, "_share_filename_cpu_", full)
    stopped = run("fit", "-c", "toy.yaml", "--data.workers=1")
    assert stopped.code == 2 and "Traceback" not in stopped.err
    assert "the shared memory of the data workers (/dev/shm) is full: enlarge it, or lower" in stopped.err
