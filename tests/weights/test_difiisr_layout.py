"""Weights in DifIISR's released layout become a checkpoint, or one sentence says why not.

That the layouts are the published ones, and the numbers those of a plain forward pass, is tested with the networks.
"""

import copy
import inspect
from pathlib import Path

import pytest
import torch

from lit_thermal.blocks.diffusion_condition import RawLR
from lit_thermal.errors import InputError
from lit_thermal.generative.schedule import ResidualShift
from lit_thermal.methods.difiisr.module import DifIISR
from lit_thermal.networks.first_stage import VQFirstStage
from lit_thermal.networks.swin_unet import SwinUNet
from lit_thermal.weights import load_model, save_model
from lit_thermal.weights.checkpoint import build_model
from lit_thermal.weights.convert import difiisr
from lit_thermal.weights.convert.difiisr_unet import released_layout

PUBLISHED = difiisr.published()
TRAINING = {"also", "objective", "optimizer", "lr_scheduler"}
"""What only training or a second way to restore reads."""
SMALL_UNET = {
    "width": 32,
    "multipliers": [1, 2],
    "res_blocks": [1, 1],
    "image_size": 16,
    "attention_sizes": [16, 8],
    "swin_width": 32,
    "head_width": 16,
}
SMALL_VQ = {"channels": [32, 32, 64], "layers": 1, "codebook": 16}
Weights = dict[str, torch.Tensor]


def small() -> dict:
    """Return the published config with small networks."""
    config = copy.deepcopy(PUBLISHED)
    config["init_args"]["unet"]["init_args"] |= SMALL_UNET
    config["init_args"]["first_stage"]["init_args"] |= SMALL_VQ
    return config


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(difiisr, "published", small)


@pytest.fixture(scope="module")
def weights() -> tuple[Weights, Weights]:
    """Random values in the layout of the two files."""
    network = build_model(small()).network
    generator = torch.Generator().manual_seed(0)

    def fill(value: torch.Tensor) -> torch.Tensor:
        if not value.is_floating_point():
            return torch.zeros(value.shape, dtype=value.dtype)
        return 0.1 * torch.randn(value.shape, generator=generator)

    layouts = released_layout(network.unet), network.first_stage.autoencoder.released_state()
    unet, vq = ({name: fill(value) for name, value in layout.items()} for layout in layouts)
    return unet, vq


@pytest.fixture
def files(weights: tuple[Weights, Weights], tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "unet.pth", tmp_path / "vq.pth"
    for state, path in zip(weights, paths, strict=True):
        torch.save(state, path)
    return paths


def contains(model, weights) -> bool:
    """Whether a model has the values of both files, each at its place."""
    assert isinstance(model, DifIISR) and isinstance(model.network.first_stage, VQFirstStage)
    unet, vq = model.network.unet.state_dict(), model.network.first_stage.autoencoder.released_state()
    parameters = {name for name in weights[0] if not name.endswith(("relative_position_index", "attn_mask"))}
    assert unet.keys() == parameters and vq.keys() == weights[1].keys()
    return all(torch.equal(unet[n], weights[0][n]) for n in unet) and all(torch.equal(vq[n], weights[1][n]) for n in vq)


def test_each_weight_finds_its_place(files, weights, tmp_path):
    model = difiisr.convert(*files)
    assert contains(model, weights) and not model.training
    save_model(model, tmp_path / "ours.ckpt")
    loaded = load_model(tmp_path / "ours.ckpt")
    assert contains(loaded, weights)
    batch = {"lr": torch.rand(2, 1, 9, 12), "name": ["a", "b"]}
    with torch.no_grad():
        restored = loaded.restore(batch)
    assert restored.shape == (2, 1, 36, 48) and restored.isfinite().all()
    torch.testing.assert_close(restored, model.restore(batch))


def test_the_published_networks():
    init_args = PUBLISHED["init_args"]
    with torch.device("meta"):
        unet = SwinUNet(3, RawLR(**init_args["condition"]["init_args"]).channels, **init_args["unet"]["init_args"])
        first_stage = VQFirstStage(**init_args["first_stage"]["init_args"])
    assert sum(p.numel() for p in unet.parameters()) == 118_593_583
    assert sum(p.numel() for p in first_stage.parameters()) == 55_322_782
    assert len(released_layout(unet)) == 564 and len(first_stage.autoencoder.released_state()) == 205
    assert init_args["scale"] == first_stage.factor == 4
    assert unet.input_blocks[1][1].blocks[1].swin_mask == "released"


def test_nothing_that_shapes_the_result_is_left_to_a_default():
    def names(kind):
        return set(inspect.signature(kind).parameters)

    init_args = PUBLISHED["init_args"]
    assert set(init_args) == names(DifIISR) - TRAINING
    for key, kind in (("first_stage", VQFirstStage), ("condition", RawLR), ("schedule", ResidualShift)):
        assert set(init_args[key]["init_args"]) == names(kind)
    assert set(init_args["unet"]["init_args"]) == names(SwinUNet) - {"channels", "condition_channels"}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {f"module.{n}": v for n, v in s.items()},
        lambda s: {f"_orig_mod.{n}": v for n, v in s.items()},
        lambda s: {f"module._orig_mod.{n}": v for n, v in s.items()},
        lambda s: {"state_dict": s, "iters_start": 10, "log_step": {"train": 3}},
        lambda s: {"state_dict": {f"module.{n}": v for n, v in s.items()}},
        lambda s: {n: v.half() if v.is_floating_point() else v for n, v in s.items()},
    ],
)
def test_files_as_others_wrap_them(wrap, weights, tmp_path):
    for state, name in zip(weights, ("unet.pth", "vq.pth"), strict=True):
        torch.save(wrap(state), tmp_path / name)
    model = difiisr.convert(tmp_path / "unet.pth", tmp_path / "vq.pth")
    for own in (model.network.unet.state_dict(), model.network.first_stage.autoencoder.released_state()):
        for name, value in own.items():
            torch.testing.assert_close(value, (weights[0] | weights[1])[name], rtol=1e-3, atol=1e-3)


