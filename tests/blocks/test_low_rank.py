import math

import pytest
import torch
from torch import nn

from lit_thermal.blocks.cross_modal_attention import CrossModalSelfAttention, Views
from lit_thermal.blocks.low_rank import add_lora, merge, trainable
from lit_thermal.blocks.pretrained import without_pretrained
from lit_thermal.blocks.skip_connection import NoSkip
from lit_thermal.errors import InputError
from lit_thermal.networks.latent_diffusion import SDTurbo, SmallLatentDiffusion
from lit_thermal.networks.view_autoencoder import ViewAutoencoder


def small(skip=None) -> tuple[nn.Module, ViewAutoencoder]:
    torch.manual_seed(0)
    unet, vae = SmallLatentDiffusion(unet_widths=(16, 32), vae_widths=(8, 16), head_dim=8, text_dim=8).build()
    return unet, ViewAutoencoder(vae, *([skip] if skip else []))


@pytest.fixture(scope="module")
def published() -> tuple[nn.Module, ViewAutoencoder]:
    """Both networks at their published size, without storage."""
    with torch.device("meta"), without_pretrained():
        unet, vae = SDTurbo().build()
        autoencoder = ViewAutoencoder(vae)
        add_lora(unet, autoencoder)
    return unet, autoencoder


def run(unet: nn.Module, autoencoder: ViewAutoencoder) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x, text = torch.rand(4, 3, 8, 12, generator=generator), torch.randn(4, 3, 8, generator=generator)
    views = Views(2)
    latent, taps = autoencoder.encode(x, views)
    return autoencoder.decode(unet(latent, 199, text).sample, taps, views)


def lora(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p for name, p in network.named_parameters() if ".lora_" in name}


def learned(network: nn.Module) -> None:
    """LoRA that adds something."""
    for p in lora(network).values():
        nn.init.normal_(p, std=0.05)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def test_published_counts(published):
    unet, autoencoder = published
    for network, layers, values in ((unet, 257, 16_217_152), (autoencoder, 43, 523_932)):
        added = lora(network)
        assert len(added) == 2 * layers and sum(p.numel() for p in added.values()) == values
    assert len(unet.state_dict()) == 1200
    assert sum(v.numel() for v in unet.state_dict().values()) == 882_127_876
    trainable(*published, train="lora_and_unet")
    assert (count(unet), count(autoencoder)) == (882_127_876, 1_015_452)
    trainable(*published, train="lora")
    assert (count(unet), count(autoencoder)) == (16_217_152, 1_015_452)
    trainable(*published, train="all")
    assert count(autoencoder) == 83_653_863 + 1_015_452


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv_in.weight", (320, 4, 3, 3)),
        ("down_blocks.0.attentions.0.proj_in.base_layer.weight", (320, 320)),
        ("down_blocks.0.attentions.0.proj_in.lora_A.default.weight", (16, 320)),
        ("down_blocks.0.attentions.0.proj_in.lora_B.default.weight", (320, 16)),
        ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.base_layer.weight", (320, 320)),
        ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0.base_layer.bias", (320,)),
        ("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.default.weight", (16, 1024)),
        ("down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj.lora_B.default.weight", (2560, 16)),
        ("down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.base_layer.weight", (320, 1280)),
        ("down_blocks.0.resnets.0.conv1.lora_A.default.weight", (16, 320, 3, 3)),
        ("down_blocks.0.resnets.0.conv1.lora_B.default.weight", (320, 16, 1, 1)),
        ("down_blocks.0.resnets.0.time_emb_proj.weight", (320, 1280)),
        ("down_blocks.0.downsamplers.0.conv.base_layer.weight", (320, 320, 3, 3)),
        ("up_blocks.0.upsamplers.0.conv.base_layer.weight", (1280, 1280, 3, 3)),
        ("conv_out.lora_A.default.weight", (16, 320, 3, 3)),
        ("conv_out.lora_B.default.weight", (4, 16, 1, 1)),
    ],
)
def test_published_names_of_the_unet(published, name, shape):
    assert tuple(published[0].state_dict()[name].shape) == shape


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("decoder.conv_in.lora_A.vae_skip.weight", (4, 4, 3, 3)),
        ("decoder.conv_in.lora_B.vae_skip.weight", (512, 4, 1, 1)),
        ("decoder.mid_block.attentions.0.to_q.lora_A.vae_skip.weight", (4, 512)),
        ("decoder.up_blocks.2.resnets.0.conv_shortcut.lora_A.vae_skip.weight", (4, 512, 1, 1)),
        ("decoder.up_blocks.2.resnets.0.conv_shortcut.lora_B.vae_skip.weight", (256, 4, 1, 1)),
        ("decoder.skip_conv_1.base_layer.weight", (512, 512, 1, 1)),
        ("decoder.skip_conv_1.lora_A.vae_skip.weight", (4, 512, 1, 1)),
        ("decoder.skip_conv_4.base_layer.weight", (256, 128, 1, 1)),
        ("encoder.conv_in.weight", (128, 3, 3, 3)),
        ("post_quant_conv.weight", (4, 4, 1, 1)),
    ],
)
def test_published_names_of_the_autoencoder(published, name, shape):
    """Ours has the autoencoder below `vae` and the skips below `skip`."""
    own = f"skip.{name.removeprefix('decoder.')}" if "skip_conv" in name else f"vae.{name}"
    assert tuple(published[1].state_dict()[own].shape) == shape


