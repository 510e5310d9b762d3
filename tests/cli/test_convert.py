"""The verb `convert`: from a file of the released code to a checkpoint that the other verbs take."""

import json
from pathlib import Path

import pytest
import small_turbo
import torch
import yaml
from PIL import Image

from lit_thermal.methods.corefusion.module import CoReFusion
from lit_thermal.weights import load_model
from lit_thermal.weights.checkpoint import build_model
from lit_thermal.weights.convert import difiisr, real_iisr
from lit_thermal.weights.convert.corefusion import released_name
from lit_thermal.weights.convert.difiisr_unet import released_layout
from lit_thermal.weights.convert.real_iisr_layout import released_layout as released_layout_of_real_iisr
from lit_thermal.weights.convert.three_m_ti import published, released_names

CONFIG = """
experiment: converted
model:
  class_path: CoReFusion
  init_args:
    upsampling: nearest
    guide_encoder: {class_path: TimmEncoder, init_args: {pretrained: true}}
    thermal_encoder: {class_path: TimmEncoder, init_args: {pretrained: true}}
"""
DATA = """
data:
  class_path: SimulatedPairs
  init_args: {size: 64, crop: 8, train_images: 1, val_images: 1, test_images: 2, num_workers: 0}
trainer: {accelerator: cpu, enable_progress_bar: false, enable_model_summary: false}
"""
SMALL_DIFIISR = """
model:
  class_path: DifIISR
  init_args:
    unet:
      class_path: SwinUNet
      init_args:
        width: 32
        multipliers: [1, 2]
        res_blocks: [1, 1]
        image_size: 16
        attention_sizes: [16, 8]
        swin_width: 32
        head_width: 16
    first_stage: {class_path: VQFirstStage, init_args: {channels: [32, 32, 64], layers: 1, codebook: 16}}
    guidance: Unguided
data:
  class_path: SimulatedImages
  init_args: {size: 64, crop: 8, samples_per_epoch: 4, train_images: 1, val_images: 1, test_images: 1, num_workers: 0}
trainer: {accelerator: cpu, enable_progress_bar: false, enable_model_summary: false, callbacks: []}
"""
"""Over the experiment of the paper: small networks, no files that only training needs, other data."""
SMALL_3M_TI = """
model:
  init_args: {prompt: FixedPrompt, perceptual_loss: NoPerceptualLoss, perceptual_weight: 0.0}
data:
  class_path: SimulatedPairs
  init_args: {size: 64, crop: 8, batch_size: 1, train_images: 1, val_images: 1, test_images: 1, num_workers: 0}
trainer: {accelerator: cpu, enable_progress_bar: false, enable_model_summary: false, callbacks: []}
"""
SMALL_REAL_IISR = """
model:
  init_args:
    tokenizer:
      class_path: MultiScaleVQVAE
      init_args: {width: 32, multipliers: [1, 1, 2], layers: 1, dim: 4, entries: 16, scales: [1, 2, 3, 4]}
    depth: 1
    width: 16
    heads: 2
    overlap: 2
    encoder: {class_path: ConvStackEncoder, init_args: {widths: [8, 8]}}
    structure: {init_args: {encoder: {class_path: ConvStackEncoder, init_args: {widths: [8, 8]}}}}
    order_loss: {init_args: {patch: 2}}
data:
  class_path: SimulatedImages
  init_args: {size: 32, crop: 4, batch_size: 2, train_images: 2, val_images: 1, test_images: 1, num_workers: 0}
trainer: {accelerator: cpu, precision: 32, enable_progress_bar: false, enable_model_summary: false, callbacks: []}
"""


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """What the released code would have written; `tests/weights` has its layout by the published table."""
    torch.manual_seed(0)
    return {released_name(name): value for name, value in CoReFusion().state_dict().items()}


