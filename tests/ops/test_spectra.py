import math

import numpy as np
import pytest
import torch

from lit_thermal.ops.spectra import log_spectrum, normalized_spectrum

SIZES = [(8, 8), (7, 9), (1, 5), (16, 6)]


def images(batch: int = 3, channels: int = 1, size: tuple[int, int] = (12, 15)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.rand(batch, channels, *size, generator=generator, dtype=torch.float64) - 1


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 3)])
def test_log_spectrum_against_the_sum_of_the_paper(size):
    height, width = size
    image = images(1, size=size)[0, 0]
    ours = log_spectrum(image)
    y, x = np.mgrid[:height, :width]
    for u in range(height):
        for v in range(width):
            wave = np.exp(-2j * np.pi * (u * y / height + v * x / width))
            expected = math.log1p(abs((image.numpy() * wave).sum()))
            at = (u + height // 2) % height, (v + width // 2) % width
            assert ours[at].item() == pytest.approx(expected, abs=1e-12)


def test_frequency_zero_is_in_the_centre():
    for size in SIZES:
        spectrum = log_spectrum(torch.full((1, 1, *size), 0.5))
        assert spectrum[0, 0, size[0] // 2, size[1] // 2] == pytest.approx(math.log1p(0.5 * size[0] * size[1]))
        assert spectrum.count_nonzero() == 1


@pytest.mark.parametrize("size", SIZES)
def test_each_image_has_zero_mean_and_unit_variance(size):
    spectrum = normalized_spectrum(images(channels=2, size=size))
    assert spectrum.shape == (3, 2, *size)
    assert torch.allclose(spectrum.mean(dim=(1, 2, 3)), torch.zeros(3).double(), atol=1e-10)
    assert torch.allclose(spectrum.var(dim=(1, 2, 3), correction=0), torch.ones(3).double(), atol=1e-6)


def test_images_are_normalised_by_themselves_and_batches_as_one():
    batch = images()
    alone = torch.cat([normalized_spectrum(image[None]) for image in batch])
    assert torch.equal(normalized_spectrum(batch), alone)
    whole = log_spectrum(batch)
    expected = (whole - whole.mean()) / (whole.std(correction=1) + 1e-8)
    assert torch.allclose(normalized_spectrum(batch, "batch"), expected, atol=1e-13)
    assert not torch.allclose(normalized_spectrum(batch, "batch"), alone, atol=1e-3)


def test_three_equal_channels_differ_from_one_by_the_count_alone():
    batch = images()
    one, three = normalized_spectrum(batch, "batch"), normalized_spectrum(batch.expand(-1, 3, -1, -1), "batch")
    count = batch.numel()
    factor = math.sqrt((3 * count - 1) / (3 * count) * count / (count - 1))
    assert torch.allclose(three, factor * one.expand(-1, 3, -1, -1), atol=1e-7)
    per_image = normalized_spectrum(batch.expand(-1, 3, -1, -1))
    assert torch.allclose(per_image, normalized_spectrum(batch).expand(-1, 3, -1, -1), atol=1e-12)


@pytest.mark.parametrize("over", ["image", "batch"])
def test_gradient(over):
    image = images(2, size=(4, 5)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: normalized_spectrum(x, over), image)


@pytest.mark.parametrize("over", ["image", "batch"])
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_constant_images_have_finite_values_and_gradients(over, value):
    image = torch.full((2, 1, 6, 6), value, requires_grad=True)
    spectrum = normalized_spectrum(image, over)
    (gradient,) = torch.autograd.grad(spectrum.square().sum(), image)
    assert spectrum.isfinite().all() and gradient.isfinite().all()
    if value == 0:
        assert not spectrum.any()


@pytest.mark.parametrize("over", ["image", "batch"])
def test_half_precision_is_computed_in_float32(over):
    image = images(size=(7, 9)).bfloat16()
    exact = normalized_spectrum(image.float(), over)
    with torch.autocast("cpu", torch.bfloat16):
        ours = normalized_spectrum(image, over)
    assert ours.dtype == torch.float32 and torch.equal(ours, exact)


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match="is 'both'; must be one of image, batch"):
        normalized_spectrum(images(), "both")  # type: ignore[arg-type]
