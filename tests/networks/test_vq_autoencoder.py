"""The VQ autoencoder is the published one: by the table of its entries, and by a plain forward pass over them.

Table and forward pass are written from the published facts, with torch.nn.functional alone.
"""

import pytest
import torch
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.networks import vq_autoencoder
from lit_thermal.networks.vq_autoencoder import VectorQuantizer, VQAutoencoder

SMALL = {"channels": (32, 64, 96), "layers": 1, "codebook": 24, "latent_channels": 4}


def table(channels=(128, 256, 512), layers=2, codebook=8192, latent_channels=3) -> dict[str, tuple[int, ...]]:
    """Return name and shape of the entries of the published layout."""
    shapes: dict[str, tuple[int, ...]] = {}
    deepest, z = channels[-1], latent_channels

    def layer(name, *shape):
        shapes.update({f"{name}.weight": shape, f"{name}.bias": shape[:1]})

    def block(at, before, width):
        layer(f"{at}.norm1", before)
        layer(f"{at}.conv1", width, before, 3, 3)
        layer(f"{at}.norm2", width)
        layer(f"{at}.conv2", width, width, 3, 3)
        if before != width:
            layer(f"{at}.nin_shortcut", width, before, 1, 1)

    def middle(at):
        block(f"{at}.block_1", deepest, deepest)
        layer(f"{at}.attn_1.norm", deepest)
        for name in ("q", "k", "v", "proj_out"):
            layer(f"{at}.attn_1.{name}", deepest, deepest, 1, 1)
        block(f"{at}.block_2", deepest, deepest)

    layer("encoder.conv_in", channels[0], 3, 3, 3)
    before = channels[0]
    for level, width in enumerate(channels):
        for index in range(layers):
            block(f"encoder.down.{level}.block.{index}", before, width)
            before = width
        if level < len(channels) - 1:
            layer(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    middle("encoder.mid")
    layer("encoder.norm_out", deepest)
    layer("encoder.conv_out", z, deepest, 3, 3)
    layer("decoder.conv_in", deepest, z, 3, 3)
    middle("decoder.mid")
    for level, width in reversed(list(enumerate(channels))):
        for index in range(layers + 1):
            block(f"decoder.up.{level}.block.{index}", before, width)
            before = width
        if level:
            layer(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    layer("decoder.norm_out", channels[0])
    layer("decoder.conv_out", 3, channels[0], 3, 3)
    shapes["quantize.embedding.weight"] = (codebook, z)
    layer("quant_conv", z, z, 1, 1)
    layer("post_quant_conv", z, z, 1, 1)
    return shapes


def random_weights(seed=0, **sizes) -> dict[str, torch.Tensor]:
    """Return values that keep features of about one size through all layers."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in table(**sizes).items():
        noise = torch.randn(shape, generator=generator)
        if name.startswith("quantize"):
            state[name] = noise
        elif len(shape) > 1:
            state[name] = noise / noise[0].numel() ** 0.5 * (3 if ".attn_1.q" in name else 1)
        else:
            state[name] = 0.2 * noise + ("norm" in name and name.endswith("weight"))
    return state


class Plain:
    """The published autoencoder over a plain state dict."""

    def __init__(self, weights, levels, layers, groups=32):
        self.w, self.levels, self.layers, self.groups = weights, levels, layers, groups

    def conv(self, x, at, **how):
        return F.conv2d(x, self.w[f"{at}.weight"], self.w[f"{at}.bias"], **how)

    def norm(self, x, at):
        """By hand, eps 1e-6."""
        groups = x.unflatten(1, (self.groups, -1))
        mean = groups.mean((2, 3, 4), keepdim=True)
        variance = (groups - mean).square().mean((2, 3, 4), keepdim=True)
        x = ((groups - mean) / (variance + 1e-6).sqrt()).flatten(1, 2)
        return x * self.w[f"{at}.weight"].view(-1, 1, 1) + self.w[f"{at}.bias"].view(-1, 1, 1)

    def swish(self, x):
        return x * x.sigmoid()

    def block(self, x, at):
        h = self.conv(self.swish(self.norm(x, f"{at}.norm1")), f"{at}.conv1", padding=1)
        h = self.conv(self.swish(self.norm(h, f"{at}.norm2")), f"{at}.conv2", padding=1)
        return h + (self.conv(x, f"{at}.nin_shortcut") if f"{at}.nin_shortcut.weight" in self.w else x)

    def projections(self, x, at):
        return (self.conv(x, f"{at}.{name}") for name in "qkv")

    def attention(self, x, at):
        q, k, v = (part.flatten(2) for part in self.projections(self.norm(x, f"{at}.norm"), at))
        weights = (torch.einsum("bci,bcj->bij", q, k) * q.shape[1] ** -0.5).softmax(2)
        return x + self.conv(torch.einsum("bij,bcj->bci", weights, v).view_as(x), f"{at}.proj_out")

    def middle(self, x, at):
        x = self.attention(self.block(x, f"{at}.block_1"), f"{at}.attn_1")
        return self.block(x, f"{at}.block_2")

    def encode(self, image):
        x = self.conv(image, "encoder.conv_in", padding=1)
        for level in range(self.levels):
            for index in range(self.layers):
                x = self.block(x, f"encoder.down.{level}.block.{index}")
            if level < self.levels - 1:
                x = self.conv(F.pad(x, (0, 1, 0, 1)), f"encoder.down.{level}.downsample.conv", stride=2)
        x = self.swish(self.norm(self.middle(x, "encoder.mid"), "encoder.norm_out"))
        return self.conv(self.conv(x, "encoder.conv_out", padding=1), "quant_conv")

    def quantise(self, latent):
        entries = self.w["quantize.embedding.weight"]
        distances = (latent.movedim(1, -1)[..., None, :] - entries).square().sum(-1)
        return entries[distances.argmin(-1)].movedim(-1, 1)

    def decode(self, latent):
        x = self.conv(self.quantise(latent), "post_quant_conv")
        x = self.middle(self.conv(x, "decoder.conv_in", padding=1), "decoder.mid")
        for level in reversed(range(self.levels)):
            for index in range(self.layers + 1):
                x = self.block(x, f"decoder.up.{level}.block.{index}")
            if level:
                x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
                x = self.conv(x, f"decoder.up.{level}.upsample.conv", padding=1)
        return self.conv(self.swish(self.norm(x, "decoder.norm_out")), "decoder.conv_out", padding=1)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return random_weights(**SMALL)


@pytest.fixture(scope="module")
def small(weights: dict[str, torch.Tensor]) -> VQAutoencoder:
    autoencoder = VQAutoencoder(**SMALL).eval()
    autoencoder.load_released(weights)
    return autoencoder


@pytest.fixture(scope="module")
def plain(weights: dict[str, torch.Tensor]) -> Plain:
    return Plain(weights, levels=3, layers=1)


def test_the_published_size():
    with torch.device("meta"):
        autoencoder = VQAutoencoder()
    entries = {name: tuple(value.shape) for name, value in autoencoder.released_state().items()}
    assert entries == table() and len(entries) == 205
    assert autoencoder.factor == 4
    for part, count in (
        (autoencoder, 55_322_782),
        (autoencoder.encoder, 22_337_411),
        (autoencoder.decoder, 32_960_771),
    ):
        assert sum(p.numel() for p in part.parameters()) == count


@torch.no_grad()
@pytest.mark.parametrize("size", [(16, 24), (28, 20)])
def test_a_plain_forward_pass_gives_the_same(size, small, plain):
    torch.manual_seed(1)
    image = torch.rand(2, 3, *size) * 2 - 1
    latent = plain.encode(image)
    assert latent.shape == (2, 4, size[0] // 4, size[1] // 4) and latent.std() > 0.2
    torch.testing.assert_close(small.encode(image), latent, rtol=0, atol=1e-5)
    latent = 1.5 * torch.randn_like(latent)
    assert len(small.quantize.indices(latent).unique()) > 10
    decoded = plain.decode(latent)
    assert decoded.shape == image.shape and decoded.std() > 0.2
    torch.testing.assert_close(small.decode(latent), decoded, rtol=0, atol=1e-5)


def test_state_dict_round_trip(small, weights):
    other = VQAutoencoder(**SMALL)
    other.load_state_dict(small.state_dict())
    released = other.released_state()
    assert released.keys() == weights.keys()
    for name, value in weights.items():
        torch.testing.assert_close(released[name], value, rtol=0, atol=0)


def test_latents_leave_the_encoder_unquantised(small):
    latent = small.encode(torch.rand(1, 3, 16, 16))
    assert (latent - small.quantize(latent)).abs().max() > 0.01


def test_the_nearest_entry_is_taken_whatever_the_size_of_the_parts(monkeypatch):
    torch.manual_seed(0)
    codebook = VectorQuantizer(50, 3)
    torch.nn.init.normal_(codebook.embedding.weight)
    latent = torch.randn(2, 3, 5, 7)
    entries = codebook.embedding.weight.detach().double()
    distances = (latent.double().movedim(1, -1)[..., None, :] - entries).square().sum(-1)
    for at_once in (1, 50 * 8, 2**24):
        monkeypatch.setattr(vq_autoencoder, "DISTANCES", at_once)
        assert torch.equal(codebook.indices(latent), distances.argmin(-1))
    assert torch.equal(codebook(latent), entries[distances.argmin(-1)].movedim(-1, 1).float())
    assert codebook(latent[:0]).shape == (0, 3, 5, 7)


def test_the_gradient_passes_the_codebook_unchanged():
    codebook = VectorQuantizer(10, 3)
    latent = torch.randn(2, 3, 4, 4, requires_grad=True)
    slope = torch.randn(2, 3, 4, 4)
    (codebook(latent) * slope).sum().backward()
    torch.testing.assert_close(latent.grad, slope, rtol=0, atol=0)
    assert codebook.embedding.weight.grad is None


def test_decoding_passes_a_gradient_as_without_codebook(small, plain):
    """Straight-through: that of the decoder at the entries."""
    torch.manual_seed(2)
    latent = torch.randn(1, 4, 4, 4, requires_grad=True)
    entries = plain.quantise(latent).detach().requires_grad_()
    slope = torch.randn(1, 3, 16, 16)
    (small.decode(latent) * slope).sum().backward()
    (small.decoder(small.post_quant_conv(entries)) * slope).sum().backward()
    assert entries.grad.abs().max() > 0
    torch.testing.assert_close(latent.grad, entries.grad)


def test_equal_entries_and_near_ones():
    """The first of equals; entries too near each other for a matrix product in float32 to part."""
    codebook = VectorQuantizer(3, 2)
    with torch.no_grad():
        codebook.embedding.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0001, 1.0]]))
    latent = torch.tensor([[1.0, 1.0], [1.00009, 1.0]]).T.view(1, 2, 1, 2)
    for kind in (torch.float32, torch.float64):
        assert codebook.indices(latent.to(kind)).tolist() == [[[0, 2]]]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_shows(bad):
    latent = torch.zeros(1, 3, 2, 2)
    latent[0, 1, 0, 1] = bad
    with torch.no_grad():
        assert VectorQuantizer(10, 3)(latent).isnan().sum() == 1


@torch.no_grad()
def test_bf16_autocast_keeps_norms_and_distances(small):
    torch.manual_seed(3)
    image, latent = torch.rand(1, 3, 32, 32) * 2 - 1, torch.randn(1, 4, 8, 8)
    kinds = set()
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: kinds.add((inputs[0].dtype, output.dtype)))
        for module in small.modules()
        if isinstance(module, torch.nn.GroupNorm)
    ]
    with torch.autocast("cpu", torch.bfloat16):
        z, entries, decoded = small.encode(image), small.quantize(latent), small.decode(latent)
    for hook in hooks:
        hook.remove()
    assert kinds == {(torch.float32, torch.float32)}
    assert z.dtype == entries.dtype == torch.float32
    torch.testing.assert_close(entries, small.quantize(latent), rtol=0, atol=0)
    for low, full in ((z, small.encode(image)), (decoded, small.decode(latent))):
        assert (low - full).std() < 0.02 * full.std()


@torch.no_grad()
def test_a_half_precision_module(small):
    half = VQAutoencoder(**SMALL).to(torch.bfloat16)
    half.load_released(small.released_state())
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    z = half.encode(image)
    assert z.dtype == torch.bfloat16 and (z - small.encode(image)).std() < 0.05
    assert half.decode(z).isfinite().all()


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"channels": ()}, r"channels \[\] of the VQ autoencoder"),
        ({"channels": (32, 48)}, r"channels \[32, 48\] of the VQ autoencoder: .* multiples of 32"),
        ({"channels": (0,)}, "multiples of 32"),
        ({"layers": 0}, "layers 0 of the VQ autoencoder: give 1 or more"),
        ({"codebook": 0}, "codebook 0"),
        ({"latent_channels": -1}, "latent_channels -1"),
    ],
)
def test_bad_sizes(sizes, said):
    with pytest.raises(InputError, match=said):
        VQAutoencoder(**sizes)