@pytest.fixture
def reference(weights: dict[str, torch.Tensor], folder: Path) -> Path:
    torch.save(weights, folder / "reference.pth")
    return folder / "reference.pth"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without network and without pretrained weights."""

    def unreachable(*_: object) -> None:
        raise ConnectionError("the network is unreachable")

    monkeypatch.setattr("huggingface_hub.get_session", unreachable)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)


@pytest.mark.slow
def test_convert_then_test_and_predict(reference, weights, run, folder, offline):
    (folder / "small.yaml").write_text(CONFIG + DATA)
    done = run("convert", "corefusion", "reference.pth", "ours.ckpt")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "reference.pth: 522 entries, 46,314,321 parameters -> ours.ckpt"
    assert lines[1].endswith("lit_thermal test -c paper/corefusion --model.upsampling=nearest --ckpt_path ours.ckpt")
    assert sorted(p.name for p in folder.glob("*.*")) == ["ours.ckpt", "reference.pth", "small.yaml", "toy.yaml"]

    # the config asks for pretrained encoders, which are not on this machine: the checkpoint has every weight
    done = run("test", "-c", "small.yaml", "--ckpt_path", "ours.ckpt")
    assert done.code == 0, done.err
    measured = json.loads(next(folder.glob("runs/converted/*/metrics.json")).read_text())
    assert "CoReFusion" in json.dumps(measured)

    done = run("predict", "-c", "small.yaml", "--ckpt_path", "ours.ckpt")
    assert done.code == 0, done.err
    pictures = sorted(folder.glob("runs/converted/*/predictions/*.png"))
    assert [Image.open(p).size for p in pictures] == [(64, 64)] * 2

    done = run("fit", "-c", "small.yaml", "--ckpt_path", "ours.ckpt")
    assert done.code == 2 and "holds weights only" in done.err and "--from" in done.err

    # without a checkpoint there is nothing in their place
    done = run("test", "-c", "small.yaml")
    error = done.err.splitlines()[-1]
    assert done.code == 2 and error.startswith("error: the pretrained weights model.safetensors of timm/resnet34")
    assert "the network is unreachable" in error


@pytest.mark.slow
def test_the_words_that_it_tells_do(reference, run, folder, offline):
    """The experiment of the paper, here with other data."""
    (folder / "data.yaml").write_text(DATA)
    printed = run("convert", "corefusion", "reference.pth", "ours.ckpt").out.splitlines()[1]
    _, verb, *words = printed.split(":")[1].split()
    assert (verb, words[:2]) == ("test", ["-c", "paper/corefusion"])
    done = run(verb, *words[:2], "-c", "data.yaml", *words[2:], "--trainer.accelerator=cpu")
    assert done.code == 0, done.err
    assert list(folder.glob("runs/*/*/metrics.json"))


@pytest.mark.slow
def test_training_goes_on_without_the_files_that_the_weights_replace(reference, run, folder, offline):
    (folder / "data.yaml").write_text(DATA)
    printed = run("convert", "corefusion", "reference.pth", "ours.ckpt").out.splitlines()[3]
    _, verb, *words = printed.split(":")[1].split()
    assert (verb, words[-2:]) == ("fit", ["--from", "ours.ckpt"])
    done = run(verb, *words[:2], "-c", "data.yaml", *words[2:], "--trainer.fast_dev_run=1", "--data.batch_size=1")
    assert done.code == 0, done.err


@pytest.mark.slow
def test_the_option_is_in_the_checkpoint(reference, run, folder):
    assert run("convert", "corefusion", "reference.pth", "ours.ckpt", "--upsampling=bilinear").code == 0
    model = load_model(folder / "ours.ckpt")
    assert isinstance(model, CoReFusion) and model.upsampling == "bilinear" and model.network.head == "direct"


def test_what_is_there_is_not_lost(reference, run, folder):
    (folder / "ours.ckpt").write_text("mine")
    done = run("convert", "corefusion", "reference.pth", "ours.ckpt")
    assert (done.code, (folder / "ours.ckpt").read_text()) == (2, "mine")
    assert "OUTPUT ours.ckpt exists: choose another name or give --overwrite" in done.err
    assert run("convert", "corefusion", "reference.pth", "ours.ckpt", "--overwrite").code == 0
    load_model(folder / "ours.ckpt")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: METHOD"),
        (["corefuson"], "knows no method 'corefuson'; did you mean corefusion? (methods: corefusion, difiisr, 3m_ti,"),
        (["--overwrite"], "METHOD"),
        (["corefusion"], "the following arguments are required: REFERENCE, OUTPUT"),
        (["corefusion", "toy.yaml", "b.ckpt", "--upsample=nearest"], "no option --upsample; did you mean --upsampling"),
        (["corefusion", "toy.yaml", "b.ckpt", "--upsampling=cubic"], "invalid choice: 'cubic'"),
        (["corefusion", "none.pth", "b.ckpt"], "none.pth is not a file"),
        (["corefusion", "toy.yaml", "b.ckpt"], "toy.yaml cannot be read as a checkpoint"),
        (["corefusion", "toy.yaml", "no/b.ckpt"], "there is no folder no; make it first"),
        (["corefusion", "toy.yaml", "."], "OUTPUT . is a folder: name a file in it"),
        (["corefusion", "toy.yaml", "./toy.yaml", "--overwrite"], "is REFERENCE itself"),
        (["difiisr", "toy.yaml", "b.ckpt"], "the following arguments are required: --vq"),
        (["difiisr", "toy.yaml", "b.ckpt", "--vqq=none.pth", "--vq=none.pth"], "no option --vqq; did you mean --vq?"),
        (["difiisr", "none.pth", "b.ckpt", "--vq=toy.yaml"], "none.pth is not a file"),
        (["difiisr", "none.pth", "toy.yaml", "--vq=./toy.yaml", "--overwrite"], "toy.yaml is AUTOENCODER itself"),
        (["3m_ti", "toy.yaml", "b.ckpt"], "the following arguments are required: --base"),
        (["3m_ti", "none.pkl", "b.ckpt", "--base=turbo"], "none.pkl is not a file"),
        (["3m_ti", "toy.yaml", "b.ckpt", "--base=turbo"], "toy.yaml cannot be read as a checkpoint"),
        (["real_iisr", "none.pth", "b.ckpt"], "none.pth is not a file"),
        (["varsr", "toy.yaml", "b.ckpt"], "toy.yaml cannot be read as a checkpoint"),
    ],
)
def test_mistakes_in_one_line(words, said, run, folder):
    done = run("convert", *words)
    assert done.code == 2 and done.err.startswith("error: ") and done.err.count("\n") == 1
    assert said in done.err
    assert [p.name for p in folder.iterdir()] == ["toy.yaml"]


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["corefusion", "--help"],
        ["difiisr", "--help"],
        ["3m_ti", "--help"],
        ["real_iisr", "--help"],
        ["varsr", "--help"],
    ],
)
def test_help(words, run):
    with pytest.raises(SystemExit) as left:
        run("convert", *words)
    assert left.value.code == 0


@pytest.fixture
def two_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the released code would have written for a small DifIISR, which is the published one here."""
    config = difiisr.published()
    small = yaml.safe_load(SMALL_DIFIISR)["model"]["init_args"]
    for part in ("unet", "first_stage"):
        config["init_args"][part]["init_args"] |= small[part]["init_args"]
    monkeypatch.setattr(difiisr, "published", lambda: config)
    network = build_model(config).network
    unet = {name: 0.05 * torch.randn(value.shape) for name, value in released_layout(network.unet).items()}
    torch.save({"state_dict": {f"module.{name}": value for name, value in unet.items()}}, folder / "unet.pth")
    torch.save(network.first_stage.autoencoder.released_state(), folder / "vq.pth")
    (folder / "small.yaml").write_text(SMALL_DIFIISR)


