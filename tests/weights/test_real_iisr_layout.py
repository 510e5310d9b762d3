"""Weights in the released layouts of Real-IISR become checkpoints with the numbers of the released code.

Or one sentence says why not.
"""

import inspect
import itertools
from pathlib import Path

import pytest
import real_iisr_reference as plain
import torch
from small_real_iisr import PUBLISHED, SCALES, Weights, changed, contains, filled, small, without
from torch import Tensor

from lit_thermal.blocks.codebook import ConditionAdaptiveCodebook
from lit_thermal.blocks.condition_map_encoder import ConvStackEncoder
from lit_thermal.blocks.thermal_structure import ThermalStructuralGuidance
from lit_thermal.errors import InputError
from lit_thermal.generative.noise import SeededNoise
from lit_thermal.generative.token_sampler import Greedy
from lit_thermal.methods.real_iisr.module import RealIISR
from lit_thermal.methods.real_iisr.network import RealIISRNetwork
from lit_thermal.networks.multi_scale_vqvae import MultiScaleVQVAE
from lit_thermal.ops.colour import adain
from lit_thermal.weights import load_model, save_model
from lit_thermal.weights.checkpoint import build_model
from lit_thermal.weights.convert import real_iisr
from lit_thermal.weights.convert.real_iisr_layout import copy_released, released_layout

TRAINING = {
    *("order_loss", "order_weight", "pixel_weight", "negatives"),
    *("checkpoint_blocks", "optimizer", "lr_scheduler"),
}
TABLE = Path(__file__).parents[2].parent / "shared" / "specs" / "real_iisr_state_dict.tsv"
SIDE = 40


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_iisr, "published", small)


@pytest.fixture(scope="module")
def weights() -> Weights:
    return filled(build_model(small()).network)


@pytest.fixture
def file(weights: Weights, tmp_path: Path) -> Path:
    """What the released training code would have written."""
    trainer = {"config": {"cfg": 1.0}, "var_wo_ddp": weights, "vae_local": {}, "var_opt": {"state": {}}}
    torch.save({"epoch": 3, "iter": 40, "trainer": trainer, "args": {"depth": 2}}, tmp_path / "Real-IISR.pth")
    return tmp_path / "Real-IISR.pth"


def images(count: int = 2, side: int = SIDE, channels: int = 3, seed: int = 1) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed)).double() * 2 - 1


def double(state: Weights) -> Weights:
    return {name: value.double() if value.is_floating_point() else value for name, value in state.items()}


def test_each_weight_finds_its_place(file, weights, tmp_path):
    model = real_iisr.convert(file)
    assert contains(model, weights) and not model.training
    save_model(model, tmp_path / "ours.ckpt")
    assert contains(load_model(tmp_path / "ours.ckpt"), weights)
    torch.save(weights, tmp_path / "plain.pth")
    assert contains(real_iisr.convert(tmp_path / "plain.pth"), weights)
    wrapped = {f"module._orig_mod.{name}": value for name, value in weights.items()}
    torch.save({"trainer": {"var_wo_ddp": wrapped | {"decoder_norm.weight": torch.zeros(3)}}}, tmp_path / "wrapped.pth")
    assert contains(real_iisr.convert(tmp_path / "wrapped.pth"), weights)
    torch.save(weights, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert contains(real_iisr.convert(tmp_path / "old.pth"), weights)


@pytest.mark.parametrize("guidance", [0.0, 1.0])
@torch.no_grad()
def test_the_greedy_decode_is_that_of_plain_whole_passes(guidance, file, weights):
    network = real_iisr.convert(file).double().network
    lr = images()
    ids, expected = plain.greedy(double(weights), lr, guidance, SCALES, SCALES[-1])
    prefix = network.encode_condition(lr)
    drawn = network.draw(prefix, Greedy(), SeededNoise.of(["a", "b"], 0), guidance)
    assert [level.shape[1] for level in ids] == [side**2 for side in SCALES]
    assert len(torch.cat(ids, 1).unique()) > 12
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(drawn, ids, strict=True))
    decoded = network.decode(prefix, torch.zeros(2, dtype=torch.long), drawn)
    assert expected.std() > 0.2
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_guidance_and_the_codebook_matter_to_the_plain_decode(weights):
    """Else the equality above would say nothing of them."""
    state, lr = double(weights), images()
    ids, image = plain.greedy(state, lr, 0.0, SCALES, SCALES[-1])
    assert any(
        not torch.equal(a, b) for a, b in zip(ids, plain.greedy(state, lr, 1.0, SCALES, SCALES[-1])[0], strict=True)
    )
    closed = state | {"vae.quantize.lora_gate": torch.zeros(1).double()}
    assert (plain.greedy(closed, lr, 0.0, SCALES, SCALES[-1])[1] - image).abs().max() > 0.01
    placed = plain.prefix(state, plain.condition_tokens(state, lr), 0) + state["pos_start"]
    assert (plain.image(state, ids, plain.codebook_factors(state, placed), SCALES) - image).abs().max() > 0.01


