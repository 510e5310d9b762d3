"""The verb `merge`: a checkpoint with LoRA becomes one that needs no files of the model it was trained from."""

import shutil
from pathlib import Path

import pytest
import small_turbo
import torch

from lit_thermal.methods.three_m_ti.module import ThreeMTI
from lit_thermal.weights import load_model, save_model
from lit_thermal.weights.checkpoint import build_model
from lit_thermal.weights.convert.three_m_ti import published

BATCH = {"lr": torch.rand(2, 1, 8, 6), "guide": torch.rand(2, 3, 64, 48), "name": ["a", "b"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return small_turbo.write(tmp_path_factory.mktemp("models") / "turbo")


@pytest.fixture
def turbo(made, folder) -> Path:
    return Path(shutil.copytree(made, folder / "turbo"))


@pytest.fixture
def trained(turbo, folder) -> ThreeMTI:
    """A model whose LoRA adds something, and its checkpoint `lora.ckpt`."""
    return checkpoint(folder / "lora.ckpt", "turbo")


def checkpoint(path: Path, turbo: str, train: str = "lora_and_unet", **changes) -> ThreeMTI:
    config = published(turbo, 4, 2)
    config["init_args"] |= {"train": train, **changes}
    torch.manual_seed(4)
    model = build_model(config)
    for name, p in model.named_parameters():
        if ".lora_B." in name or "skip_conv" in name:
            torch.nn.init.normal_(p, std=0.2)
    save_model(model, path)
    return model.eval()


def restored(model: ThreeMTI) -> torch.Tensor:
    with torch.no_grad():
        return model.restore(BATCH)


@pytest.mark.parametrize("train", ["lora", "lora_and_unet"])
@pytest.mark.parametrize("attention", ["CrossModalSelfAttention", "FeatureConcat"])
def test_the_same_output_without_the_folder(train, attention, turbo, run, folder):
    family = "lit_thermal.blocks.cross_modal_attention"
    model = checkpoint(folder / "lora.ckpt", "turbo", train, attention=f"{family}.{attention}")
    expected = restored(model)
    done = run("merge", "lora.ckpt", "whole.ckpt")
    assert (done.code, done.err) == (0, "")
    shutil.rmtree(turbo / "unet")
    shutil.rmtree(turbo / "vae")
    whole = load_model(folder / "whole.ckpt")
    assert isinstance(whole, ThreeMTI) and not whole.training
    assert (restored(whole) - expected).abs().max() < 1e-4
    names = whole.state_dict().keys()
    assert names == dict(whole.named_parameters()).keys() and not any("lora" in name for name in names)
    assert all(p.requires_grad for p in whole.parameters()), "it can be trained, all of it"
    assert not {"unet_rank", "vae_rank"} & whole.config["init_args"].keys()
    # LoRA and skips made a difference to begin with.
    plain = {n: torch.zeros_like(v) if "lora_B" in n else v for n, v in model.state_dict().items()}
    model.load_state_dict(plain)
    assert (restored(model) - expected).abs().max() > 1e-2


def test_it_tells_what_to_do_with_it(trained, run, folder):
    lines = run("merge", "lora.ckpt", "whole.ckpt").out.splitlines()
    count = len(load_model(folder / "whole.ckpt").state_dict())
    assert lines[0].startswith(f"lora.ckpt: {count} entries, ") and lines[0].endswith(", no LoRA -> whole.ckpt")
    words = "--model.train=all --model.latent=sample --model.timestep=199 --model.upsampling=two_step"
    assert lines[1].endswith(f"lit_thermal predict -c EXPERIMENT {words} --ckpt_path whole.ckpt")
    assert lines[2].endswith("text_encoder/ and tokenizer/ in turbo, no other files of the base")
    learned = {"class_path": "lit_thermal.blocks.prompt.LearnedPrompt"}
    checkpoint(folder / "learned.ckpt", "turbo", prompt=learned)
    assert len(run("merge", "learned.ckpt", "other.ckpt").out.splitlines()) == 2


def test_a_folder_that_was_moved(trained, turbo, run, folder):
    expected = restored(trained)
    turbo.rename(folder / "moved")
    done = run("merge", "lora.ckpt", "whole.ckpt")
    assert done.code == 2 and "there is no folder turbo with SD-Turbo" in done.err
    assert done.err.strip().endswith("give that folder by --base") and not (folder / "whole.ckpt").exists()
    done = run("merge", "lora.ckpt", "whole.ckpt", "--base", "moved")
    assert done.code == 0, done.err
    assert "tokenizer/ in moved" in done.out
    assert (restored(load_model(folder / "whole.ckpt")) - expected).abs().max() < 1e-4


def test_what_is_there_is_not_lost(trained, run, folder):
    (folder / "ours.ckpt").write_text("mine")
    done = run("merge", "lora.ckpt", "ours.ckpt")
    assert (done.code, (folder / "ours.ckpt").read_text()) == (2, "mine")
    assert "OUTPUT ours.ckpt exists: choose another name or give --overwrite" in done.err
    assert run("merge", "lora.ckpt", "ours.ckpt", "--overwrite").code == 0
    load_model(folder / "ours.ckpt")


def test_nothing_to_merge(trained, run, folder):
    assert run("merge", "lora.ckpt", "whole.ckpt").code == 0
    done = run("merge", "whole.ckpt", "again.ckpt")
    assert done.code == 2 and "whole.ckpt holds no LoRA to merge" in done.err

    small = "lit_thermal.networks.latent_diffusion.SmallLatentDiffusion"
    content = torch.load(folder / "lora.ckpt", weights_only=True)
    content["lit_thermal"]["model"]["init_args"]["base"] = {"class_path": small, "init_args": small_turbo.SIZES}
    torch.save(content, folder / "random.ckpt")
    done = run("merge", "random.ckpt", "again.ckpt")
    assert done.code == 2 and "names no base model (model.base.folder)" in done.err

    torch.save({"state_dict": {"x.lora_A.default.weight": torch.zeros(1)}}, folder / "bare.ckpt")
    done = run("merge", "bare.ckpt", "again.ckpt")
    assert done.code == 2 and "bare.ckpt has no record of its model" in done.err
    assert not (folder / "again.ckpt").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: CHECKPOINT, OUTPUT"),
        (["none.ckpt", "b.ckpt"], "there is no checkpoint none.ckpt"),
        (["toy.yaml", "b.ckpt"], "toy.yaml cannot be read as a checkpoint"),
        (["toy.yaml", "no/b.ckpt"], "there is no folder no; make it first"),
        (["toy.yaml", "."], "OUTPUT . is a folder: name a file in it"),
        (["toy.yaml", "./toy.yaml", "--overwrite"], "is CHECKPOINT itself"),
        (["toy.yaml", "b.ckpt", "--bse=x"], "no option --bse; did you mean --base?"),
    ],
)
def test_mistakes_in_one_line(words, said, run, folder):
    done = run("merge", *words)
    assert done.code == 2 and done.err.startswith("error: ") and done.err.count("\n") == 1
    assert said in done.err
    assert [p.name for p in folder.iterdir()] == ["toy.yaml"]


def test_help(run):
    with pytest.raises(SystemExit) as left:
        run("merge", "--help")
    assert left.value.code == 0
