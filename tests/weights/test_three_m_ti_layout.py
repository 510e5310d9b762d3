"""Weights in 3M-TI's released layout become a checkpoint that computes what a plain forward pass of it computes."""

import inspect
import math
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.blocks.low_rank import add_lora
from lit_thermal.blocks.pretrained import without_pretrained
from lit_thermal.errors import InputError
from lit_thermal.methods.three_m_ti.module import ThreeMTI
from lit_thermal.networks.latent_diffusion import SDTurbo, SmallLatentDiffusion
from lit_thermal.networks.view_autoencoder import ViewAutoencoder
from lit_thermal.weights import load_model, save_model
from lit_thermal.weights.convert.three_m_ti import convert, published, released_names

TRAINING = {
    *("pixel_loss", "perceptual_loss", "perceptual_weight", "guide_weight", "drop_guide", "shuffle_guide"),
    *("optimizer", "lr_scheduler"),
}
GROUPS, HEAD, TEXT = 4, 8, 24
Weights = dict[str, Tensor]

ATTENTION = r"to_q|to_k|to_v|to_out\.0"
CONVOLUTIONS = r"conv1|conv2|conv_shortcut|downsamplers\.0\.conv|upsamplers\.0\.conv|conv_out"
IN_UNET = rf"(.*\.)?({ATTENTION}|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2|{CONVOLUTIONS})"
IN_DECODER = rf"decoder\.(.*\.)?({ATTENTION}|conv_in|{CONVOLUTIONS})|decoder\.skip_conv_\d"


def random_lora(state: Weights, wanted: str, adapter: str, rank: int) -> Weights:
    """The released names of a state dict with plain ones, with random LoRA in the wanted layers."""
    found: Weights = {}
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        if not re.fullmatch(wanted, layer):
            found[name] = value
            continue
        found[f"{layer}.base_layer.{kind}"] = value
        if kind == "weight":
            out, rest = value.shape[0], value.shape[1:]
            found[f"{layer}.lora_A.{adapter}.weight"] = torch.randn(rank, *rest) / math.sqrt(math.prod(rest))
            found[f"{layer}.lora_B.{adapter}.weight"] = 0.3 * torch.randn(out, rank, *[1] * (len(rest) - 1))
    return found


@pytest.fixture(scope="module")
def turbo(tmp_path_factory) -> Path:
    """Small networks in the layout of SD-Turbo; four levels of the autoencoder, two residual blocks in each."""
    folder = tmp_path_factory.mktemp("models") / "sd-turbo"
    torch.manual_seed(0)
    unet, vae = SmallLatentDiffusion(
        (16, 16, 24), (8, 8, 16, 16), text_dim=TEXT, head_dim=HEAD, layers=2, groups=GROUPS, scale=0.18215
    ).build()
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    return folder


@cache
def plain(turbo: Path) -> tuple[Weights, Weights]:
    """The weights of the folder."""
    kinds = ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae"))
    return tuple(kind.from_pretrained(turbo / part).state_dict() for kind, part in kinds)  # type: ignore[return-value]


def released(turbo: Path, unet_rank: int = 4, vae_rank: int = 2) -> dict:
    """What the released training code saves, with random values."""
    torch.manual_seed(1)
    unet, vae = plain(turbo)
    # Not those of the folder, as the whole UNet was trained.
    unet = {name: value + 0.05 * torch.randn_like(value) for name, value in unet.items()}
    widths = {1: (16, 16), 2: (8, 16), 3: (8, 16), 4: (8, 8)}
    skips = {f"decoder.skip_conv_{i}.weight": 0.2 * torch.randn(out, into, 1, 1) for i, (into, out) in widths.items()}
    saved = random_lora(vae | skips, IN_DECODER, "vae_skip", vae_rank)
    return {
        "vae_lora_target_modules": ["to_k", "conv1"],
        "rank_vae": vae_rank,
        "state_dict_unet": random_lora(unet, IN_UNET, "default", unet_rank),
        "state_dict_vae": {name: value for name, value in saved.items() if "lora" in name or "skip" in name},
        "optimizer": torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))]).state_dict(),
    }


