"""Real-IISR from the command line: tokenizer first or given, test with its ceiling, prediction, resuming, mistakes."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal.cli.dispatch import main

DATA = [
    "--data.train_images=8",
    "--data.val_images=2",
    "--data.test_images=2",
    "--data.size=72",
    "--data.batch_size=4",
    "--data.samples_per_epoch=8",
    "--data.num_workers=0",
    "--trainer.enable_progress_bar=false",
]
MODEL = [
    "--model.width=32",
    "--model.depth=2",
    "--model.tokenizer.multipliers=[1,1,1]",
    "--model.tokenizer.width=8",
    "--model.tokenizer.entries=32",
    "--model.tokenizer.scales=[1,3,6,12]",
    "--model.encoder.widths=[8,8]",
    "--model.structure.encoder.widths=[8,8]",
]
SMALL = ["-c", "real_iisr", *DATA, *MODEL, "--trainer.callbacks.steps=2", "--trainer.max_steps=4"]
TOKENIZER = ["-c", "real_iisr_tokenizer", *DATA, *(w for w in MODEL if "tokenizer." in w), "--trainer.max_steps=4"]


PLAIN = "--trainer.callbacks=[{class_path: TokenizerFirst, init_args: {steps: 2}}]"
"""No pictures and curves where the weights are all that is looked at."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The `runs` of a small training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        assert main(["fit", *SMALL, PLAIN]) == 0
        return Path.cwd() / "runs"


@pytest.fixture
def after_training(trained, folder):
    """The working directory with such a run in it."""
    shutil.copytree(trained, folder / "runs")
    return folder


def newest(folder, verb, experiment="real_iisr"):
    return sorted((folder / "runs" / experiment).glob(f"*-{verb}*"))[-1]


def last(folder, experiment="real_iisr"):
    (path,) = folder.glob(f"runs/{experiment}/*/checkpoints/last.ckpt")
    return torch.load(path, weights_only=True)


def test_one_training_makes_the_tokenizer_and_then_the_transformer(run, folder, caplog):
    fit = run("fit", *SMALL, "--trainer.limit_val_batches=1")
    assert fit.code == 0, fit.err
    assert "no tokenizer was given: steps 0 to 2 train one" in caplog.text
    assert "step 2: the tokenizer is frozen" in caplog.text
    kept = newest(folder, "fit")
    with (kept / "curves.csv").open() as file:
        first, second = csv.DictReader(file)
    assert float(first["train/reconstruction"]) > 0 and not first.get("train/cross_entropy")
    assert float(second["train/cross_entropy"]) > 0 and float(second["train/order"]) >= 0
    assert {"train/commitment", "train/usage", "val/cross_entropy", "val/unigram_entropy"} <= set(second)

    test = run("test", *SMALL, "--ckpt_path", "best")
    assert test.code == 0, test.err
    record = json.loads((newest(folder, "test") / "metrics.json").read_text())
    (results,) = record["results"].values()
    assert list(results)[:2] == ["RealIISR", "RealIISR tokenizer ceiling"]
    (against,) = record["against_baselines"].values()
    assert "ceiling" not in against["strongest"], "what is made of the target is no baseline"

    predict = run("predict", *SMALL, "--ckpt_path", "best")
    assert predict.code == 0, predict.err
    pictures = sorted((newest(folder, "predict") / "predictions").iterdir())
    assert len(pictures) == 2
    with Image.open(pictures[0]) as image:
        assert image.size == (72, 72)


def test_the_tokenizer_stays_when_its_steps_are_over(run, folder):
    common = ["fit", *SMALL, PLAIN, "--trainer.max_steps=3", "--model.lr_scheduler.T_max=6"]
    assert run(*common).code == 0
    before = last(folder)["state_dict"]
    resumed = run(*common, "--trainer.max_steps=6", "--ckpt_path=last")
    assert resumed.code == 0, resumed.err
    after = last(folder)["state_dict"]
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert not any(name.startswith("network.tokenizer.") for name in moved)
    assert {name.split(".")[1] for name in moved} >= {"transformer", "encoder", "structure", "codebook"}


@pytest.mark.slow
def test_a_training_cut_in_either_phase_ends_at_the_same_weights(run, folder):
    common = ["fit", *SMALL, PLAIN, "--data.samples_per_epoch=4", "--trainer.limit_val_batches=1"]
    assert run(*common, "--experiment=whole").code == 0
    whole = last(folder, "whole")
    for cut in (1, 2, 3):
        parts = f"cut_at_{cut}"
        assert run(*common, f"--experiment={parts}", f"--trainer.max_epochs={cut}").code == 0
        assert last(folder, parts)["global_step"] == cut
        resumed = run(*common, f"--experiment={parts}", "--ckpt_path=last")
        assert resumed.code == 0, resumed.err
        ended = last(folder, parts)
        assert ended["global_step"] == 4
        changed = {n: float((ended["state_dict"][n] - v).abs().max()) for n, v in whole["state_dict"].items()}
        assert not {n: d for n, d in changed.items() if d}, cut


