"""The tokenizer is the published one: by the table of its entries, and by a plain forward pass over them.

Table and forward pass are written from the published facts, with torch.nn.functional alone.
"""

import pytest
import torch
from test_vq_autoencoder import Plain, table
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.networks.multi_scale_vqvae import MultiScaleVQVAE

SMALL = {"width": 8, "multipliers": (1, 2, 2), "layers": 1, "dim": 4, "entries": 30, "scales": (1, 2, 4), "groups": 4}
SIDE = 16


def entries(channels=(160, 160, 320, 320, 640), layers=2, codes=4096, dim=32) -> dict[str, tuple[int, ...]]:
    """Return name and shape of the entries of the published layout: what differs from the VQ autoencoder's."""
    shapes = {
        name: shape for name, shape in table(channels, layers, codes, dim).items() if name.split(".")[-2] not in "qkv"
    }
    deepest, coarsest = channels[-1], len(channels) - 1

    def packed(at):
        for name, out in (("qkv", 3 * deepest), ("proj_out", deepest)):
            shapes.update({f"{at}.{name}.weight": (out, deepest, 1, 1), f"{at}.{name}.bias": (out,)})
        shapes.update({f"{at}.norm.weight": (deepest,), f"{at}.norm.bias": (deepest,)})

    for part in ("encoder.mid.attn_1", "decoder.mid.attn_1"):
        packed(part)
    for side, blocks in (("encoder.down", layers), ("decoder.up", layers + 1)):
        for index in range(blocks):
            packed(f"{side}.{coarsest}.attn.{index}")
    convs = [f"quantize.quant_resi.qresi_ls.{index}" for index in range(4)]
    for name in (*convs, "quant_conv", "post_quant_conv"):
        shapes.update({f"{name}.weight": (dim, dim, 3, 3), f"{name}.bias": (dim,)})
    return shapes


class PlainTokenizer(Plain):
    """The published encoder and decoder over a plain state dict."""

    def projections(self, x, at):
        return self.conv(x, f"{at}.qkv").chunk(3, 1)

    def encode(self, image):
        x = self.conv(image, "encoder.conv_in", padding=1)
        for level in range(self.levels):
            for index in range(self.layers):
                x = self.block(x, f"encoder.down.{level}.block.{index}")
                if level == self.levels - 1:
                    x = self.attention(x, f"encoder.down.{level}.attn.{index}")
            if level < self.levels - 1:
                x = self.conv(F.pad(x, (0, 1, 0, 1)), f"encoder.down.{level}.downsample.conv", stride=2)
        x = self.swish(self.norm(self.middle(x, "encoder.mid"), "encoder.norm_out"))
        return self.conv(self.conv(x, "encoder.conv_out", padding=1), "quant_conv", padding=1)

    def decode(self, latent):
        x = self.conv(latent, "post_quant_conv", padding=1)
        x = self.middle(self.conv(x, "decoder.conv_in", padding=1), "decoder.mid")
        for level in reversed(range(self.levels)):
            for index in range(self.layers + 1):
                x = self.block(x, f"decoder.up.{level}.block.{index}")
                if level == self.levels - 1:
                    x = self.attention(x, f"decoder.up.{level}.attn.{index}")
            if level:
                x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
                x = self.conv(x, f"decoder.up.{level}.upsample.conv", padding=1)
        x = self.conv(self.swish(self.norm(x, "decoder.norm_out")), "decoder.conv_out", padding=1)
        return x.clamp(-1, 1)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Values that keep features of about one size through all layers."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in entries((8, 16, 16), 1, 30, 4).items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) > 1 and "embedding" not in name:
            noise = noise / noise[0].numel() ** 0.5
        elif "embedding" not in name:
            noise = 0.2 * noise + ("norm" in name and name.endswith("weight"))
        state[name] = noise
    return state


@pytest.fixture(scope="module")
def small(weights) -> MultiScaleVQVAE:
    tokenizer = MultiScaleVQVAE(**SMALL).eval()
    tokenizer.load_released(weights)
    return tokenizer


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return 2 * torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) - 1