def test_saved_entries_of_the_released_autoencoder(published):
    saved = [v for name, v in published[1].state_dict().items() if "lora" in name or "skip." in name]
    assert len(saved) == 90 and sum(v.numel() for v in saved) == 1_015_452


def test_nothing_changes_at_first():
    networks = small()
    with torch.no_grad():
        before = run(*networks)
        add_lora(*networks)
        assert torch.allclose(run(*networks), before, atol=1e-6)
    for network, adapter, rank in zip(networks, ("default", "vae_skip"), (16, 4), strict=True):
        first = torch.cat([p.flatten() for name, p in lora(network).items() if f".lora_A.{adapter}." in name])
        assert math.isclose(float(first.std().detach()), 1 / rank, rel_tol=0.1)
        assert all(not p.any() for name, p in lora(network).items() if f".lora_B.{adapter}." in name)


def test_what_is_added_is_scaled_by_eight_over_the_rank():
    unet, autoencoder = small()
    add_lora(unet, autoencoder, unet_rank=2, vae_rank=4)
    for layer, adapter, scale in (
        (unet.down_blocks[0].attentions[0].proj_in, "default", 4),
        (autoencoder.vae.decoder.mid_block.attentions[0].to_q, "vae_skip", 2),
    ):
        for part in (layer.lora_A, layer.lora_B):
            nn.init.normal_(part[adapter].weight)
        x = torch.randn(3, layer.in_features)
        added = x @ layer.lora_A[adapter].weight.T @ layer.lora_B[adapter].weight.T
        assert torch.allclose(layer(x), layer.base_layer(x) + scale * added, atol=1e-4)


def test_after_merging_the_output_is_the_same():
    unet, autoencoder = small()
    views = Views(2)
    CrossModalSelfAttention().install(unet, views)
    names = [list(network.state_dict()) for network in (unet, autoencoder)]
    with torch.no_grad():
        before = run(unet, autoencoder)
        add_lora(unet, autoencoder)
        learned(unet), learned(autoencoder)
        expected = run(unet, autoencoder)
        merge(unet, autoencoder)
        assert [list(network.state_dict()) for network in (unet, autoencoder)] == names
        assert not any("lora" in type(m).__module__ for n in (unet, autoencoder) for m in n.modules())
        assert torch.allclose(run(unet, autoencoder), expected, atol=1e-4)
        assert (expected - before).abs().max() > 0.01
    merge(unet, autoencoder)
    add_lora(unet, autoencoder)


@pytest.mark.parametrize("train", ["lora", "lora_and_unet", "all"])
def test_what_has_a_gradient(train):
    unet, autoencoder = small()
    add_lora(unet, autoencoder)
    learned(unet), learned(autoencoder)
    trainable(unet, autoencoder, train)
    run(unet, autoencoder).square().sum().backward()
    for network in (unet, autoencoder):
        assert all((p.grad is not None) == p.requires_grad for p in network.parameters())
        assert all(p.requires_grad for p in lora(network).values())
    assert all(p.requires_grad for p in autoencoder.skip.parameters())
    assert unet.conv_in.weight.requires_grad == (train != "lora")
    assert autoencoder.vae.encoder.conv_in.weight.requires_grad == (train == "all")
    assert autoencoder.vae.decoder.conv_in.base_layer.weight.requires_grad == (train == "all")


def test_all_without_lora():
    unet, autoencoder = small()
    unet.requires_grad_(False)
    trainable(unet, autoencoder, "all")
    assert all(p.requires_grad for network in (unet, autoencoder) for p in network.parameters())
    with pytest.raises(InputError, match="train 'lora' needs LoRA"):
        trainable(unet, autoencoder, "lora")


def test_without_skips():
    networks = small(NoSkip)
    add_lora(*networks)
    trainable(*networks, "lora")
    assert not list(networks[1].skip.parameters())
    run(*networks).sum().backward()


@pytest.mark.parametrize("name", ["unet_rank", "vae_rank"])
def test_ranks_that_cannot_be(name):
    with pytest.raises(InputError, match=f"{name} 0 of LoRA"):
        add_lora(*small(), **{name: 0})


def test_half_precision_is_close():
    networks = small()
    add_lora(*networks)
    learned(networks[0]), learned(networks[1])
    with torch.no_grad():
        exact = run(*networks)
        with torch.autocast("cpu", torch.bfloat16):
            assert (run(*networks) - exact).abs().max() < 0.05 * exact.abs().max()


def test_state_dict_round_trip():
    one, other = small(), small()
    add_lora(*one)
    add_lora(*other)
    for mine, its in zip(one, other, strict=True):
        learned(mine)
        its.load_state_dict(mine.state_dict())
    with torch.no_grad():
        assert torch.equal(run(*one), run(*other))
