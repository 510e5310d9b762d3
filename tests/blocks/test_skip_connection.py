import pytest
import torch
from torch import nn

from lit_thermal.blocks.skip_connection import NoSkip, SkipConnection, ZeroSkip

ENCODER, DECODER = (3, 3, 5, 7), (9, 9, 7, 5)
"""Inputs of the encoder's blocks, the finest first, and of the decoder's, the coarsest first."""


def levels(batch: int = 2) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Features and tap of each level, the coarsest first."""
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(batch, wanted, 3 * 2**i, 2**i, generator=generator, requires_grad=True),
            torch.randn(batch, taken, 3 * 2**i, 2**i, generator=generator, requires_grad=True),
        )
        for i, (taken, wanted) in enumerate(zip(reversed(ENCODER), DECODER, strict=True))
    ]


def trained(member: type[SkipConnection]) -> SkipConnection:
    torch.manual_seed(0)
    skip = member(ENCODER, DECODER)
    for p in skip.parameters():
        nn.init.normal_(p, std=0.5)
    return skip


@pytest.mark.parametrize("member", SkipConnection.__subclasses__())
def test_every_level_keeps_its_shape_and_has_gradients(member):
    skip = trained(member)
    total = torch.zeros(())
    for level, (features, tap) in enumerate(levels()):
        joined = skip(level, features, tap)
        assert joined.shape == features.shape
        assert torch.allclose(skip(level, features[:1], tap[:1]), joined[:1], atol=1e-6), "each image by itself"
        total = total + joined.square().sum()
    total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in skip.parameters())


def test_published_widths():
    skip = ZeroSkip((128, 128, 256, 512), (512, 512, 512, 256))
    assert {name: tuple(value.shape) for name, value in skip.state_dict().items()} == {
        "skip_conv_1.weight": (512, 512, 1, 1),
        "skip_conv_2.weight": (512, 256, 1, 1),
        "skip_conv_3.weight": (512, 128, 1, 1),
        "skip_conv_4.weight": (256, 128, 1, 1),
    }
    assert sum(p.numel() for p in skip.parameters()) == 491_520


@pytest.mark.parametrize("init", [0.0, 1e-5])
def test_start(init):
    skip = ZeroSkip(ENCODER, DECODER, init=init)
    for level, (features, tap) in enumerate(levels()):
        expected = features + init * tap.sum(1, keepdim=True)
        assert torch.allclose(skip(level, features, tap), expected, atol=1e-7)


def test_zero_is_left_by_training():
    skip = ZeroSkip(ENCODER, DECODER)
    features, tap = levels()[0]
    skip(0, features, tap).square().sum().backward()
    assert skip.get_submodule("skip_conv_1").weight.grad.abs().sum() > 0


def test_trained_convolution_is_a_matrix_per_pixel():
    skip = trained(ZeroSkip).double()
    for level, (features, tap) in enumerate(levels()):
        features, tap = features.double(), tap.double()
        matrix = skip.get_submodule(f"skip_conv_{level + 1}").weight[:, :, 0, 0]
        expected = features + torch.einsum("oc,bchw->bohw", matrix, tap)
        assert torch.allclose(skip(level, features, tap), expected, atol=1e-12)


def test_no_skip_is_the_identity():
    skip = NoSkip(ENCODER, DECODER)
    assert not list(skip.parameters())
    features, tap = levels()[0]
    assert skip(0, features, tap) is features


def test_half_precision_is_close():
    skip = trained(ZeroSkip)
    for level, (features, tap) in enumerate(levels()):
        exact = skip(level, features, tap)
        with torch.autocast("cpu", torch.bfloat16):
            assert (skip(level, features, tap) - exact).abs().max() < 0.03 * exact.abs().max()


def test_other_number_of_levels_is_refused():
    with pytest.raises(ValueError):
        ZeroSkip(ENCODER, DECODER[1:])
