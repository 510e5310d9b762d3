"""The first stage that loses nothing, and the UNet on it."""

import pytest
import torch
from torch.nn import functional as F

from lit_thermal.blocks.cross_modal_attention import Views
from lit_thermal.errors import InputError
from lit_thermal.networks.latent_diffusion import PixelDiffusion
from lit_thermal.networks.view_pixels import PixelNorm, ViewPixels


def test_nothing_is_lost():
    stage, views, x = ViewPixels(4), Views(2), torch.rand(4, 3, 8, 12)
    latent, taps = stage.encode(x, views)
    assert latent.shape == (4, 48, 2, 3) and taps == []
    assert torch.equal(stage.decode(latent, taps, views), x)
    assert torch.equal(stage.decode(latent, taps, views, thermal_only=True), x[::2])
    assert not stage.state_dict()


def test_absent_views_are_zero():
    views = Views()
    views.set(2, torch.tensor([[True, False]]))
    latent, _ = ViewPixels(2).encode(torch.full((2, 3, 4, 4), torch.nan).index_fill(0, torch.tensor([0]), 1.0), views)
    assert (latent[0] == 1).all() and not latent[1].any()


def test_sides_that_do_not_fit():
    with pytest.raises(InputError, match="6x8 pixels cannot be rearranged"):
        ViewPixels(4).encode(torch.rand(2, 3, 6, 8), Views(2))


def test_the_norm_is_that_of_each_pixel():
    norm, x = PixelNorm(5).double(), torch.randn(2, 5, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(norm(x)[1, :, 2, 3], F.layer_norm(x[1, :, 2, 3], (5,), eps=1e-3))


def test_the_network_starts_at_zero_and_every_weight_can_be_reached():
    torch.manual_seed(0)
    unet, stage = PixelDiffusion(unshuffle=2, unet_widths=(16, 32), text_dim=8, head_dim=8).build()
    x, text = torch.randn(2, 12, 4, 6), torch.randn(2, 3, 8)
    assert stage.factor == 2 and not unet(x, 199, text).sample.any()
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "conv2" in name or "conv_out" in name:
                parameter.normal_(std=0.1)
    out = unet(x, 199, text).sample
    assert out.shape == x.shape
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in unet.parameters())


def test_twice_the_detail_is_not_normalised_away():
    """The trunk of the network carries the contrast of its input, which group norms would remove."""
    torch.manual_seed(0)
    unet, _ = PixelDiffusion(unshuffle=2, unet_widths=(16,), text_dim=8, head_dim=8).build()
    torch.nn.init.normal_(unet.conv_out.weight, std=0.1)
    x, text = torch.randn(1, 12, 8, 8), torch.randn(1, 3, 8)
    one, ten = unet(x, 199, text).sample, unet(10 * x, 199, text).sample
    assert ten.std() > 3 * one.std()


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"unshuffle": 0}, "must be positive"), ({"unet_widths": (24,), "head_dim": 16}, "24 is not a multiple")],
)
def test_sizes_that_do_not_go_together(changes, said):
    with pytest.raises(InputError, match=said):
        PixelDiffusion(**changes)