def without(name):
    return lambda state: {n: v for n, v in state.items() if n != name}


def changed(name, *shape):
    return lambda state: state | {name: torch.zeros(shape)}


UNET = "unet.pth is not in the released layout of DifIISR's U-Net"
VQ = "vq.pth is not in the released layout of the VQ-f4 autoencoder"


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (0, without("out.2.bias"), rf"{UNET} .* 1 missing \(first: out\.2\.bias\)"),
        (0, without("input_blocks.1.1.blocks.1.attn_mask"), "1 missing"),
        (0, changed("label_emb.weight", 3, 3), r"1 unexpected \(first: label_emb"),
        (0, changed("out.2.weight", 4, 32, 3, 3), r"1 of other shape .* \(4, 32, 3, 3\) there and \(3, 32, 3, 3\)"),
        (0, lambda s: {"w": torch.zeros(1)}, UNET),
        (1, without("quant_conv.bias"), rf"{VQ} .* 1 missing \(first: quant_conv\.bias\)"),
        (1, changed("loss.discriminator", 1), "1 unexpected"),
        (1, changed("quantize.embedding.weight", 8, 3), r"embedding\.weight, \(8, 3\) there and \(16, 3\) here"),
        (1, changed("decoder.mid.attn_1.q.weight", 64, 64), r"\(64, 64\) there and \(64, 64, 1, 1\) here"),
        (1, lambda s: {"state_dict": s, "lit_thermal": {}}, "is already a checkpoint of lit_thermal"),
        (1, lambda s: {"state_dict": [1]}, "no plain state dict"),
        (1, lambda s: {"state_dict": {3: torch.zeros(1)}}, r"missing .* 1 unexpected \(first: 3\)"),
    ],
)
def test_another_layout_is_one_sentence(file, change, said, files, weights):
    torch.save(change(weights[file]), files[file])
    with pytest.raises(InputError, match=said) as caught:
        difiisr.convert(*files)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_files_in_the_wrong_order(files):
    with pytest.raises(InputError, match=r"vq\.pth is not in the released layout of DifIISR's U-Net"):
        difiisr.convert(files[1], files[0])


@pytest.mark.parametrize("file", [0, 1])
def test_a_missing_file_is_one_sentence(file, files):
    files[file].unlink()
    with pytest.raises(InputError, match=rf"{files[file].name} is not a file"):
        difiisr.convert(*files)