def test_two_files_become_one_checkpoint_and_the_words_that_it_tells_do(two_files, run, folder):
    done = run("convert", "difiisr", "unet.pth", "ours.ckpt", "--vq", "vq.pth")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("unet.pth, vq.pth: ") and lines[0].endswith("parameters -> ours.ckpt")
    before = load_model(folder / "ours.ckpt").network
    for line, left in zip(lines[1:], ("metrics.json", "predictions", "best.ckpt"), strict=True):
        _, verb, *words = line.split(":", 1)[1].split()
        assert words[:2] == ["-c", "paper/difiisr_distilled"]
        short = ["--trainer.max_steps=1", "--trainer.val_check_interval=1"] if verb == "fit" else []
        done = run(verb, *words[:2], "-c", "small.yaml", *words[2:], *short)
        assert done.code == 0, done.err
        assert list(folder.glob(f"runs/**/{left}"))
    # training went on from these weights, the frozen part has not moved
    after = load_model(next(folder.glob("runs/**/best.ckpt"))).network
    for name, value in before.state_dict().items():
        assert (after.state_dict()[name] - value).abs().max() <= (0 if name.startswith("first_stage") else 1e-4)


@pytest.fixture
def pickle(folder: Path) -> dict:
    """A small SD-Turbo in `turbo`, and what the released code would have written for it in `theirs.pkl`."""
    small_turbo.write(folder / "turbo")
    network = build_model(published("turbo", 4, 2)).network
    unet, own = network.unet.state_dict(), network.autoencoder.state_dict()
    vae = {theirs: own[ours] for theirs, ours in released_names(network.autoencoder).items()}
    states = ({name: value + 0.05 * torch.randn(value.shape) for name, value in state.items()} for state in (unet, vae))
    content = dict(zip(("state_dict_unet", "state_dict_vae"), states, strict=True)) | {"rank_vae": 2, "optimizer": {}}
    torch.save(content, folder / "theirs.pkl")
    (folder / "small.yaml").write_text(SMALL_3M_TI)
    return content