@pytest.fixture
def file(turbo, tmp_path) -> Path:
    torch.save(released(turbo), tmp_path / "model_8001.pkl")
    return tmp_path / "model_8001.pkl"


class Plain:
    """Layers by the names of a state dict."""

    def __init__(self, state: Weights, adapter: str, eps: float) -> None:
        self.state, self.adapter, self.eps = state, adapter, eps

    def has(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in self.state)

    def count(self, name: str) -> int:
        return len({key[len(name) + 1 :].split(".")[0] for key in self.state if key.startswith(f"{name}.")})

    def parts(self, name: str) -> tuple[Tensor, Tensor | None]:
        base = f"{name}.base_layer" if f"{name}.base_layer.weight" in self.state else name
        return self.state[f"{base}.weight"], self.state.get(f"{base}.bias")

    def lora(self, name: str) -> tuple[Tensor, Tensor] | None:
        key = f"{name}.lora_A.{self.adapter}.weight"
        return (self.state[key], self.state[key.replace("lora_A", "lora_B")]) if key in self.state else None

    def linear(self, name: str, x: Tensor) -> Tensor:
        y, lora = F.linear(x, *self.parts(name)), self.lora(name)
        return y if lora is None else y + 8 / len(lora[0]) * F.linear(F.linear(x, lora[0]), lora[1])

    def conv(self, name: str, x: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
        weight, bias = self.parts(name)
        padding = weight.shape[-1] // 2 if padding is None else padding
        y, lora = F.conv2d(x, weight, bias, stride, padding), self.lora(name)
        if lora is None:
            return y
        return y + 8 / len(lora[0]) * F.conv2d(F.conv2d(x, lora[0], None, stride, padding), lora[1])

    def norm(self, name: str, x: Tensor, eps: float | None = None) -> Tensor:
        return F.group_norm(x, GROUPS, *self.parts(name), self.eps if eps is None else eps)

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *self.parts(name), 1e-5)

    def attention(self, name: str, x: Tensor, context: Tensor, heads: int) -> Tensor:
        q, k, v = (
            self.linear(f"{name}.to_{part}", tokens).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part, tokens in (("q", x), ("k", context), ("v", context))
        )
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        return self.linear(f"{name}.to_out.0", (weights @ v).transpose(1, 2).flatten(2))

    def residual(self, name: str, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = self.conv(f"{name}.conv1", F.silu(self.norm(f"{name}.norm1", x)))
        if time is not None:
            h = h + self.linear(f"{name}.time_emb_proj", F.silu(time))[..., None, None]
        h = self.conv(f"{name}.conv2", F.silu(self.norm(f"{name}.norm2", h)))
        return h + (self.conv(f"{name}.conv_shortcut", x) if self.has(f"{name}.conv_shortcut") else x)

    def enlarged(self, name: str, x: Tensor) -> Tensor:
        upsampler = f"{name}.upsamplers.0.conv"
        return self.conv(upsampler, F.interpolate(x, scale_factor=2.0)) if self.has(upsampler) else x


class PlainUNet(Plain):
    """The UNet on pairs of views (2B, C, h, w), the thermal one first, whose self-attention is joint."""

    def transformer(self, name: str, x: Tensor, text: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        h = self.linear(f"{name}.proj_in", self.norm(f"{name}.norm", x, 1e-6).flatten(2).transpose(1, 2))
        block, heads = f"{name}.transformer_blocks.0", h.shape[-1] // HEAD
        pairs = self.layer_norm(f"{block}.norm1", h)
        joint = pairs.reshape(len(h) // 2, -1, h.shape[-1])
        h = h + self.attention(f"{block}.attn1", joint, joint, heads).reshape(h.shape)
        h = h + self.attention(f"{block}.attn2", self.layer_norm(f"{block}.norm2", h), text, heads)
        value, gate = self.linear(f"{block}.ff.net.0.proj", self.layer_norm(f"{block}.norm3", h)).chunk(2, -1)
        h = h + self.linear(f"{block}.ff.net.2", value * F.gelu(gate))
        return x + self.linear(f"{name}.proj_out", h).transpose(1, 2).unflatten(2, (height, width))

    def level(self, name: str, x: Tensor, time: Tensor, text: Tensor, skips: list[Tensor], up: bool) -> Tensor:
        for j in range(self.count(f"{name}.resnets")):
            x = self.residual(f"{name}.resnets.{j}", torch.cat([x, skips.pop()], 1) if up else x, time)
            if self.has(f"{name}.attentions"):
                x = self.transformer(f"{name}.attentions.{j}", x, text)
            if not up:
                skips.append(x)
        return x

    def __call__(self, z: Tensor, text: Tensor) -> Tensor:
        half = self.parts("time_embedding.linear_1")[0].shape[1] // 2
        angles = 199 * torch.exp(-math.log(10000) * torch.arange(half, dtype=z.dtype) / half)
        time = self.linear("time_embedding.linear_1", torch.cat([angles.cos(), angles.sin()])[None])
        time = self.linear("time_embedding.linear_2", F.silu(time))
        x = self.conv("conv_in", z)
        skips = [x]
        for i in range(self.count("down_blocks")):
            x = self.level(f"down_blocks.{i}", x, time, text, skips, up=False)
            if self.has(f"down_blocks.{i}.downsamplers"):
                x = self.conv(f"down_blocks.{i}.downsamplers.0.conv", x, stride=2)
                skips.append(x)
        x = self.residual("mid_block.resnets.0", x, time)
        x = self.residual("mid_block.resnets.1", self.transformer("mid_block.attentions.0", x, text), time)
        for i in range(self.count("up_blocks")):
            x = self.enlarged(f"up_blocks.{i}", self.level(f"up_blocks.{i}", x, time, text, skips, up=True))
        return self.conv("conv_out", F.silu(self.norm("conv_norm_out", x)))


class PlainVAE(Plain):
    """The autoencoder on pairs of views, with skips of the thermal one."""

    def middle(self, name: str, x: Tensor) -> Tensor:
        x = self.residual(f"{name}.resnets.0", x)
        tokens = self.norm(f"{name}.attentions.0.group_norm", x).flatten(2).transpose(1, 2)
        attended = self.attention(f"{name}.attentions.0", tokens, tokens, heads=1)
        return self.residual(f"{name}.resnets.1", x + attended.transpose(1, 2).unflatten(2, x.shape[-2:]))

    def encode(self, image: Tensor, noise: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, taps = self.conv("encoder.conv_in", image), []
        for i in range(4):
            taps.append(x[::2])
            for j in range(2):
                x = self.residual(f"encoder.down_blocks.{i}.resnets.{j}", x)
            if i < 3:
                x = self.conv(f"encoder.down_blocks.{i}.downsamplers.0.conv", F.pad(x, (0, 1, 0, 1)), 2, 0)
        x = F.silu(self.norm("encoder.conv_norm_out", self.middle("encoder.mid_block", x)))
        mean, log_variance = self.conv("quant_conv", self.conv("encoder.conv_out", x)).chunk(2, 1)
        return 0.18215 * (mean + (0.5 * log_variance).exp() * noise), taps

    def decode(self, z: Tensor, taps: list[Tensor]) -> Tensor:
        x = self.middle("decoder.mid_block", self.conv("decoder.conv_in", self.conv("post_quant_conv", z / 0.18215)))
        for i in range(4):
            x = x.clone()
            x[::2] += self.conv(f"decoder.skip_conv_{i + 1}", taps[3 - i])
            for j in range(3):
                x = self.residual(f"decoder.up_blocks.{i}.resnets.{j}", x)
            x = self.enlarged(f"decoder.up_blocks.{i}", x)
        return self.conv("decoder.conv_out", F.silu(self.norm("decoder.conv_norm_out", x)))


def forward(theirs: dict, turbo: Path, lr: Tensor, guide: Tensor, text: Tensor, noise: Tensor) -> Tensor:
    """Both views (B, 2, 3, H, W) in [-1, 1] by the released names, in float64; SD-Turbo's folder gives the rest."""
    state = {name: value.double() for name, value in (plain(turbo)[1] | theirs["state_dict_vae"]).items()}
    vae = PlainVAE(state, "vae_skip", 1e-6)
    unet = PlainUNet({n: v.double() for n, v in theirs["state_dict_unet"].items()}, "default", 1e-5)
    lr, guide, text, noise = (value.double() for value in (lr, guide, text, noise))
    height, width = guide.shape[-2:]
    twice = F.interpolate(lr, (height // 4, width // 4), mode="bilinear")
    thermal = F.interpolate(twice, (height, width), mode="bilinear").expand(-1, 3, -1, -1)
    images = 2 * torch.stack([thermal, guide], 1).flatten(0, 1) - 1
    z, taps = vae.encode(images, noise)
    predicted = unet(z, text.repeat_interleave(2, 0))
    restored = vae.decode((z - 0.49473423 * predicted) / 0.86904436, taps)
    return restored.unflatten(0, (-1, 2))


@pytest.fixture
def inputs() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "lr": torch.rand(2, 1, 8, 4, generator=generator),
        "guide": torch.rand(2, 3, 64, 32, generator=generator),
        "text": torch.randn(2, 5, TEXT, generator=generator),
        "noise": torch.randn(4, 4, 8, 4, generator=generator),
    }


def ours(model: ThreeMTI, inputs: dict[str, Tensor]) -> Tensor:
    images, present = model._views({"lr": inputs["lr"], "guide": inputs["guide"], "name": ["a", "b"]})
    with torch.no_grad():
        return model.network(images, present, inputs["text"], lambda like: inputs["noise"].view_as(like))


def test_the_numbers_are_those_of_a_plain_forward_pass(turbo, file, inputs, tmp_path):
    theirs = torch.load(file, weights_only=True)
    expected = forward(theirs, turbo, **inputs)
    assert expected.std() > 0.05
    model = convert(file, turbo)
    assert isinstance(model, ThreeMTI) and not model.training
    assert (ours(model, inputs) - expected).abs().max() < 1e-4
    save_model(model, tmp_path / "ours.ckpt")
    assert (ours(load_model(tmp_path / "ours.ckpt"), inputs) - expected).abs().max() < 1e-4
    # Each part of the file matters to the comparison by more than its tolerance.
    for part, names in (("state_dict_unet", "lora_B"), ("state_dict_vae", "lora_B"), ("state_dict_vae", "skip_conv")):
        less = {n: torch.zeros_like(v) if names in n else v for n, v in theirs[part].items()}
        assert (forward(theirs | {part: less}, turbo, **inputs) - expected).abs().max() > 1e-2


def test_each_weight_finds_its_place(turbo, file, tmp_path):
    theirs = torch.load(file, weights_only=True)
    model = convert(file, turbo)
    state = {f"network.unet.{name}": value for name, value in theirs["state_dict_unet"].items()}
    for name, value in theirs["state_dict_vae"].items():
        own = f"skip.{name.removeprefix('decoder.')}" if "skip_conv" in name else f"vae.{name}"
        state[f"network.autoencoder.{own}"] = value
    kept = model.state_dict()
    assert kept.keys() == state.keys(), "what was trained, and no more"
    assert all(torch.equal(kept[name], value) for name, value in state.items())
    encoder = AutoencoderKL.from_pretrained(turbo / "vae").encoder.state_dict()
    own = model.network.autoencoder.vae.encoder.state_dict()
    assert all(torch.equal(own[name], value) for name, value in encoder.items())


def test_the_published_layout():
    with torch.device("meta"), without_pretrained():
        unet, vae = SDTurbo().build()
        autoencoder = ViewAutoencoder(vae)
        add_lora(unet, autoencoder)
    names, own = released_names(autoencoder), autoencoder.state_dict()
    assert len(unet.state_dict()) == 1200 and len(names) == 90
    assert sum(own[name].numel() for name in names.values()) == 1_015_452
    assert names["decoder.conv_in.lora_A.vae_skip.weight"] == "vae.decoder.conv_in.lora_A.vae_skip.weight"
    for name, shape in (
        ("decoder.skip_conv_1.base_layer.weight", (512, 512, 1, 1)),
        ("decoder.skip_conv_1.lora_B.vae_skip.weight", (512, 4, 1, 1)),
        ("decoder.skip_conv_4.base_layer.weight", (256, 128, 1, 1)),
        ("decoder.up_blocks.2.resnets.0.conv_shortcut.lora_A.vae_skip.weight", (4, 512, 1, 1)),
        ("decoder.mid_block.attentions.0.to_q.lora_B.vae_skip.weight", (512, 4)),
    ):
        assert tuple(own[names[name]].shape) == shape


def test_nothing_that_shapes_the_result_is_left_to_a_default():
    assert set(published("turbo")["init_args"]) == set(inspect.signature(ThreeMTI).parameters) - TRAINING


def test_half_precision_becomes_full(turbo, file):
    theirs = torch.load(file, weights_only=True)
    for part in ("state_dict_unet", "state_dict_vae"):
        theirs[part] = {f"module.{name}": value.bfloat16() for name, value in theirs[part].items()}
    torch.save(theirs, file)
    model = convert(file, turbo)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    expected = theirs["state_dict_unet"]["module.conv_in.weight"].float()
    assert torch.equal(model.network.unet.state_dict()["conv_in.weight"], expected)


def test_ranks_are_those_of_the_file(turbo, file, inputs):
    theirs = released(turbo, unet_rank=3, vae_rank=5)
    torch.save(theirs, file)
    model = convert(file, turbo)
    assert (model.config["init_args"]["unet_rank"], model.config["init_args"]["vae_rank"]) == (3, 5)
    assert (ours(model, inputs) - forward(theirs, turbo, **inputs)).abs().max() < 1e-4


def part(name, change):
    return lambda theirs: theirs | {name: change(theirs[name])}


def without(name):
    return lambda state: {n: v for n, v in state.items() if n != name}


def changed(name, *shape):
    return lambda state: state | {name: torch.zeros(shape)}


U, V = "state_dict_unet", "state_dict_vae"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (part(U, without("conv_in.bias")), r"layout of 3M-TI's UNet .* 1 missing \(first: conv_in\.bias\)"),
        (part(U, changed("conv_in.weight", 16, 8, 3, 3)), r"1 of other shape .* \(16, 8, 3, 3\) there and \(16, 4, 3"),
        (part(U, changed("more", 1)), r"1 unexpected \(first: more\)"),
        (part(V, without("decoder.skip_conv_2.base_layer.weight")), "3M-TI's autoencoder .* 1 missing .*skip_conv_2"),
        (part(V, changed("encoder.conv_in.weight", 1)), r"1 unexpected \(first: encoder\.conv_in"),
        (part(U, changed("conv_out.lora_A.default.weight", 8, 16, 3, 3)), "LoRA of several ranks, 4 .* and 8 "),
        (part(U, lambda s: {n: v for n, v in s.items() if "lora" not in n}), "holds no LoRA: no name ends in .lora_A"),
        (part(V, lambda s: {}), "holds no state_dict_vae"),
        (part(V, lambda s: {"a": [1]}), "holds no state_dict_vae"),
        (without(U), "holds no state_dict_unet .*but 'vae_lora_target_modules', 'rank_vae'"),
        (lambda theirs: theirs[U], "holds no state_dict_unet"),
        (lambda theirs: [1], "holds no state_dict_unet"),
        (lambda theirs: theirs | {"lit_thermal": {}}, "is already a checkpoint of lit_thermal"),
        (lambda theirs: theirs | {"more": Path("/")}, "holds more than tensors and plain values"),
    ],
)
def test_another_layout_is_one_sentence(change, said, turbo, file):
    torch.save(change(released(turbo)), file)
    with pytest.raises(InputError, match=said) as caught:
        convert(file, turbo)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700


def test_files_that_are_not_there(turbo, file, tmp_path):
    with pytest.raises(InputError, match=r"none\.pkl is not a file"):
        convert(tmp_path / "none.pkl", turbo)
    with pytest.raises(InputError, match=r"no folder .*nowhere/at/all .*hf download .* by --base$"):
        convert(file, Path("nowhere/at/all"))
