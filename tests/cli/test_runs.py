"""Runs from the first step to the prediction: resuming, changed models, schedules, loggers."""

import json

import pytest
import stand_in
import torch
import yaml
from written_runs import runs, same, weights

from lit_thermal.weights import load_model


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


def test_what_the_schedule_does_is_reported_on_resuming(run, folder):
    words = ["fit", "-c", "toy.yaml", "--model.lr_scheduler=CosineAnnealingLR", "--trainer.max_epochs=-1"]
    long = [*words, "--trainer.max_steps=8", "--model.lr_scheduler.T_max=8", "--ckpt_path=last"]
    assert run(*words, "--trainer.max_steps=4", "--model.lr_scheduler.T_max=4").code == 0
    refused = run(*long)
    rates = "the learning rate is 0 at step 5, 0.000854 at step 8"
    assert refused.code == 2 and "T_max 4 there and 8 here" in refused.err
    assert f"keeps the old one: {rates}; to resume, keep the old setting by --model.lr_" in refused.err
    assert "give it by --from to start a new training with its weights and a schedule of its own" in refused.err
    resumed = run(*long, "--model.lr_scheduler.T_max=4")
    assert resumed.code == 0 and f"the training continues from step 4: {rates}" in resumed.out


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
