"""Runs from the first step to the prediction: folders, resuming, changed models, loggers, errors on the way."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stand_in
import torch
import yaml
from conftest import CONFIG

from lit_thermal.callbacks import step_seeds
from lit_thermal.cli import run_folder
from lit_thermal.errors import InputError
from lit_thermal.files import locked
from lit_thermal.weights import load_model


def runs(folder: Path, experiment: str = "toy", verb: str = "fit") -> list[Path]:
    return sorted((folder / "runs" / experiment).glob(f"*-{verb}*"))


def weights(run: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / f"{which}.ckpt", weights_only=True)["state_dict"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_fit_test_and_everything_where_it_belongs(run, folder):
    assert run("fit", "-c", "toy.yaml").code == 0
    (first,) = runs(folder)
    assert {p.name for p in folder.iterdir()} == {"toy.yaml", "runs"}
    assert {p.name for p in first.iterdir()} >= {"config.yaml", "checkpoints", "csv", "tensorboard"}
    assert {p.name for p in (first / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert (first / "csv" / "version_0" / "metrics.csv").is_file()

    second = run("fit", "-c", "toy.yaml", "--model.mixer=PlainMixer")
    assert second.code == 0 and len(runs(folder)) == 2
    assert f"run folder: {runs(folder)[1].relative_to(folder)}" in second.out
    assert "best checkpoint: " in second.out and "val/psnr" in second.out
    assert "Tip" not in second.err

    config = yaml.safe_load((runs(folder)[1] / "config.yaml").read_text())
    assert config["model"]["init_args"]["mixer"]["class_path"] == "stand_in.PlainMixer"
    assert config["trainer"]["default_root_dir"] is None, "a config that is run again makes a folder of its own"

    measured = run("test", "-c", str(runs(folder)[1] / "config.yaml"), "--ckpt_path", "best")
    assert measured.code == 0, measured.err
    (test,) = runs(folder, verb="test")
    assert json.loads((test / "metrics.json").read_text())
    assert run("validate", "-c", "toy.yaml", "--ckpt_path", str(runs(folder)[0] / "checkpoints/last.ckpt")).code == 0
    restored = run("predict", "-c", "toy.yaml", "--from", "last")
    (predict,) = runs(folder, verb="predict")
    assert restored.code == 0 and f"restored frames: {predict.relative_to(folder) / 'predictions'}" in restored.out
    assert {p.name for p in (predict / "predictions").iterdir()} == {"blob0.png", "blob1.png"}


def test_short_and_long_names_build_the_same(run):
    printed = [
        run("fit", "-c", "toy.yaml", f"--model.mixer={name}", "--print_config").out
        for name in ("PlainMixer", "stand_in.PlainMixer", "{class_path: PlainMixer, init_args: {kernel: 1}}")
    ]
    assert printed[0] == printed[1] == printed[2]
    assert yaml.safe_load(printed[0])["model"]["init_args"]["scale"] == 2, "interpolations are resolved"


def test_later_files_and_overrides_win(run, folder):
    (folder / "over.yaml").write_text("model:\n  init_args: {width: 6, mixer: {init_args: {heads: 5}}}\n")
    words = ["fit", "-c", "toy.yaml", "-c", "over.yaml", "--model.width=8", "--data.scale=3"]
    config = yaml.safe_load(run(*words, "--print_config").out)["model"]["init_args"]
    assert config["width"] == 8 and config["scale"] == 3
    assert config["mixer"] == {"class_path": "stand_in.GatedMixer", "init_args": {"heads": 5, "gate": "sigmoid"}}


def test_the_printed_config_is_a_config(run, folder):
    (folder / "printed.yaml").write_text(run("fit", "-c", "toy.yaml", "--print_config").out)
    again = run("fit", "-c", "printed.yaml", "--print_config").out
    assert yaml.safe_load(again) == yaml.safe_load((folder / "printed.yaml").read_text())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(workers, run, folder):
    common = ["fit", "-c", "toy.yaml", f"--data.workers={workers}", "--trainer.callbacks+=EMA"]
    assert run(*common, "--experiment=whole", "--trainer.max_epochs=4").code == 0
    assert run(*common, "--experiment=parts", "--trainer.max_epochs=2").code == 0
    resumed = run(*common, "--experiment=parts", "--trainer.max_epochs=4", "--ckpt_path=last")
    assert resumed.code == 0, resumed.err
    (whole,), (parts,) = runs(folder, "whole"), runs(folder, "parts")
    assert same(weights(whole), weights(parts)) and same(weights(whole, "best"), weights(parts, "best"))
    assert len(list(parts.glob("config-resumed-*.yaml"))) == 1 and (parts / "config.yaml").is_file()
    assert {p.name for p in (parts / "csv").iterdir()} == {"version_0", "version_1"}


@pytest.mark.parametrize("validation", ["check_val_every_n_epoch=2", "val_check_interval=3", "limit_val_batches=0"])
def test_the_last_steps_are_kept(validation, run, folder):
    assert (
        run("fit", "-c", "toy.yaml", "--trainer.max_epochs=-1", "--trainer.max_steps=6", f"--trainer.{validation}").code
        == 0
    )
    (only,) = runs(folder)
    assert weights(only)["steps"] == 6


def test_best_survives_a_resume(run, folder):
    assert run("fit", "-c", "toy.yaml").code == 0
    (only,) = runs(folder)
    best = weights(only, "best")
    # a ruinous learning rate was kept by the optimizer's state: the second half only makes things worse
    checkpoint = torch.load(only / "checkpoints/last.ckpt", weights_only=True)
    checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] = 10.0
    torch.save(checkpoint, only / "checkpoints/last.ckpt")
    assert run("fit", "-c", "toy.yaml", "--ckpt_path=last", "--trainer.max_epochs=3").code == 0
    assert same(weights(only, "best"), best) and not same(weights(only), best)


def test_the_command_line_decides_the_model_and_a_checkpoint_that_does_not_fit_says_so(run, folder):
    assert run("fit", "-c", "toy.yaml").code == 0
    swapped = run("test", "-c", "toy.yaml", "--ckpt_path=best", "--model.mixer=PlainMixer")
    assert swapped.code == 2
    assert "best.ckpt does not fit the model: of its weights 2 unexpected (first: mixers.1.gates.weight)" in swapped.err
    deeper = run("test", "-c", "toy.yaml", "--ckpt_path=best", "--model.depth=2")
    assert "of its weights 6 missing (first: mixers.2.mix.weight), 2 unexpected (first: mixers.2.weight)" in deeper.err
    wider = run("test", "-c", "toy.yaml", "--ckpt_path=best", "--model.width=6")
    assert "6 of other shape (first: mixers.0.weight, (4, 1, 3, 3) there and (6, 1, 3, 3) here)" in wider.err
    other = run("test", "-c", "toy.yaml", "--ckpt_path=best", "--model=OtherStandIn")
    assert "was made by StandIn and does not fit OtherStandIn" in other.err
    optimizer = run("fit", "-c", "toy.yaml", "--ckpt_path=best", "--model.optimizer.lr=0.5")
    assert "has the state of another model.optimizer: lr 0.001 there and 0.5 here" in optimizer.err
    assert "keep the old setting by --model.optimizer.lr=0.001" in optimizer.err
    assert not runs(folder, verb="test") and len(runs(folder)) == 1, "nothing half-written"

    kept = run("test", "-c", "toy.yaml", "--from=best", "--model.mixer=PlainMixer")
    assert kept.code == 0
    assert "dropped   mixers.1.gates (2)" in kept.out
    trained = run("fit", "-c", "toy.yaml", "--from=best", "--model.depth=2", "--trainer.max_epochs=1")
    assert trained.code == 0 and "new " in trained.out and len(runs(folder)) == 2


def test_weights_without_the_rest_of_a_checkpoint_are_taken_by_from(run, folder):
    torch.save({"state_dict": stand_in.StandIn(mixer=stand_in.PlainMixer).state_dict()}, "bare.ckpt")
    words = ["test", "-c", "toy.yaml", "--model.mixer=PlainMixer"]
    given = run(*words, "--ckpt_path=bare.ckpt")
    assert given.code == 2 and "bare.ckpt was not written by `fit`; give it by --from instead" in given.err
    assert not runs(folder, verb="test")
    assert run(*words, "--from=bare.ckpt").code == 0


def test_a_checkpoint_rebuilds_its_model(run, folder):
    assert run("fit", "-c", "toy.yaml", "--model.mixer.gate=tanh", "--model.depth=2").code == 0
    model = load_model(runs(folder)[0] / "checkpoints/best.ckpt")
    assert isinstance(model, stand_in.StandIn) and not model.training and len(model.mixers) == 4
    assert isinstance(model.mixers[1], stand_in.GatedMixer) and model.mixers[1].gate == "tanh"
    assert same(model.state_dict(), weights(runs(folder)[0], "best"))


@pytest.mark.parametrize(("verb", "workers"), [("fit", 0), ("fit", 1), ("predict", 0)])
def test_a_mistake_during_the_run_is_one_sentence(verb, workers, run, folder):
    outcome = run(verb, "-c", "toy.yaml", "--data.broken=true", f"--data.workers={workers}")
    assert outcome.code == 2 and "Traceback" not in outcome.err
    assert outcome.err.splitlines()[-1] == "error: picture 1 is truncated; copy it anew"
    assert not runs(folder, verb=verb)


def test_a_root_and_no_logger(run, folder):
    words = ["fit", "-c", "toy.yaml", "--trainer.logger=false", "--trainer.default_root_dir=elsewhere"]
    assert run(*words).code == 0
    assert {p.name for p in folder.iterdir()} == {"toy.yaml", "elsewhere"}
    (only,) = (folder / "elsewhere" / "toy").iterdir()
    assert {p.name for p in only.iterdir()} == {"config.yaml", "checkpoints", ".lock"}
    assert run("test", "-c", "toy.yaml", "--trainer.default_root_dir=elsewhere", "--ckpt_path=best").code == 0


def test_wandb_without_an_account(run, folder, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert run("fit", "-c", "toy.yaml", "-c", "logger/wandb", "--trainer.max_epochs=1").code == 0
    import wandb

    wandb.finish()
    (only,) = runs(folder)
    assert list(only.glob("wandb/offline-run-*/*.wandb")) and list(only.glob("csv/version_0/metrics.csv"))
    assert {p.name for p in folder.iterdir()} == {"toy.yaml", "runs"}


def test_own_checkpoints_take_the_place_of_the_default(run, folder):
    (folder / "every.yaml").write_text(
        "trainer:\n  callbacks:\n"
        "    - {class_path: ModelCheckpoint, init_args: {save_top_k: -1, filename: '{epoch}'}}\n"
    )
    assert run("fit", "-c", "toy.yaml", "-c", "every.yaml").code == 0
    assert {p.name for p in (runs(folder)[0] / "checkpoints").iterdir()} == {"epoch=0.ckpt", "epoch=1.ckpt"}


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


def test_what_the_schedule_does_is_told_on_resuming(run, folder):
    words = ["fit", "-c", "toy.yaml", "--model.lr_scheduler=CosineAnnealingLR", "--trainer.max_epochs=-1"]
    long = [*words, "--trainer.max_steps=8", "--model.lr_scheduler.T_max=8", "--ckpt_path=last"]
    assert run(*words, "--trainer.max_steps=4", "--model.lr_scheduler.T_max=4").code == 0
    refused = run(*long)
    rates = "the learning rate is 0 at step 5, 0.000854 at step 8"
    assert refused.code == 2 and "T_max 4 there and 8 here" in refused.err
    assert f"keeps the old one, by which {rates}; to resume, keep the old setting by --model.lr_" in refused.err
    assert "give it by --from to start a new training with its weights and a schedule of its own" in refused.err
    resumed = run(*long, "--model.lr_scheduler.T_max=4")
    assert resumed.code == 0 and f"the training goes on from step 4: {rates}" in resumed.out


def test_names_of_wrappers_are_taken_off(run, folder):
    assert run("fit", "-c", "toy.yaml", "--trainer.callbacks+=EMA").code == 0
    (only,) = runs(folder)
    checkpoint = torch.load(only / "checkpoints/last.ckpt", weights_only=True)
    for key in ("state_dict", "current_model_state"):
        checkpoint[key] = {f"module._orig_mod.{name}": value for name, value in checkpoint[key].items()}
    torch.save(checkpoint, "wrapped.ckpt")
    for words in (["test"], ["fit", "--trainer.callbacks+=EMA", "--trainer.max_epochs=3"]):
        done = run(words[0], "-c", "toy.yaml", *words[1:], "--ckpt_path=wrapped.ckpt")
        assert done.code == 0 and "wrapped.ckpt: `module.` and `_orig_mod.` removed" in done.err, done.err
    assert run("test", "-c", "toy.yaml", "--from=wrapped.ckpt").code == 0


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


def test_wandb_without_a_key_is_told_before_training(run, folder, monkeypatch):
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