def test_a_pickle_becomes_a_checkpoint_and_the_words_that_it_tells_do(pickle, run, folder):
    done = run("convert", "3m_ti", "theirs.pkl", "ours.ckpt", "--base", "turbo")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    saved = pickle["state_dict_unet"] | pickle["state_dict_vae"]
    parameters = sum(value.numel() for value in saved.values())
    assert lines[0] == f"theirs.pkl, turbo: {len(saved)} entries, {parameters:,} parameters -> ours.ckpt"
    assert load_model(folder / "ours.ckpt").config["init_args"]["base"]["init_args"]["folder"] == str(folder / "turbo")
    assert lines[-1].startswith("prompts: ") and "--model.prompt.file" in lines[-1]
    for line, left in zip(lines[1:-1], ("metrics.json", "predictions", "best.ckpt"), strict=True):
        _, verb, *words = line.split(":", 1)[1].split()
        assert words[:3] == ["-c", "paper/3m_ti", "--model.base.folder=turbo"]
        short = ["--trainer.max_steps=1", "--trainer.val_check_interval=1"] if verb == "fit" else []
        done = run(verb, *words[:2], "-c", "small.yaml", *words[2:], *short)
        assert done.code == 0, done.err
        assert list(folder.glob(f"runs/**/{left}"))
        if verb == "fit":
            assert all(f"  {fate:<10}{0:>8}{0:>12}" in done.out for fate in ("dropped", "new")), done.out


def test_lora_of_another_rank_names_both(pickle, run):
    assert run("convert", "3m_ti", "theirs.pkl", "ours.ckpt", "--base", "turbo").code == 0
    words = ["-c", "paper/3m_ti", "-c", "small.yaml", "--model.base.folder=turbo", "--model.train=lora_and_unet"]
    done = run("test", *words, "--ckpt_path", "ours.ckpt")
    assert done.code == 2 and done.err.count("\n") == 1
    assert "ours.ckpt does not fit the model: of its weights " in done.err and " of other shape (first: " in done.err
    assert "model.unet_rank 4 (here 16), model.vae_rank 2 (here 4)" in done.err


def test_without_the_model_that_it_was_trained_from(pickle, run, folder):
    done = run("convert", "3m_ti", "theirs.pkl", "ours.ckpt", "--base", "no/where/turbo")
    assert done.code == 2 and done.err.count("\n") == 1 and not (folder / "ours.ckpt").exists()
    assert "there is no folder no/where/turbo with SD-Turbo: download" in done.err
    assert done.err.strip().endswith("give that folder by --base")


