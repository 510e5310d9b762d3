import math

import pytest
import torch

from lit_thermal.errors import InputError
from lit_thermal.losses.similarity import PooledStructuralSimilarity, SimilarityLoss, StructuralSimilarity

MEMBERS = SimilarityLoss.__subclasses__()


def images(batch: int = 2, size: tuple[int, int] = (13, 15), seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth true images in [-1, 1] and restored ones that differ by noise."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(batch, 1, *size, dtype=torch.float64, generator=generator) * 1.4 - 0.7
    noise = torch.randn(batch, 1, *size, dtype=torch.float64, generator=generator)
    return (target + 0.2 * noise).clamp(-1, 1).requires_grad_(), target


def brute_force(restored, target, data_range):
    """Mean SSIM over all windows of 11 x 11 that lie in an image, each with its weighted moments."""
    profile = torch.tensor([math.exp(-(t**2) / (2 * 1.5**2)) for t in range(-5, 6)], dtype=torch.float64)
    window = profile[:, None] * profile / profile.sum() ** 2
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for x, y in zip(restored.detach().flatten(0, 1), target.flatten(0, 1), strict=True):
        for i in range(x.shape[0] - 10):
            for j in range(x.shape[1] - 10):
                a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                cov = (window * (a - ma) * (b - mb)).sum()
                values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(torch.stack(values).mean())


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_equals_the_written_out_formula(data_range):
    restored, target = images()
    loss = StructuralSimilarity(data_range)(restored, target)
    assert loss.item() == pytest.approx(1 - brute_force(restored, target, data_range), abs=1e-12)


@pytest.mark.parametrize("gain", [0.5, 1.0])
def test_pooled_takes_the_larger_range_of_the_batch(gain):
    restored, target = images()
    restored = restored * gain
    ranges = [float(x.detach().max() - x.detach().min()) for x in (restored, target)]
    assert (ranges[0] < ranges[1]) == (gain == 0.5), "both cases occur"
    loss = PooledStructuralSimilarity()(restored, target)
    assert loss.item() == pytest.approx(1 - brute_force(restored, target, max(ranges)), abs=1e-12)


@pytest.mark.parametrize("member", MEMBERS)
def test_gradient(member):
    restored, target = images(batch=1, size=(11, 12))
    loss = member()
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (restored,))


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("shape", [(1, 1, 11, 11), (3, 1, 17, 12), (2, 3, 16, 16)])
def test_equal_images_have_no_loss_and_others_have(member, shape):
    torch.manual_seed(0)
    target = torch.rand(shape) * 2 - 1
    assert member()(target, target).abs() < 1e-6
    assert 0.5 < member()(torch.rand(shape) * 2 - 1, target) <= 2, "an image that has nothing to do with it"
    assert 0.01 < member()(target + 0.1 * torch.randn(shape), target) < 0.5


def test_images_of_a_batch_do_not_touch_each_other():
    restored, target = images(batch=3)
    loss = StructuralSimilarity()
    apart = [loss(x, y) for x, y in zip(restored.split(1), target.split(1), strict=True)]
    assert torch.allclose(loss(restored, target), torch.stack(apart).mean(), atol=1e-12)


@pytest.mark.parametrize("a, b", [(0.0, 0.0), (0.5, -0.25), (-1.0, 1.0)])
def test_constant_images_leave_the_luminance_term(a, b):
    x, y = torch.full((1, 1, 12, 12), a), torch.full((1, 1, 12, 12), b)
    expected = (2 * a * b + 4e-4) / (a**2 + b**2 + 4e-4)
    assert StructuralSimilarity()(x, y).item() == pytest.approx(1 - expected, abs=1e-4)


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("target", [-1.0, -0.7, 0.0, 1.0])
@pytest.mark.parametrize("restored", [-1.0, -0.7, 0.0, 0.3, None])
def test_constant_images_are_finite(member, restored, target):
    shape = (2, 1, 16, 16)
    x = torch.rand(shape) if restored is None else torch.full(shape, restored)
    x.requires_grad_()
    loss = member()(x, torch.full(shape, target))
    loss.backward()
    assert 0 <= loss <= 2.05 and x.grad.isfinite().all() and x.grad.abs().max() < 1


@pytest.mark.parametrize("member", MEMBERS)
def test_computed_in_single_precision_under_autocast(member):
    restored, target = (x.detach().float() for x in images())
    exact = member()(restored, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(member()(restored, target), exact)
        assert member()(restored.bfloat16(), target).dtype == torch.float32


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("size", [(10, 40), (40, 10), (1, 1)])
def test_images_smaller_than_the_window_are_refused(member, size):
    message = f"{member.__name__} needs images of at least 11 x 11, not {size[0]} x {size[1]}"
    with pytest.raises(InputError, match=message):
        member()(torch.rand(1, 1, *size), torch.rand(1, 1, *size))


@pytest.mark.parametrize("data_range", [0.0, -1.0, math.nan])
def test_range_must_be_positive(data_range):
    with pytest.raises(InputError, match="data_range must be positive"):
        StructuralSimilarity(data_range)
