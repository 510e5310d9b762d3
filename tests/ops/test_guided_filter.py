"""Guided filter and joint bilateral filter against slow definitions."""

import math

import pytest
import torch
from torch import Tensor

from lit_thermal.ops.blur import gaussian_blur
from lit_thermal.ops.guided_filter import back_projected, guided_filter, joint_bilateral_filter
from lit_thermal.ops.local_regression import local_regression
from lit_thermal.ops.resize import resize


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def window(i: int, radius: int, length: int) -> range:
    return range(max(0, i - radius), min(length, i + radius + 1))


@pytest.mark.parametrize("radius", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_local_regression_is_least_squares_in_each_window(radius, channels):
    x, guide, epsilon = rand(2, 1, 6, 5), rand(2, channels, 6, 5, seed=1), 1e-2
    fit = local_regression(x, guide, radius, epsilon)
    for b, i, j in [(0, 0, 0), (0, 3, 2), (1, 5, 4), (1, 2, 0)]:
        places = [(k, m) for k in window(i, radius, 6) for m in window(j, radius, 5)]
        g = torch.stack([guide[b, :, k, m] for k, m in places])
        t = torch.stack([x[b, 0, k, m] for k, m in places])
        n = len(places)
        # The penalty is epsilon in the mean, so its rows have the weight of the whole window.
        rows = torch.cat([torch.cat([g, torch.ones(n, 1)], 1), torch.zeros(channels, channels + 1)])
        rows[n:, :channels] = math.sqrt(epsilon * n) * torch.eye(channels)
        solution = torch.linalg.lstsq(rows, torch.cat([t, torch.zeros(channels)])[:, None]).solution[:, 0]
        torch.testing.assert_close(fit.slopes[b, :, i, j], solution[:-1])
        torch.testing.assert_close(fit.offset[b, 0, i, j], solution[-1])
        left = (t - g @ solution[:-1] - solution[-1]).square().mean()
        torch.testing.assert_close(fit.residual[b, 0, i, j], left)


def test_guided_filter_restores_what_is_linear_in_the_guide():
    guide = gaussian_blur(rand(1, 3, 48, 40), 2)
    x = 0.3 * guide[:, :1] - 0.5 * guide[:, 1:2] + 0.2 * guide[:, 2:] + 0.4
    lr = resize(x, (12, 10))
    result = guided_filter(lr, guide, radius=2, epsilon=1e-12, back_projections=0)
    torch.testing.assert_close(result, x, rtol=0, atol=1e-4)


def test_joint_bilateral_filter_equals_its_definition():
    lr, guide = rand(1, 1, 4, 5), rand(1, 3, 12, 15, seed=1)
    radius, distance, difference = 1, 0.8, 0.3
    result = joint_bilateral_filter(lr, guide, radius, distance, difference, back_projections=0)
    small = resize(guide, (4, 5))
    for i in range(12):
        for j in range(15):
            y, x = (i + 0.5) / 3 - 0.5, (j + 0.5) / 3 - 0.5
            top = below = 0.0
            for k in window(i // 3, radius, 4):
                for m in window(j // 3, radius, 5):
                    apart = ((y - k) ** 2 + (x - m) ** 2) / (2 * distance**2)
                    unlike = float((guide[0, :, i, j] - small[0, :, k, m]).square().sum()) / (2 * difference**2)
                    weight = math.exp(-apart - unlike)
                    top, below = top + weight * float(lr[0, 0, k, m]), below + weight
            assert float(result[0, 0, i, j]) == pytest.approx(top / below, rel=1e-9)


def test_a_guide_that_resembles_no_input_pixel_gives_finite_weights():
    result = joint_bilateral_filter(rand(1, 1, 4, 4), 1e3 * rand(1, 3, 8, 8), difference=1e-3, back_projections=0)
    assert result.isfinite().all() and result.min() >= 0 and result.max() <= 1


def test_back_projection_makes_the_reduced_result_the_input():
    lr, result = gaussian_blur(rand(1, 1, 8, 8), 1), rand(1, 1, 32, 32, seed=1)
    errors = [float((resize(back_projected(result, lr, times), (8, 8)) - lr).abs().mean()) for times in (0, 1, 3, 10)]
    assert errors == sorted(errors, reverse=True) and errors[3] < 0.1 * errors[0]


def test_sizes_that_do_not_fit_are_refused():
    for function in (guided_filter, joint_bilateral_filter):
        with pytest.raises(ValueError, match="not a multiple"):
            function(rand(1, 1, 4, 4), rand(1, 3, 16, 15))