@pytest.fixture
def autoregressor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """What the released code would have written for a small Real-IISR, which is the published one here."""
    config, small = real_iisr.published(), yaml.safe_load(SMALL_REAL_IISR)["model"]["init_args"]
    for part in ("tokenizer", "structure"):
        config["init_args"][part]["init_args"] |= small[part]["init_args"]
    names = ("depth", "width", "heads", "overlap", "encoder")
    config["init_args"] |= {name: small[name] for name in names}
    monkeypatch.setattr(real_iisr, "published", lambda: config | {"init_args": dict(config["init_args"])})
    layout = released_layout_of_real_iisr(build_model(config).network)
    state = {name: torch.zeros_like(value, device="cpu") if value.is_meta else value for name, value in layout.items()}
    torch.save({"epoch": 1, "trainer": {"var_wo_ddp": state, "var_opt": {}}}, folder / "Real-IISR.pth")
    (folder / "small.yaml").write_text(SMALL_REAL_IISR)
    return state


def test_a_real_iisr_becomes_a_checkpoint_and_the_words_that_it_tells_do(autoregressor, run, folder):
    done = run("convert", "real_iisr", "Real-IISR.pth", "ours.ckpt")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("Real-IISR.pth: ") and lines[0].endswith("parameters -> ours.ckpt")
    for line, left in zip(lines[1:], ("metrics.json", "predictions", "best.ckpt"), strict=True):
        _, verb, *words = line.split(":", 1)[1].split()
        assert words[:2] == ["-c", "paper/real_iisr_released"]
        short = ["--trainer.max_steps=1", "--trainer.val_check_interval=1"] if verb == "fit" else []
        done = run(verb, *words[:2], "-c", "small.yaml", *words[2:], *short)
        assert done.code == 0, done.err
        assert list(folder.glob(f"runs/**/{left}"))
        if verb == "fit":
            assert all(f"  {fate:<10}{0:>8}{0:>12}" in done.out for fate in ("dropped", "new")), done.out


@pytest.mark.parametrize("tokenizer", [True, False])
def test_a_varsr_is_the_start_of_a_training(tokenizer, autoregressor, run, folder):
    state = {name: value for name, value in autoregressor.items() if tokenizer or not name.startswith(("vae.", "vq."))}
    torch.save(state | {"pos_start": torch.zeros(1, 17, 16), "decoder.net.weight": torch.ones(2)}, "VARSR.pth")
    done = run("convert", "varsr", "VARSR.pth", "start.ckpt")
    assert done.code == 0 and "decoder (1)" in done.err
    asked = "--model.tokenizer_weights= " if tokenizer else "needs VQVAE.pth, by --model.tokenizer_weights"
    assert asked in done.err
    _, line = done.out.splitlines()
    _, verb, *words = line.split(":", 1)[1].split()
    assert (verb, words) == ("fit", ["-c", "paper/real_iisr_released", "--from", "start.ckpt"])
    if tokenizer:
        given = "--model.tokenizer_weights="
    else:
        vae = {n.removeprefix("vae."): v for n, v in autoregressor.items() if n.startswith("vae.")}
        torch.save({"trainer": {"vae_local": vae}}, "VQVAE.pth")
        given = "--model.tokenizer_weights=VQVAE.pth"
    short = ["--trainer.max_steps=1", "--trainer.val_check_interval=1"]
    done = run(verb, *words[:2], "-c", "small.yaml", *words[2:], *short, given)
    assert done.code == 0, done.err
    assert "network.transformer.prefix_positions (1)" in done.out and "network.structure" in done.out
    trained = torch.load(next(folder.glob("runs/**/best.ckpt")), weights_only=True)["state_dict"]
    codebook = "quantize.embedding.weight"
    torch.testing.assert_close(trained[f"network.tokenizer.{codebook}"], autoregressor[f"vae.{codebook}"])
