import pytest
import torch

from lit_thermal.ops.blur import gaussian_blur


def test_blur_keeps_the_mean_of_a_constant_and_equals_the_formula() -> None:
    torch.testing.assert_close(gaussian_blur(torch.full((2, 1, 9, 9), 0.3), 1.5), torch.full((2, 1, 9, 9), 0.3))
    point = torch.zeros(1, 31, 31)
    point[0, 15, 15] = 1
    blurred = gaussian_blur(point, 2.0)[0]
    ratio = blurred[15, 18] / blurred[15, 15]
    assert ratio.item() == pytest.approx(2.718281828 ** (-9 / 8), rel=1e-4)
    assert blurred.sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(gaussian_blur(point, 0.0), point)


def test_blur_is_the_same_for_any_leading_axes_and_per_axis() -> None:
    images = torch.rand(2, 3, 1, 8, 5)
    both = gaussian_blur(images, 1.2)
    torch.testing.assert_close(both[1, 2], gaussian_blur(images[1, 2], 1.2))
    torch.testing.assert_close(both, gaussian_blur(gaussian_blur(images, (1.2, 0.0)), (0.0, 1.2)))
