"""CoReFusion from the command line: training, the test under all conditions, prediction, resuming, mistakes."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal.evaluation.levels import GUIDED

SIMULATED = [
    "--data.train_images=8",
    "--data.val_images=2",
    "--data.test_images=3",
    "--data.size=64",
    "--data.crop=8",
    "--data.batch_size=4",
    "--data.num_workers=0",
]
SMALL = [
    "--model.decoder_channels=[8,8,8,8,8]",
    "--trainer.enable_progress_bar=false",
    "--trainer.max_steps=4",
    "--data.samples_per_epoch=8",
]


PLAIN, AVERAGED = "--trainer.callbacks=[]", "--trainer.callbacks=[EMA]"
"""No pictures and curves where the weights are all that is looked at."""


def newest(folder, verb, experiment="corefusion"):
    return sorted((folder / "runs" / experiment).glob(f"*-{verb}*"))[-1]


def test_train_test_predict(run, folder):
    fit = run("fit", "-c", "corefusion", *SMALL, *SIMULATED)
    assert fit.code == 0, fit.err
    kept = newest(folder, "fit")
    assert {"curves.png", "curves.csv", "config.yaml", "checkpoints", "samples"} <= {p.name for p in kept.iterdir()}
    with (kept / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert {"train/pixel_loss", "train/ssim_loss", "train/psnr_loss", "train/psnr"} <= set(rows[0])

    words = [*SMALL, *SIMULATED, "--trainer.callbacks=[EMA, RobustnessCurve]"]
    test = run("test", "-c", "corefusion", "-c", "test/robustness.yaml", *words, "--ckpt_path", "best")
    assert test.code == 0, test.err
    measured = newest(folder, "test")
    record = json.loads((measured / "metrics.json").read_text())
    assert {"simulated", "simulated_thermal_only", "simulated_guide_only", "simulated_shuffled_guide"} <= set(
        record["results"]
    )
    assert {"trainer", "notebook"} <= set(record["protocols"]["simulated"]["CoReFusion"])
    assert "bilinear" in record["results"]["simulated"] and "bilinear" not in record["results"]["simulated_guide_only"]
    with (measured / "robustness.csv").open() as file:
        curve = list(csv.DictReader(file))
    moved = [row for row in curve if row["varied"] == "displacement of the guide"]
    for of_filters in (False, True):
        pixels = [row["at"] for row in moved if row["condition"].startswith(GUIDED) == of_filters]
        assert sorted(map(int, pixels)) == sorted([0, 1, 2, 4, 8, 16, 32] * (4 if of_filters else 1))
    assert (measured / "robustness.png").is_file()

    predict = run("predict", "-c", "corefusion", *SMALL, *SIMULATED, "--ckpt_path", "best")
    assert predict.code == 0, predict.err
    pictures = sorted((newest(folder, "predict") / "predictions").iterdir())
    assert len(pictures) == 3
    with Image.open(pictures[0]) as image:
        assert image.size == (64, 64) and np.asarray(image).dtype == np.uint16


@pytest.mark.slow
def test_a_run_that_drops_cameras_resumes_to_the_same_weights(run, folder):
    words = ["--model.lr_scheduler.T_max=6", "--model.drop_guide=0.4"]
    common = ["fit", "-c", "corefusion", *SMALL, *SIMULATED, AVERAGED, *words]
    assert run(*common, "--experiment=whole", "--trainer.max_steps=6").code == 0
    assert run(*common, "--experiment=parts", "--trainer.max_steps=3").code == 0
    resumed = run(*common, "--experiment=parts", "--trainer.max_steps=6", "--ckpt_path=last")
    assert resumed.code == 0, resumed.err
    (whole,), (parts,) = (list(folder.glob(f"runs/{name}/*/checkpoints/last.ckpt")) for name in ("whole", "parts"))
    expected, found = (torch.load(path, weights_only=True)["state_dict"] for path in (whole, parts))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_pretraining_by_contrast_then_training(run, folder):
    words = [*SMALL, *SIMULATED, PLAIN]
    pretrained = run("fit", "-c", "corefusion", "-c", "phase/contrastive_pretraining.yaml", *words)
    assert pretrained.code == 0, pretrained.err
    first = newest(folder, "fit", "corefusion-pretraining") / "checkpoints" / "last.ckpt"
    trained = run("fit", "-c", "corefusion", *words, "--from", str(first), "--model.fusion=GatedFusion")
    assert trained.code == 0, trained.err
    assert "kept" in trained.out and "network.fusions" in trained.out


def picture(path, size, mode="L", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    if mode == "I;16":
        Image.fromarray(values[..., 0].astype(np.uint16) * 200).save(path)
    else:
        Image.fromarray(values if mode == "RGB" else values[..., 0]).save(path)


@pytest.fixture
def pairs(folder):
    root = folder / "pairs"
    for split, names in {"train": "abcd", "val": "e", "test": "f"}.items():
        for name in names:
            picture(root / split / "hr" / f"{name}.png", (128, 96))
            picture(root / split / "lr" / f"{name}.png", (16, 12))
            picture(root / split / "guide" / f"{name}.png", (128, 96), "RGB")
    return root


FOLDER = ["--data.root=pairs", "--data.crop=8", "--data.batch_size=2", "--data.num_workers=0"]


def on_pairs(run, verb, *words):
    return run(verb, "-c", "corefusion", "-c", "data/guided_folder.yaml", *SMALL, *FOLDER, *words)


def test_pairs_of_ones_own_and_odd_sizes(run, folder, pairs):
    assert on_pairs(run, "fit", PLAIN, "--data.test_conditions=[Complete]").code == 0
    test = on_pairs(run, "test", "--data.test_conditions=[Complete]", "--ckpt_path=last")
    assert test.code == 0, test.err
    # 96 is a multiple of 32 and 104 is not.
    picture(pairs / "predict" / "lr" / "g.png", (16, 13))
    picture(pairs / "predict" / "guide" / "g.png", (128, 104), "RGB")
    predict = on_pairs(run, "predict", "--ckpt_path=last")
    assert predict.code == 0, predict.err
    with Image.open(newest(folder, "predict") / "predictions" / "g.png") as image:
        assert image.size == (128, 104)


def field_of_view(root):
    picture(root / "train" / "guide" / "b.png", (128, 128), "RGB")


def unequal_lists(root):
    (root / "train" / "guide" / "b.png").unlink()
    picture(root / "train" / "lr" / "z.png", (16, 12))


def colour(root):
    picture(root / "train" / "hr" / "a.png", (128, 96), "RGB")


def depth(root):
    picture(root / "train" / "hr" / "c.png", (128, 96), "I;16")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (field_of_view, ("field", "b.png")),
        (unequal_lists, ("b", "z", "guide")),
        (colour, ("a.png", "in colour")),
        (depth, ("c", "16", "8")),
    ],
)
def test_bad_pairs_are_one_sentence(run, pairs, spoil, words):
    spoil(pairs)
    outcome = on_pairs(run, "fit")
    assert outcome.code == 2
    lines = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in outcome.err
    assert all(word in lines[0] for word in words), lines[0]


def test_an_all_black_image_is_valid(run, folder, pairs):
    for kind, size in {"hr": (128, 96), "lr": (16, 12)}.items():
        Image.new("L", size).save(pairs / "test" / kind / "f.png")
    outcome = on_pairs(run, "test", "--data.test_conditions=[Complete]")
    assert outcome.code == 0, outcome.err
    assert "black" in outcome.err
    record = json.loads((newest(folder, "test") / "metrics.json").read_text())
    methods = record["results"]["pairs"].values()
    assert all(np.isfinite(value) for method in methods for value in method["all"].values())
    protocols = record["protocols"]["pairs"].values()
    assert all(np.isfinite(v) for method in protocols for values in method.values() for v in values.values())