def test_the_published_size():
    with torch.device("meta"):
        tokenizer = MultiScaleVQVAE()
    shapes = {name: tuple(value.shape) for name, value in tokenizer.released_state().items()}
    assert shapes == entries() and len(shapes) == 323
    assert (tokenizer.factor, tokenizer.side) == (16, 512)
    # the published 108,981,380 without U, V and gate of the condition-adaptive codebook
    counts = [sum(p.numel() for p in part.parameters()) for part in (tokenizer, tokenizer.encoder, tokenizer.decoder)]
    assert counts == [108_981_380 - 33_025, 44_107_872, 64_653_923]


@torch.no_grad()
def test_a_plain_forward_pass_gives_the_same(small, weights, image):
    plain = PlainTokenizer(weights, levels=3, layers=1, groups=4)
    latent = plain.encode(image)
    assert latent.shape == (2, 4, 4, 4) and latent.std() > 0.2
    torch.testing.assert_close(small.encode(image), latent, rtol=0, atol=1e-5)
    latent = small.quantize.compose(small.quantize.codes(small.quantize.encode(latent)))
    decoded = plain.decode(latent)
    assert decoded.std() > 0.2 and 0 < (decoded.abs() == 1).float().mean() < 0.9
    torch.testing.assert_close(small.decode(latent), decoded, rtol=0, atol=1e-5)


def test_published_weights_come_and_go(small, weights):
    other = MultiScaleVQVAE(**SMALL)
    other.load_state_dict(small.state_dict())
    released = other.released_state()
    assert released.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(released[name], value)
    # none of them is to start anew when they are trained on
    assert small.quantize.usage() == 1


@torch.no_grad()
def test_tokens_are_decoded_through_every_scale(small, image):
    ids = small.tokens(image)
    assert [index.shape for index in ids] == [(2, 1), (2, 4), (2, 16)]
    latent = small.quantize.compose(small.quantize.codes(ids))
    assert torch.equal(small.image(small.quantize.codes(ids)), small.decode(latent))
    trained = small(image)
    assert all(torch.equal(a, b) for a, b in zip(trained.ids, ids, strict=True))
    # what is trained is what is decoded, and nothing limits it
    assert trained.image.abs().max() > 1 and torch.equal(trained.image.clamp(-1, 1), small.decode(latent))


@torch.no_grad()
def test_tokens_do_not_depend_on_autocast_or_the_batch(small, image):
    ids = small.tokens(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(small.tokens(image), ids, strict=True))
        low = small(image).image
    assert (low - small(image).image).std() < 0.1 * small(image).image.std()
    assert all(torch.equal(a, b[1:]) for a, b in zip(small.tokens(image[1:]), ids, strict=True))


def test_training_reaches_every_weight(weights, image):
    tokenizer = MultiScaleVQVAE(**SMALL)
    tokenizer.load_released(weights)
    trained = tokenizer(image)
    (F.mse_loss(trained.image, image) + trained.loss).backward()
    for name, parameter in tokenizer.named_parameters():
        # the bias of keys shifts all weights of a softmax alike; three scales share four convolutions
        if not name.endswith("to_k.bias") and "phi" not in name:
            assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name
    assert sum(conv.weight.grad is not None for conv in tokenizer.quantize.phi) == 3


def test_the_image_is_differentiable_in_codes(small, image):
    codes = [part.detach().requires_grad_() for part in small.quantize.codes(small.tokens(image))]
    small.image(codes).mean().backward()
    assert all(part.grad.abs().sum() > 0 for part in codes)


@pytest.mark.parametrize("shape", [(1, 3, 16, 12), (1, 1, 16, 16), (1, 3, 32, 32)])
def test_images_of_another_shape(shape, small):
    with pytest.raises(InputError, match=r"has no tokens: the tokenizer takes \(3, 16, 16\)"):
        small.tokens(torch.zeros(shape))


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"multipliers": ()}, r"would be \[\] wide"),
        ({"width": 20}, r"would be \[20, 40, 40\] wide: .* multiples of the 8 groups"),
        ({"layers": 0}, "layers 0 of the tokenizer: give 1 or more"),
        ({"groups": 0}, "groups 0"),
        ({"scales": (2, 1)}, "increasing"),
        ({"entries": 0}, "entries 0"),
    ],
)
def test_bad_sizes(sizes, said):
    with pytest.raises(InputError, match=said):
        MultiScaleVQVAE(**SMALL | {"groups": 8} | sizes)