@pytest.mark.parametrize("label", [0, 1])
@torch.no_grad()
def test_training_sees_the_logits_of_a_plain_pass(label, file, weights):
    network = real_iisr.convert(file).double().network
    lr, hr = images(), images(seed=2)
    expected = plain.trained_logits(double(weights), lr, hr, label, SCALES, SCALES[-1])
    ids = network.tokenizer.tokens(hr)
    assert all(torch.equal(a, b) for a, b in zip(ids, plain.tokens(double(weights), hr, SCALES), strict=True))
    logits = network.logits(network.encode_condition(lr), torch.full((2,), label), ids)
    assert logits.shape == expected.shape == (2, sum(side**2 for side in SCALES), 24) and expected.std() > 0.3
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-8)


@torch.no_grad()
def test_the_published_scales_and_their_positions():
    """The positions of the published code cover 32 x 32 whatever the scales, its convolutions are 0, 0, 1, 1, ..."""
    tokenizer = MultiScaleVQVAE(32, (1, 1), 1, 4, 24)
    encoder = lambda channels, width: ConvStackEncoder(channels, width, (8,))  # noqa: E731
    structure = lambda width, heads: ThermalStructuralGuidance(width, heads, encoder, "released", "append", 4, "batch")  # noqa: E731
    codebook = lambda *sizes: ConditionAdaptiveCodebook(*sizes, acts="decode")  # noqa: E731
    network = RealIISRNetwork(tokenizer, 1, 16, 2, 0.0, encoder, structure, codebook).eval()
    state = filled(network)
    own = network.state_dict()
    copy_released(network, state, Path("file.pth"))
    assert own["transformer.prefix_positions"].shape == (1, 2049, 16)
    lr = images(1, 64).float()
    scales = tokenizer.quantize.scales
    ids = [torch.randint(24, (1, side**2), generator=torch.Generator().manual_seed(side)) for side in scales]
    prefix = network.encode_condition(lr)
    expected = plain.logits(state, plain.prefix(state, prefix, 0), plain.inputs(state, ids[:-1], scales), 0, scales, 32)
    assert expected.shape == (1, 2240, 24)
    torch.testing.assert_close(network.logits(prefix, torch.zeros(1).long(), ids), expected, rtol=0, atol=1e-3)


