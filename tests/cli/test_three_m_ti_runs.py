"""3M-TI from the command line: training, test, prediction, resuming, LoRA on a small SD-Turbo, merging, mistakes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_turbo
import torch
from PIL import Image

SMALL = [
    "--data.train_images=8",
    "--data.val_images=2",
    "--data.test_images=2",
    "--data.size=64",
    "--data.crop=8",
    "--data.batch_size=4",
    "--data.samples_per_epoch=8",
    "--data.num_workers=0",
    "--trainer.enable_progress_bar=false",
    "--trainer.max_steps=4",
]
SCRATCH = [
    "-c",
    "3m_ti",
    "--model.base.unet_widths=[16,16]",
    "--model.base.vae_widths=[8,8,8,8]",
    "--model.base.text_dim=16",
    "--model.base.head_dim=8",
    "--model.base.groups=4",
    *SMALL,
]
LORA = """
model:
  init_args:
    base: {class_path: SDTurbo, init_args: {folder: turbo}}
    skip: {class_path: ZeroSkip, init_args: {init: 1.0e-3}}
    train: lora
    unet_rank: 4
    vae_rank: 2
"""
TURBO_TEXT = ["--model.base.text_dim=32", "--model.prompt=FixedPrompt", "--model.prompt.encoder=turbo"]
ON_TURBO = ["-c", "3m_ti", "-c", "lora.yaml", *SMALL]


PLAIN, AVERAGED = "--trainer.callbacks=[]", "--trainer.callbacks=[EMA]"
"""No pictures and curves where the weights are all that is looked at."""


def newest(folder, verb, experiment="3m_ti"):
    return sorted((folder / "runs" / experiment).glob(f"*-{verb}*"))[-1]


def weights(folder, experiment="3m_ti"):
    (path,) = folder.glob(f"runs/{experiment}/*/checkpoints/last.ckpt")
    return torch.load(path, weights_only=True)


def pictures(folder):
    files = sorted((newest(folder, "predict") / "predictions").iterdir())
    return [np.asarray(Image.open(file)).astype(int) for file in files]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return small_turbo.write(tmp_path_factory.mktemp("models") / "turbo")


@pytest.fixture
def turbo(made, folder) -> Path:
    (folder / "lora.yaml").write_text(LORA)
    return Path(shutil.copytree(made, folder / "turbo"))


@pytest.fixture
def offline(monkeypatch) -> None:
    def unreachable(*_: object) -> None:
        raise ConnectionError("the network is unreachable")

    monkeypatch.setattr("huggingface_hub.get_session", unreachable)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)


def test_train_test_predict(run, folder):
    fit = run("fit", *SCRATCH)
    assert fit.code == 0, fit.err
    kept = newest(folder, "fit")
    assert {"curves.png", "curves.csv", "config.yaml", "checkpoints", "samples"} <= {p.name for p in kept.iterdir()}

    test = run("test", *SCRATCH, "--ckpt_path", "best")
    assert test.code == 0, test.err
    results = json.loads((newest(folder, "test") / "metrics.json").read_text())["results"]
    assert list(results)[:1] == ["simulated"] and "simulated_shuffled_guide" in results
    assert all({"psnr", "ssim"} <= set(result["ThreeMTI"]["all"]) for result in results.values())

    predict = run("predict", *SCRATCH, "--ckpt_path", "best")
    assert predict.code == 0, predict.err
    assert [picture.shape for picture in pictures(folder)] == [(64, 64)] * 2


def test_a_resumed_training_ends_at_the_same_weights(run, folder):
    common = ["fit", *SCRATCH, AVERAGED, "--model.lr_scheduler.T_max=6", "--data.misalignment=Combined"]
    assert run(*common, "--experiment=whole", "--trainer.max_steps=6").code == 0
    assert run(*common, "--experiment=parts", "--trainer.max_steps=2").code == 0
    resumed = run(*common, "--experiment=parts", "--trainer.max_steps=6", "--ckpt_path=last")
    assert resumed.code == 0, resumed.err
    whole, parts = weights(folder, "whole")["state_dict"], weights(folder, "parts")["state_dict"]
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


@pytest.mark.parametrize("row", ["without_reference", "without_prompt", "feature_concat"])
def test_rows_of_the_ablation_run(run, row):
    words = ["-c", "3m_ti", "-c", f"rows/3m_ti/{row}.yaml", *SCRATCH[2:], PLAIN, "--trainer.max_steps=2"]
    fit = run("fit", *words)
    assert fit.code == 0, fit.err
    test = run("test", *words, "--ckpt_path=best")
    assert test.code == 0, test.err


def test_lora_is_trained_resumed_used_and_merged(run, folder, turbo):
    common = ["fit", *ON_TURBO, AVERAGED, "--model.lr_scheduler.T_max=6", "--model.optimizer.lr=1e-2"]
    assert run(*common, "--experiment=whole", "--trainer.max_steps=6").code == 0
    assert run(*common, "--trainer.max_steps=2").code == 0
    resumed = run(*common, "--trainer.max_steps=6", "--ckpt_path=last")
    assert resumed.code == 0, resumed.err
    whole, parts = weights(folder, "whole"), weights(folder)
    assert all(torch.equal(parts["state_dict"][name], value) for name, value in whole["state_dict"].items())
    names = list(whole["state_dict"])
    assert names and all("lora" in name or "skip" in name or name.startswith("prompt.") for name in names)
    assert all(name.removeprefix("module.") in names for name in whole["current_model_state"])

    predict = run("predict", *ON_TURBO, "--ckpt_path=best")
    assert predict.code == 0, predict.err
    expected = pictures(folder)
    merged = run("merge", str(newest(folder, "fit") / "checkpoints" / "best.ckpt"), "whole.ckpt")
    assert merged.code == 0, merged.err
    shutil.rmtree(turbo)
    sizes = [f"--model.base.{name}={value}" for name, value in small_turbo.SIZES.items()]
    words = ["-c", "3m_ti", *SMALL, "--model.base=SmallLatentDiffusion", *sizes]
    predict = run("predict", *words, "--ckpt_path=whole.ckpt")
    assert predict.code == 0, predict.err
    for picture, other in zip(expected, pictures(folder), strict=True):
        assert abs(picture - other).max() <= 7, "of 65535"


def test_lora_of_another_rank(run, folder, turbo):
    assert run("fit", *ON_TURBO, PLAIN, "--trainer.max_steps=2").code == 0
    done = run("predict", *ON_TURBO, "--model.unet_rank=8", "--ckpt_path=best")
    assert done.code == 2 and done.err.strip().count("\n") == 0, done.err
    assert "does not fit the model" in done.err and "it was made with model.unet_rank 4 (here 8)" in done.err


def test_prompts_of_a_file(run, folder, turbo):
    (folder / "prompts.txt").write_text(
        "".join(f"{split}_standard_{i:04d}.png: road\n" for split in ("train", "val", "test") for i in range(8))
    )
    words = [*ON_TURBO, "--model.prompt=FilePrompts", "--model.prompt.encoder=turbo", "--model.prompt.file=prompts.txt"]
    fit = run("fit", *words, PLAIN, "--trainer.max_steps=2")
    assert fit.code == 0, fit.err
    assert not any(name.startswith("prompt.") for name in weights(folder)["state_dict"])
    (folder / "prompts.txt").write_text("test_standard_0000.png: car, street\n")
    done = run("predict", *words, "--ckpt_path=best")
    assert done.code == 2 and done.err.strip().count("\n") == 0, done.err
    assert "the prompt file prompts.txt has no line for the image 'test_standard_0001'" in done.err
    assert "model.prompt.allow_missing" in done.err
    assert run("predict", *words, "--ckpt_path=best", "--model.prompt.allow_missing=true").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model.base=SDTurbo", "--model.train=lora"], "unet/ of stabilityai/sd-turbo could not be fetched from the"),
        (["--model.base=SDTurbo", "--model.base.folder=my/own/turbo"], "there is no folder my/own/turbo with SD-Turbo"),
        (
            [*TURBO_TEXT, "--model.prompt=FilePrompts", "--model.prompt.file=none.txt"],
            "none.txt does not exist",
        ),
        (["--model.prompt=FixedPrompt"], "text_encoder/ and tokenizer/ of stabilityai/sd-turbo where there is a"),
        (["--model.train=loar"], "lora_and_unet"),
        (["--model.train=lora"], "random weights of SmallLatentDiffusion could not be restored"),
        (["--model.attention=CrossAttentoin"], "CrossAttentoin"),
        (["--model.timestep=1000"], "model.timestep is 1000"),
    ],
)
def test_mistakes_are_reported_in_a_sentence(words, said, run, turbo, offline):
    outcome = run("fit", *SCRATCH, *words)
    assert outcome.code == 2 and said in outcome.err, outcome.err
    assert outcome.err.strip().count("\n") == 0, outcome.err
    assert "Traceback" not in outcome.err
    if "SDTurbo" in words[0]:
        assert "hf download stabilityai/sd-turbo" in outcome.err and "by model.base.folder" in outcome.err


def test_sd_turbo_is_wanted_by_the_papers_experiment(run, offline, folder):
    done = run("fit", "-c", "paper/3m_ti")
    assert done.code == 2 and done.err.strip().count("\n") == 0, done.err
    assert "there is no folder stabilityai/sd-turbo here" in done.err and "hf download" in done.err


@pytest.mark.parametrize("content", [b"", b"II*\x00"])
def test_a_guide_of_no_size(run, folder, content):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind, side, channels in (("hr", 64, ()), ("lr", 8, ()), ("guide", 64, (3,))):
            (folder / "set" / split / kind).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 255, (side, side, *channels), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "set" / split / kind / f"{i}.png")
    (folder / "set/train/guide/2.png").write_bytes(content)
    words = [word for word in SCRATCH[2:] if "_images=" not in word and "data.size" not in word]
    done = run("fit", "-c", "3m_ti", "-c", "data/guided_folder.yaml", *words, "--data.root=set")
    assert done.code == 2 and done.err.strip().count("\n") == 0, done.err
    assert "set/train/guide/2.png" in done.err
