import math

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from lit_thermal.errors import InputError
from lit_thermal.losses.psnr import ImagePSNR, PooledPSNR, PSNRLoss

MEMBERS = PSNRLoss.__subclasses__()


def images(batch: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """True images in [-1, 1], and restored ones with an error that differs from image to image."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(batch, 1, 6, 7, dtype=torch.float64, generator=generator) * 2 - 1
    noise = torch.randn(batch, 1, 6, 7, dtype=torch.float64, generator=generator)
    size = torch.logspace(-2, -1, batch, dtype=torch.float64).view(-1, 1, 1, 1)
    return (target + size * noise).requires_grad_(), target


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_mean_over_images(data_range):
    restored, target = images()
    errors = (restored - target).detach().square().flatten(1).mean(dim=1).tolist()
    each = [10 * math.log10(data_range**2 / error) for error in errors]
    loss = ImagePSNR(data_range, ceiling=30.0)(restored, target)
    assert loss.item() == pytest.approx(1 - sum(each) / 3 / 30, abs=1e-6)


@pytest.mark.parametrize("low, high, expected", [(-1, 1, 2), (0.2, 0.9, 0.9), (-0.6, -0.1, 0.6), (-0.3, 0.5, 0.8)])
def test_pooled_is_that_of_torchmetrics(low, high, expected):
    """Zero always counts to the range of the true values."""
    restored, target = images()
    lowest, highest = target.min(), target.max()
    scaled = (target - lowest) / (highest - lowest) * (high - low) + low
    psnr = peak_signal_noise_ratio(restored.detach(), scaled, data_range=float(expected))
    assert PooledPSNR()(restored, scaled).item() == pytest.approx(1 - float(psnr) / 40, abs=1e-6)


def test_known_values():
    target = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    for member in MEMBERS:
        assert member()(target + 0.02, target).item() == pytest.approx(0, abs=1e-5), "an error of 1 % is 40 dB"
        assert member()(target + 0.2, target).item() == pytest.approx(0.5, abs=1e-5)
        assert member(ceiling=20.0)(target + 0.2, target).item() == pytest.approx(0, abs=1e-5)


def test_pooling_is_dominated_by_the_worst_image():
    restored, target = images()
    assert PooledPSNR()(restored, target) > ImagePSNR()(restored, target) + 0.05
    one, true = restored[:1] * 1, target[:1] / target[:1].abs().max()
    true[0, 0, 0, :2] = torch.tensor([-1.0, 1.0])
    assert torch.allclose(PooledPSNR()(one, true), ImagePSNR()(one, true))


@pytest.mark.parametrize("member", MEMBERS)
def test_gradient(member):
    restored, target = images()
    loss = member()
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (restored,))


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("error", [0.0, 1e-30, 1e-12, 1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("value", [-1.0, 0.0, 0.5])
def test_finite_at_any_error_and_for_constant_images(member, error, value):
    target = torch.full((2, 1, 8, 8), value)
    restored = (torch.full_like(target, value) + error).requires_grad_()
    loss = member()(restored, target)
    loss.backward()
    assert loss.isfinite() and restored.grad.isfinite().all() and restored.grad.abs().max() < 1e4
    assert loss >= 1 - 100 / 40 - 1e-6, "at most 100 dB"
    assert (restored.grad >= 0).all(), "never away from the truth"


def test_one_perfect_image_does_not_hide_the_others():
    restored, target = images()
    restored = torch.cat([target[:1], restored[1:]]).detach().requires_grad_()
    ImagePSNR()(restored, target).backward()
    assert not restored.grad[0].any() and all(g.abs().sum() > 0 for g in restored.grad[1:])


@pytest.mark.parametrize("member", MEMBERS)
def test_computed_in_single_precision_under_autocast(member):
    restored, target = (x.detach().float() for x in images())
    exact = member()(restored, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(member()(restored, target), exact)
        assert member()(restored.bfloat16(), target).dtype == torch.float32


@pytest.mark.parametrize("options, match", [({"ceiling": 0.0}, "ceiling"), ({"data_range": -2.0}, "data_range")])
def test_bad_arguments(options, match):
    with pytest.raises(InputError, match=f"{match} must be"):
        ImagePSNR(**options)
