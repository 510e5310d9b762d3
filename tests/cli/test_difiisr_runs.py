"""DifIISR from the command line: training in both phases, test, prediction, resuming, distillation, mistakes."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

SMALL = [
    "-c",
    "difiisr",
    "--data.train_images=8",
    "--data.val_images=2",
    "--data.test_images=2",
    "--data.size=64",
    "--data.crop=8",
    "--data.batch_size=4",
    "--data.samples_per_epoch=8",
    "--data.num_workers=0",
    "--model.unet.width=16",
    "--model.unet.res_blocks=[1,1]",
    "--model.unet.swin_width=32",
    "--model.unet.head_width=16",
    "--model.guidance.start=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.max_steps=4",
]


PLAIN, AVERAGED = "--trainer.callbacks=[]", "--trainer.callbacks=[EMA]"
"""No pictures and curves where the weights are all that is looked at."""


def newest(folder, verb, experiment="difiisr"):
    return sorted((folder / "runs" / experiment).glob(f"*-{verb}*"))[-1]


def weights(folder, experiment):
    (path,) = folder.glob(f"runs/{experiment}/*/checkpoints/last.ckpt")
    return torch.load(path, weights_only=True)


def test_train_test_predict(run, folder, caplog):
    fit = run("fit", *SMALL)
    assert fit.code == 0, fit.err
    assert "step 2: guidance begins" in caplog.text
    kept = newest(folder, "fit")
    assert {"curves.png", "curves.csv", "config.yaml", "checkpoints", "samples"} <= {p.name for p in kept.iterdir()}
    with (kept / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4"]
    assert {"train/denoising", "train/guided_spectrum", "train/guided_thermal_features"} <= set(rows[0])

    test = run("test", *SMALL, "--ckpt_path", "best")
    assert test.code == 0, test.err
    measured = newest(folder, "test")
    record = json.loads((measured / "metrics.json").read_text())
    (results,) = record["results"].values()
    names = list(results)
    assert names[0] == "DifIISR" and any("mean of 4" in name for name in names)
    assert all({"psnr", "ssim", "spectrum_distance"} <= set(result["all"]) for result in results.values())
    (against,) = record["against_baselines"].values()
    assert "DifIISR" not in against["strongest"], "another way of ours is no baseline"
    assert len(list((measured / "chains").rglob("*.png"))) == 2

    predict = run("predict", *SMALL, "--ckpt_path", "best")
    assert predict.code == 0, predict.err
    pictures = sorted((newest(folder, "predict") / "predictions").iterdir())
    assert len(pictures) == 2
    with Image.open(pictures[0]) as image:
        assert image.size == (64, 64) and np.asarray(image).dtype == np.uint16


@pytest.mark.parametrize("objective", ["Denoising", pytest.param("Distillation", marks=pytest.mark.slow)])
def test_a_resumed_training_ends_at_the_same_weights(run, folder, objective):
    common = ["fit", *SMALL, AVERAGED, "--model.lr_scheduler.T_max=6", f"--model.objective={objective}"]
    assert run(*common, "--experiment=whole").code == 0
    assert run(*common, "--experiment=parts", "--trainer.max_steps=2").code == 0
    resumed = run(*common, "--experiment=parts", "--ckpt_path=last")
    assert resumed.code == 0, resumed.err
    whole, parts = weights(folder, "whole"), weights(folder, "parts")
    assert all(torch.equal(parts["state_dict"][name], value) for name, value in whole["state_dict"].items())
    assert whole["objective"].keys() == parts["objective"].keys()
    assert all(torch.equal(parts["objective"][name], value) for name, value in whole["objective"].items())
    assert bool(whole["objective"]) == (objective == "Distillation")


def test_without_strength_a_run_is_the_unguided_run(run, folder):
    assert run("fit", *SMALL, PLAIN, "--experiment=still", "--model.guidance.strength=0").code == 0
    plain = [word for word in SMALL[2:] if not word.startswith("--model.guidance")]
    row = run("fit", "-c", "difiisr", "-c", "rows/difiisr/unguided.yaml", *plain, PLAIN, "--experiment=plain")
    assert row.code == 0, row.err
    still, unguided = weights(folder, "still"), weights(folder, "plain")
    assert still["state_dict"].keys() == unguided["state_dict"].keys()
    assert all(torch.equal(unguided["state_dict"][name], value) for name, value in still["state_dict"].items())


@pytest.mark.slow
def test_a_student_of_a_trained_model(run, folder):
    assert run("fit", *SMALL, PLAIN).code == 0
    first = newest(folder, "fit") / "checkpoints" / "last.ckpt"
    taught = run("fit", *SMALL, PLAIN, "--experiment=student", "--model.objective=Distillation", "--from", str(first))
    assert taught.code == 0, taught.err
    before = torch.load(first, weights_only=True)["state_dict"]
    teacher = weights(folder, "student")["objective"]
    assert teacher and all(torch.equal(before[f"network.{name}"], value) for name, value in teacher.items())


@pytest.mark.slow
def test_folders_of_images(run, folder):
    for i in range(6):
        pixels = np.random.default_rng(i).integers(0, 255, (70 + i, 90, 1), dtype=np.uint8).repeat(3, 2)
        (folder / "set" / "hr").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "set" / "hr" / f"{i}.png")
    options = [word for word in SMALL[2:] if "_images=" not in word and "data.size" not in word]
    words = [
        "-c",
        "difiisr",
        "-c",
        "data/image_folder.yaml",
        *options,
        "--data.root=set",
        "--data.split=[0.5,0.25,0.25]",
    ]
    fit = run("fit", *words, AVERAGED, "--data.degradation=RealESRGAN")
    assert fit.code == 0, fit.err
    test = run("test", *words, "--ckpt_path=best", "--data.degradation=PillowBicubic")
    assert test.code == 0, test.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--model.sampling_guidance=LossGradientGuidance", "--model.sampling_guidance.terms=[SpectrumTerm]"],
            "neither",
        ),
        (["--model.sampler=Ancestral", "--model.sampler.steps=16"], "16 steps cannot be taken from a schedule of 15"),
        (["--model.guidance.terms=[VGGTerm]"], "vgg16"),
        (["--model.guidance.terms=[SpectrumTermm]"], "SpectrumTerm"),
        (["--model.first_stage=VQFirstStage", "--model.first_stage.weights=nowhere.pth"], "autoencoder_vq_f4.pth"),
        (["--model.prediction=x1"], "x0"),
    ],
)
def test_mistakes_are_reported_in_a_sentence(run, folder, words, said, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(folder))
    outcome = run("fit", *SMALL, *words)
    assert outcome.code == 2 and said in outcome.err, outcome.err
    assert outcome.err.strip().count("\n") == 0, outcome.err
    assert "Traceback" not in outcome.err
