import pytest
import torch

from lit_thermal.ops.colour import adain


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_formula_channel_by_channel():
    image, reference = images(2, 3, 5, 7), images(2, 3, 4, 6, seed=1)
    given = adain(image, reference)
    for b in range(2):
        for c in range(3):
            x, y = image[b, c].flatten().tolist(), reference[b, c].flatten().tolist()
            means, deviations = [], []
            for values in (x, y):
                mean = sum(values) / len(values)
                means.append(mean)
                deviations.append((sum((v - mean) ** 2 for v in values) / (len(values) - 1) + 1e-5) ** 0.5)
            expected = [(v - means[0]) / deviations[0] * deviations[1] + means[1] for v in x]
            assert given[b, c].flatten().tolist() == pytest.approx(expected, abs=1e-12)


def test_an_image_is_its_own_and_changes_of_brightness_and_contrast_are_undone():
    image = images(2, 1, 8, 8)
    torch.testing.assert_close(adain(image, image), image, rtol=0, atol=1e-12)
    torch.testing.assert_close(adain(0.5 * image + 0.2, image), image, rtol=0, atol=1e-3)


def test_flat_images_take_the_mean_and_values_may_leave_the_range():
    flat, reference = torch.full((1, 1, 4, 4), 0.3, requires_grad=True), images(1, 1, 6, 6).float()
    given = adain(flat, reference)
    torch.testing.assert_close(given, reference.mean().expand(1, 1, 4, 4))
    given.sum().backward()
    assert flat.grad.isfinite().all()
    spike = torch.zeros(1, 1, 8, 8)
    spike[..., 0, 0] = 1
    assert adain(spike, reference).max() > 1


def test_half_precision_is_computed_in_float32_and_gradients_are_exact():
    image, reference = images(1, 1, 9, 9).float(), images(1, 1, 9, 9, seed=2).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(adain(image, reference), adain(image, reference).float())
        low = adain(image.bfloat16(), reference)
    assert low.dtype == torch.bfloat16 and (low - adain(image, reference)).abs().max() < 0.02
    assert torch.autograd.gradcheck(adain, (images(1, 1, 3, 3).requires_grad_(), images(1, 1, 2, 3).requires_grad_()))


def test_one_pixel_is_refused():
    with pytest.raises(ValueError, match="fewer than two pixels"):
        adain(images(1, 1, 4, 4), images(1, 1, 1, 1))
