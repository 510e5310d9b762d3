import math

import pytest
import torch
from torch.nn import functional as F

from lit_thermal.ops.kernels import disc_kernel, filter2d, gaussian_kernel, motion_kernel, plateau_kernel, sinc_kernel

SHAPES = {
    "isotropic": lambda size: gaussian_kernel(size, 1.3),
    "anisotropic": lambda size: gaussian_kernel(size, (2.5, 0.7), 0.6),
    "generalised": lambda size: gaussian_kernel(size, (2.0, 1.1), -1.2, 0.5),
    "plateau": lambda size: plateau_kernel(size, (2.0, 0.4), 2.0, 1.7),
    "sinc": lambda size: sinc_kernel(size, 1.9),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 3, 13, 21])
def test_kernels_sum_to_one_and_stay_under_half_a_turn(shape: str, size: int) -> None:
    kernel = SHAPES[shape](size)
    assert kernel.shape == (size, size) and kernel.dtype == torch.float64
    assert abs(float(kernel.sum()) - 1) < 1e-12
    torch.testing.assert_close(kernel, kernel.flip(0, 1), rtol=0, atol=1e-15)
    if shape in ("isotropic", "sinc"):
        torch.testing.assert_close(kernel, kernel.mT, rtol=0, atol=1e-15)
        torch.testing.assert_close(kernel, kernel.flip(0), rtol=0, atol=1e-15)


def test_a_wide_enough_gaussian_has_the_covariance_it_was_asked_for() -> None:
    first, second, angle = 2.4, 1.1, 0.5
    kernel = gaussian_kernel(31, (first, second), angle)
    offset = torch.arange(31, dtype=torch.float64) - 15
    xx, yy = float((kernel * offset**2).sum()), float((kernel * offset[:, None] ** 2).sum())
    xy = float((kernel * offset * offset[:, None]).sum())
    cos, sin = math.cos(angle), math.sin(angle)
    assert xx == pytest.approx(first**2 * cos**2 + second**2 * sin**2, rel=1e-4)
    assert yy == pytest.approx(first**2 * sin**2 + second**2 * cos**2, rel=1e-4)
    assert xy == pytest.approx((first**2 - second**2) * sin * cos, rel=1e-4)
    torch.testing.assert_close(gaussian_kernel(31, (1.1, 2.4), angle + math.pi / 2), kernel)


def test_shapes_at_single_positions() -> None:
    general, plateau = gaussian_kernel(5, 1.5, beta=0.7), plateau_kernel(5, 1.5, beta=1.4)
    q = 2**2 / 1.5**2
    assert float(general[2, 4] / general[2, 2]) == pytest.approx(math.exp(-(q**0.7) / 2))
    assert float(plateau[2, 4] / plateau[2, 2]) == pytest.approx(1 / (1 + q**1.4))


def test_the_sinc_kernel_is_the_inverse_transform_of_a_disc() -> None:
    cutoff, radius = 1.4, 40
    kernel = sinc_kernel(2 * radius + 1, cutoff)
    # Midpoint rule over the disc of frequencies: (1 / 4 pi^2) sum of cos(u x + v y).
    count = 400
    f = (torch.arange(count, dtype=torch.float64) + 0.5) / count * 2 * cutoff - cutoff
    inside = (f**2 + f[:, None] ** 2 < cutoff**2).double()
    area = (2 * cutoff / count) ** 2
    for y, x in ((0, 0), (0, 1), (2, 1), (3, 4)):
        wave = torch.cos(f[None] * x + f[:, None] * y)
        reference = float((inside * wave).sum()) * area / (4 * math.pi**2)
        ratio = float(kernel[radius + y, radius + x] / kernel[radius, radius])
        assert ratio == pytest.approx(reference / (cutoff**2 / (4 * math.pi)), abs=2e-3)
    # It passes what is slow and stops what is fast.
    wave = torch.cos(torch.arange(2 * radius + 1, dtype=torch.float64) - radius)
    for frequency, passed in ((0.4, 1.0), (2.6, 0.0)):
        wave = torch.cos(frequency * (torch.arange(2 * radius + 1, dtype=torch.float64) - radius))
        assert float((kernel * wave).sum()) == pytest.approx(passed, abs=0.05)