@torch.no_grad()
def test_restoring_is_the_plain_decode_with_its_colours(file, weights):
    model = real_iisr.convert(file).double()
    batch = {"lr": (images(2, SIDE // 4, 1) + 1) / 2, "name": ["a", "b"]}
    seen = []
    encode = model.network.encode_condition
    model.network.encode_condition = lambda image: seen.append(image) or encode(image)
    restored = model.restore(batch)
    (lr,) = seen
    _, image = plain.greedy(double(weights), lr, 1.0, SCALES, SCALES[-1])
    fixed = plain.colour_fixed((image + 1) / 2, (lr + 1) / 2)
    torch.testing.assert_close(adain((image + 1) / 2, (lr + 1) / 2).clamp(0, 1), fixed, rtol=0, atol=1e-8)
    assert restored.shape == (2, 1, SIDE, SIDE)
    model.colour_fix = "none"
    torch.testing.assert_close(model.restore(batch).double(), (image.mean(1, keepdim=True) + 1) / 2, rtol=0, atol=1e-5)


def published_network() -> RealIISRNetwork:
    arguments = PUBLISHED["init_args"]
    structure, codebook = (dict(arguments[part]["init_args"]) for part in ("structure", "codebook"))
    del structure["encoder"]
    widths = arguments["encoder"]["init_args"]["widths"]

    def encoder(channels: int, width: int) -> ConvStackEncoder:
        return ConvStackEncoder(channels, width, widths)

    with torch.device("meta"):
        return RealIISRNetwork(
            MultiScaleVQVAE(**arguments["tokenizer"]["init_args"]),
            arguments["depth"],
            arguments["width"],
            arguments["heads"],
            arguments["drop_path"],
            encoder,
            lambda width, heads: ThermalStructuralGuidance(width, heads, encoder, **structure),
            lambda *sizes: ConditionAdaptiveCodebook(*sizes, **codebook),
        )


def table() -> dict[str, tuple[int, ...]]:
    """Name and shape of the published entries outside the tokenizer's layers, which have a test of their own."""
    shapes: dict[str, tuple[int, ...]] = {
        "pos_start": (1, 2049, 1536),
        "lvl_1L": (1, 4288),
        "attn_bias_for_masking": (1, 1, 4288, 4288),
        "word_embed.weight": (1536, 32),
        "word_embed.bias": (1536,),
        "class_emb.weight": (2, 1536),
        "lvl_embed.weight": (10, 1536),
    }
    for quantizer in ("vae.quantize", "vq"):
        own = {"U": (4096, 8), "V": (32, 8), "lora_gate": (1,), "embedding.weight": (4096, 32)}
        for kernel in range(4):
            own |= {f"quant_resi.qresi_ls.{kernel}.{n}": s for n, s in (("weight", (32, 32, 3, 3)), ("bias", (32,)))}
        shapes |= {f"{quantizer}.{name}": shape for name, shape in (own | {"ema_vocab_hit_SV": (10, 4096)}).items()}

    def layer(name: str, *weight: int) -> None:
        shapes.update({f"{name}.weight": weight, f"{name}.bias": weight[:1]})

    for name, channels in (("con", 3), ("heatmap", 1), ("edge", 3)):
        widths = [32, 128, 256, 512, 1536]
        layer(f"{name}_embedding.conv_in", 32, channels, 3, 3)
        for index, (wide, following) in enumerate(itertools.pairwise(widths)):
            layer(f"{name}_embedding.blocks.{2 * index}", wide, wide, 3, 3)
            layer(f"{name}_embedding.blocks.{2 * index + 1}", following, wide, 3, 3)
        layer(f"{name}_embedding.conv_out", 1536, 1536, 3, 3)
    for name, first in (("local", 0), ("global", 1)):
        for index, out, into in ((first, 384, 1536), (first + 3, 1536, 384)):
            layer(f"fusion_block.{name}_att.{index}", out, into, 1, 1)
            norm = f"fusion_block.{name}_att.{index + 1}"
            layer(norm, out)
            shapes |= {f"{norm}.running_mean": (out,), f"{norm}.running_var": (out,), f"{norm}.num_batches_tracked": ()}
    for name in "qkv":
        layer(f"cross_attention.{name}_proj", 1536, 1536)
    layer("cross_attention.out_proj", 1536, 1536)
    for index in range(24):
        at = f"blocks.{index}"
        shapes |= {f"{at}.attn.{name}": (1536,) for name in ("q_bias", "v_bias", "zero_k_bias")}
        shapes |= {f"{at}.attn.scale_mul_1H11": (1, 24, 1, 1), f"{at}.attn.mat_qkv.weight": (4608, 1536)}
        layer(f"{at}.attn.proj", 1536, 1536)
        layer(f"{at}.ffn.fc1", 6144, 1536)
        layer(f"{at}.ffn.fc2", 1536, 6144)
        layer(f"{at}.ada_lin.1", 9216, 1536)
    layer("head_nm.ada_lin.1", 3072, 1536)
    layer("head", 4096, 1536)
    layer("cb_cond.2", 32, 1536)
    layer("cb_cond.4", 8, 32)
    return shapes


def test_the_published_layout():
    network = published_network()
    layout = {name: tuple(value.shape) for name, value in released_layout(network).items()}
    layers = {f"vae.{name}": tuple(value.shape) for name, value in network.tokenizer.released_state().items()}
    assert layout == layers | table() and len(layout) == 763
    if TABLE.is_file():
        rows = [line.split("\t") for line in TABLE.read_text().splitlines()[1:]]
        assert layout == {name: tuple(int(n) for n in shape.strip("()").split(",") if n) for name, shape, _ in rows}
        dtypes = {name: str(value.dtype).removeprefix("torch.") for name, value in released_layout(network).items()}
        assert dtypes == {name: dtype for name, _, dtype in rows}


def test_the_published_parameters():
    network = published_network()

    def count(*modules: torch.nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 1_144_665_865
    assert count(network) == 1_253_614_220
    # with what the released code keeps in its quantiser, 33,025 values of the codebook
    codebook = [p.numel() for p in (network.codebook.U, network.codebook.V, network.codebook.gate)]
    assert (sum(codebook), count(network.codebook.factors)) == (33_025, 49_448)
    assert count(network.tokenizer) + sum(codebook) == 108_981_380
    structure = network.structure
    encoders = [count(e) / 1e6 for e in (network.encoder, structure.heat_encoder, structure.edge_encoder)]
    assert encoders == pytest.approx([32.93] * 3, abs=0.01)
    measured = [count(network.transformer.blocks), count(structure.attention), count(structure.gate)]
    assert [round(n / 1e6, 2) for n in measured] == pytest.approx([1019.7, 9.44, 2.37], abs=0.05)


def test_nothing_that_shapes_the_result_is_left_to_a_default():
    def names(kind):
        return set(inspect.signature(kind).parameters)

    init_args = PUBLISHED["init_args"]
    assert set(init_args) == names(RealIISR) - TRAINING
    assert set(init_args["tokenizer"]["init_args"]) == names(MultiScaleVQVAE)
    assert set(init_args["encoder"]["init_args"]) == names(ConvStackEncoder) - {"in_channels", "width"}
    assert set(init_args["structure"]["init_args"]) == names(ThermalStructuralGuidance) - {"width", "heads"}
    sizes = {"entries", "dim", "width"}
    assert set(init_args["codebook"]["init_args"]) == names(ConditionAdaptiveCodebook) - sizes


ANOTHER = r"Real-IISR\.pth is not in the released layout of Real-IISR "


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("head.bias"), rf"{ANOTHER}.* 1 missing \(first: head\.bias\)"),
        (without("vq.U"), r"1 missing \(first: vq\.U\)"),
        (without("lvl_1L"), r"1 missing \(first: lvl_1L\)"),
        (changed("decoder.net.weight", torch.zeros(3)), r"1 unexpected \(first: decoder\.net\.weight\)"),
        (changed("pos_start", torch.zeros(1, 101, 32)), r"pos_start, \(1, 101, 32\) there and \(1, 201, 32\) here"),
        (changed("blocks.1.attn.zero_k_bias", torch.ones(32)), r"blocks\.1\.attn\.zero_k_bias is not zero"),
        (changed("vq.embedding.weight", torch.zeros(24, 4)), r"vq\.embedding\.weight differs from vae\.quantize\.emb"),
        (lambda s: {"trainer": {"vae_local": s}}, "no model under trainer and var_wo_ddp but 'vae_local'"),
        (lambda s: {"trainer": {"var_wo_ddp": [1]}}, "no plain state dict"),
        (lambda s: {"epoch": 3}, "no plain state dict .* but 'epoch'"),
        (lambda s: s | {"lit_thermal": {}}, "is already a checkpoint of lit_thermal"),
    ],
)
def test_another_layout_is_one_sentence(change, said, file, weights):
    torch.save(change(weights), file)
    with pytest.raises(InputError, match=said) as caught:
        real_iisr.convert(file)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