def test_a_tokenizer_alone_and_a_transformer_on_it(run, folder, caplog):
    alone = run("fit", *TOKENIZER)
    assert alone.code == 0, alone.err
    with (newest(folder, "fit", "real_iisr_tokenizer") / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"train/reconstruction", "train/commitment", "train/usage", "val/psnr"} <= set(rows[0])
    tested = run("test", *TOKENIZER, "--ckpt_path", "best")
    assert tested.code == 0, tested.err
    record = json.loads((newest(folder, "test", "real_iisr_tokenizer") / "metrics.json").read_text())
    (results,) = record["results"].values()
    assert "RealIISRTokenizer reconstruction" in results and "bicubic" in " ".join(results)

    weights = newest(folder, "fit", "real_iisr_tokenizer") / "checkpoints" / "last.ckpt"
    fit = run("fit", *SMALL, PLAIN, f"--model.tokenizer_weights={weights}")
    assert fit.code == 0, fit.err
    assert "no tokenizer was given" not in caplog.text
    given = torch.load(weights, weights_only=True)["state_dict"]
    state = last(folder)["state_dict"]
    assert all(torch.equal(state[f"network.{name}"], value) for name, value in given.items())


def test_a_checkpoint_brings_its_tokenizer(run, after_training, caplog):
    folder = after_training
    first = newest(folder, "fit") / "checkpoints" / "last.ckpt"
    again = run("fit", *SMALL, PLAIN, "--experiment=again", "--from", str(first))
    assert again.code == 0, again.err
    assert "no tokenizer was given" not in caplog.text
    before, after = (torch.load(first, weights_only=True)["state_dict"], last(folder, "again")["state_dict"])
    assert all(torch.equal(value, after[name]) for name, value in before.items() if "tokenizer" in name)


def test_guidance_away_from_negatives_and_a_sampler_that_draws(run, folder):
    words = [*SMALL, "--model.negatives=0.5", "--model.guidance=1", "--model.sampler=TopKTopP", "--model.sampler.k=4"]
    fit = run("fit", *words, PLAIN)
    assert fit.code == 0, fit.err
    test = run("test", *words, "--ckpt_path=last")
    assert test.code == 0, test.err


def test_real_pairs_are_measured_registered_and_by_group(run, after_training):
    folder = after_training
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        hr = rng.integers(0, 255, (96, 128), dtype=np.uint8)
        for kind, picture in (("HR", hr), ("LR", hr[::4, ::4])):
            (folder / "set" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / "set" / kind / f"{name}.png")
    (folder / "set" / "labels.csv").write_text("name,blur,scene\na,motion,street\nb,optical,street\nc,optical,park\n")
    real = ["-c", "data/flir_iisr.yaml", "--data.root=set", "--data.split=[0,0,1]", "--ckpt_path=last"]
    words = ["-c", "real_iisr", *real[:2], *MODEL, *real[2:], "--data.num_workers=0"]
    test = run("test", *words)
    assert test.code == 0, test.err
    (results,) = json.loads((newest(folder, "test") / "metrics.json").read_text())["results"].values()
    assert {"psnr_registered", "psnr_unregistered"} <= set(results["RealIISR"]["all"])
    predict = run("predict", *words)
    assert predict.code == 0, predict.err
    with Image.open(newest(folder, "predict") / "predictions" / "a.png") as image:
        assert image.size == (128, 96)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--data.crop=8", "data.crop 12"),
        ("--trainer.max_steps=2", "nothing would be left for the transformer"),
        ("--trainer.callbacks.steps=0", "model.tokenizer_weights"),
        ("--model.tokenizer_weights=absent.pth", "VQVAE.pth"),
        ("--model.overlap=12", "less than a tile's 12"),
        ("--model.negatives=2", "share"),
        ("--model.encoder.widths=[8]", "as many levels"),
        ("--model.order_weight=-1", "model.order_weight"),
        ("--model.tokenizer.scales=[2,12]", "rise from 1"),
    ],
)
def test_a_mistake_gets_one_sentence(run, folder, word, said):
    outcome = run("fit", *SMALL, word)
    assert outcome.code == 2 and said in outcome.err
    assert outcome.err.strip().count("\n") == 0
    assert not list(folder.glob("runs/real_iisr/*")), "nothing is left of it"


def test_a_tokenizer_of_other_scales_is_refused(run, folder):
    alone = run(
        "fit", *TOKENIZER, "--trainer.callbacks=[]", "--trainer.max_steps=1", "--model.tokenizer.scales=[1,2,12]"
    )
    assert alone.code == 0, alone.err
    weights = newest(folder, "fit", "real_iisr_tokenizer") / "checkpoints" / "last.ckpt"
    outcome = run("fit", *SMALL, f"--model.tokenizer_weights={weights}")
    assert outcome.code == 2
    assert "[1, 2, 12]" in outcome.err and "[1, 3, 6, 12]" in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_transformer_of_other_scales_is_refused(run, after_training):
    outcome = run("test", *SMALL, "--model.tokenizer.scales=[1,4,6,12]", "--ckpt_path=last")
    assert outcome.code == 2
    assert "[1, 3, 6, 12]" in outcome.err and "[1, 4, 6, 12]" in outcome.err