@pytest.mark.parametrize("size", [(11, 14), (40, 33)])
@pytest.mark.parametrize("taps", [1, 5, 9])
def test_filtering_equals_conv2d_over_a_mirror(size: tuple[int, int], taps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 1, *size, generator=generator, dtype=torch.float64)
    kernel = torch.rand(taps, taps, generator=generator, dtype=torch.float64)
    reference = F.conv2d(F.pad(x, (taps // 2,) * 4, mode="reflect"), kernel[None, None])
    torch.testing.assert_close(filter2d(x, kernel), reference, rtol=0, atol=1e-12)
    single = filter2d(x.float(), kernel)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 40)])
def test_an_image_smaller_than_the_kernel_stays_a_mean(size: tuple[int, int]) -> None:
    x = torch.rand(1, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel = gaussian_kernel(19, 3.0)
    filtered = filter2d(x, kernel)
    assert filtered.shape == x.shape and filtered.min() >= x.min() and filtered.max() <= x.max()
    torch.testing.assert_close(filter2d(torch.full_like(x, 0.3), kernel), torch.full_like(x, 0.3))


def test_filtering_is_differentiable() -> None:
    x = torch.rand(1, 5, 6, dtype=torch.float64, requires_grad=True)
    kernel = sinc_kernel(5, 2.0).requires_grad_()
    assert torch.autograd.gradcheck(filter2d, (x, kernel))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="the size must be odd"):
        gaussian_kernel(4, 1.0)
    with pytest.raises(ValueError, match="must be above 0"):
        plateau_kernel(3, (1.0, 0.0))
    with pytest.raises(ValueError, match="cut-off"):
        sinc_kernel(3, 0.0)


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.5, 1.0, 2.4, 7.0])
def test_disc_kernel_weighs_what_the_disc_covers(radius):
    kernel = disc_kernel(radius)
    assert torch.equal(kernel, kernel.mT) and torch.equal(kernel, kernel.flip(0))
    assert float(kernel.sum()) == pytest.approx(1) and kernel.min() >= 0
    size = kernel.shape[0]
    assert size % 2 == 1 and size // 2 < radius + 0.5
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    # The variance of a disc along each axis is r^2 / 4; counting by pixels adds 1 / 12 (Sheppard).
    variance = float((kernel.sum(0) * offset**2).sum())
    if radius >= 2:
        assert variance == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.03)
        inner = offset[:, None] ** 2 + offset**2 <= (radius - 0.75) ** 2
        assert (kernel[inner] - 1 / (math.pi * radius**2)).abs().max() < 0.02 / (math.pi * radius**2)
    if radius <= 0.5:
        assert size == 1


@pytest.mark.parametrize("length", [0.0, 0.4, 3.0, 8.5])
@pytest.mark.parametrize("angle", [0.0, 0.6, math.pi / 2, 2.5])
def test_motion_kernel_lies_along_its_way(length, angle):
    kernel = motion_kernel(length, angle)
    assert torch.equal(kernel, kernel.flip(0, 1)) and float(kernel.sum()) == pytest.approx(1)
    assert kernel.shape[0] == 2 * math.ceil(length / 2) + 1
    offset = torch.arange(kernel.shape[0], dtype=torch.float64) - kernel.shape[0] // 2
    along = offset * math.cos(angle) - offset[:, None] * math.sin(angle)
    across = offset * math.sin(angle) + offset[:, None] * math.cos(angle)
    if length > 1:
        # length^2 / 12, and up to 1 / 4 of linear weighing
        assert length**2 / 12 - 0.02 < float((kernel * along**2).sum()) < length**2 / 12 + 0.27
        assert float((kernel * across**2).sum()) < 0.27
    if angle == 0.0 and length == 3.0:
        assert torch.allclose(kernel[2], torch.tensor([1 / 24, 7 / 24, 1 / 3, 7 / 24, 1 / 24]).double(), atol=1e-3)


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_shapes_of_no_size_are_refused(value):
    with pytest.raises(ValueError, match="radius of a disc"):
        disc_kernel(value)
    with pytest.raises(ValueError, match="length of a motion"):
        motion_kernel(value, 0.0)
