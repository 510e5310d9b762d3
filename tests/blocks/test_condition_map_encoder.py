import math
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from torch.nn import functional as F

from lit_thermal.blocks.condition_map_encoder import ConvStackEncoder, DINOv3Encoder, MapEncoder
from lit_thermal.errors import InputError

# a transformer of patch 16 that builds in a moment; DINOv3's own is below
SMALL = {ConvStackEncoder: {"widths": (4, 6, 8, 10)}, DINOv3Encoder: {"name": "test_vit2"}}
MEMBERS = [partial(member, **SMALL.get(member, {})) for member in MapEncoder.__subclasses__()]
WIDTH = 12


def made(member, channels: int = 3, seed: int = 0) -> MapEncoder:
    torch.manual_seed(seed)
    return member(channels, WIDTH)


def images(*shape: int) -> torch.Tensor:
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(1)) - 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.func.__name__)
def test_any_size_forward_and_backward(member, channels):
    encoder = made(member, channels)
    assert encoder.factor == 16
    for size in ((32, 48), (64, 16)):
        image = images(2, channels, *size).requires_grad_()
        result = encoder(image)
        assert result.shape == (2, WIDTH, size[0] // 16, size[1] // 16) and result.isfinite().all()
        encoder.zero_grad()
        result.square().sum().backward()
        for tensor in (image, *encoder.parameters()):
            assert tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.func.__name__)
def test_images_by_themselves_whatever_the_precision_around(member):
    encoder, image = made(member).eval(), images(3, 3, 32, 32)
    whole = encoder(image)
    torch.testing.assert_close(encoder(image[1:2]), whole[1:2], rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder(image), whole)
        low = encoder(image.bfloat16())
    assert low.dtype == torch.float32 and (low - whole).abs().max() < 0.05 * whole.abs().max()


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.func.__name__)
def test_state_dict_round_trip(member):
    encoder, other, image = made(member).eval(), made(member, seed=1).eval(), images(1, 3, 32, 32)
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(encoder(image), other(image))


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: m.func.__name__)
@pytest.mark.parametrize("shape", [(1, 3, 40, 32), (1, 3, 32, 8), (1, 1, 32, 32), (1, 3, 0, 32)])
def test_images_that_do_not_fit(member, shape):
    with pytest.raises(InputError, match="takes 3 channels and sides that are multiples of 16") as caught:
        made(member)(images(*shape))
    assert str(shape[1:]) in str(caught.value)


def test_the_conv_stack_step_by_step():
    """Written from the specification: in, four pairs of which the second halves, out; SiLU after all but the last."""
    encoder, image = made(MEMBERS[0]).double(), images(1, 3, 32, 16).double()
    w = encoder.state_dict()
    x = F.silu(F.conv2d(image, w["conv_in.weight"], w["conv_in.bias"], padding=1))
    for index in range(8):
        weight, bias = w[f"blocks.{index}.weight"], w[f"blocks.{index}.bias"]
        x = F.silu(F.conv2d(x, weight, bias, padding=1, stride=1 + index % 2))
    expected = F.conv2d(x, w["conv_out.weight"], w["conv_out.bias"], padding=1)
    torch.testing.assert_close(encoder(image), expected, rtol=0, atol=1e-12)


def test_the_conv_stack_s_factor_is_one_halving_for_each_width():
    encoder = ConvStackEncoder(1, 5, widths=(3, 4))
    assert encoder.factor == 4 and encoder(images(2, 1, 8, 12)).shape == (2, 5, 2, 3)
    for wrong in ((), (4, 0)):
        with pytest.raises(InputError, match=r"widths .* give at least one"):
            ConvStackEncoder(1, 5, widths=wrong)
    with pytest.raises(InputError, match="width 0 of ConvStackEncoder"):
        ConvStackEncoder(1, 0)


@pytest.mark.parametrize("widths", [(4, 4, 4, 4), (16, 32, 64, 128)])
def test_the_conv_stack_keeps_the_size_of_features_at_the_start(widths):
    encoder = ConvStackEncoder(1, 32, widths)
    with torch.no_grad():
        result = encoder(torch.randn(2, 1, 128, 128, generator=torch.Generator().manual_seed(2)))
    assert 0.1 < result.square().mean().sqrt() < 4


def test_the_published_conv_stack():
    with torch.device("meta"):
        encoder = ConvStackEncoder(3, 1536)
    shapes = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    wide = [32, 32, 128, 128, 256, 256, 512, 512, 1536]
    expected = {"conv_in": (32, 3), "conv_out": (1536, 1536)}
    expected |= {f"blocks.{index}": (wide[index + 1], wide[index]) for index in range(8)}
    assert shapes == {f"{name}.weight": (*shape, 3, 3) for name, shape in expected.items()} | {
        f"{name}.bias": shape[:1] for name, shape in expected.items()
    }
    assert round(sum(math.prod(shape) for shape in shapes.values()) / 1e6, 2) == 32.93


def test_limits_become_black_and_white():
    encoder, image = made(MEMBERS[1]).eval(), images(1, 3, 32, 32)
    torch.testing.assert_close(encoder(4 * (image + 1) / 2, (0.0, 4.0)), encoder(image), rtol=0, atol=1e-4)
    assert not torch.allclose(encoder(image, (0.0, 4.0)), encoder(image), atol=1e-2)
    features = encoder.backbone((image + 1) / 2)[16]
    tokens = F.layer_norm(features.flatten(2).mT, features.shape[1:2])
    expected = F.linear(tokens, encoder.linear.weight, encoder.linear.bias).mT.unflatten(-1, (2, 2))
    torch.testing.assert_close(encoder(image), expected)


def test_one_channel_is_three_equal_ones():
    grey, colour, image = made(MEMBERS[1], 1).eval(), made(MEMBERS[1], 3).eval(), images(1, 1, 32, 32)
    colour.load_state_dict(grey.state_dict())
    assert torch.equal(grey(image), colour(image.expand(-1, 3, -1, -1)))
    with pytest.raises(InputError, match="in_channels 2: it takes images of 1 or 3"):
        DINOv3Encoder(2, WIDTH, name="test_vit2")


def test_the_smallest_dinov3_has_the_tokens_of_the_published_size():
    with torch.device("meta"):
        encoder = DINOv3Encoder(1, 1536)
        assert encoder.factor == 16 and encoder.backbone(torch.zeros(1, 3, 512, 512))[16].shape == (1, 384, 32, 32)
    assert sum(p.numel() for p in encoder.backbone.parameters()) > 21e6


def test_weights_of_a_file_and_what_is_said_where_there_are_none(tmp_path: Path, monkeypatch):
    state = timm.create_model("test_vit2").state_dict()
    torch.save(state, tmp_path / "vit.pth")
    encoder = DINOv3Encoder(1, WIDTH, name="test_vit2", weights=str(tmp_path / "vit.pth"))
    loaded = encoder.backbone.state_dict()
    name = next(name for name in loaded if name.endswith("blocks.0.attn.qkv.weight"))
    assert torch.equal(loaded[name], state["blocks.0.attn.qkv.weight"])
    with pytest.raises(InputError, match=r"there is no file .*none\.pth"):
        DINOv3Encoder(1, WIDTH, name="test_vit2", weights=str(tmp_path / "none.pth"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(InputError, match=r"model\.safetensors of timm/vit_small_patch16_dinov3\.lvd1689m are not on"):
        DINOv3Encoder(1, WIDTH, pretrained=True)
