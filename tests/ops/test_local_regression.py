"""Local regression and what is built of it: slopes, unexplained shares and guided transfer, against brute force."""

import math

import pytest
import torch

from lit_thermal.ops.guided_transfer import guided_transfer
from lit_thermal.ops.local_regression import mean_slopes, unexplained
from lit_thermal.ops.resize import resize


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_unexplained_is_the_residual_of_a_least_squares_line():
    thermal, guide, noise = images(1, 1, 5, 6), images(1, 2, 5, 6, seed=1), 1e-6
    share = unexplained(thermal, guide, noise)
    assert share.shape == (1, 2, 3, 4)
    for k in range(2):
        x, y = guide[0, k, 1:4, 2:5].flatten(), thermal[0, 0, 1:4, 2:5].flatten()
        table = torch.stack([x, torch.ones_like(x)], 1)
        left = (y - table @ torch.linalg.lstsq(table, y[:, None]).solution[:, 0]).square().mean()
        assert float(share[0, k, 1, 2]) == pytest.approx(math.log(left / y.var(correction=0)), rel=1e-6)


def test_contrast_sign_and_brightness_of_the_guide_do_not_matter():
    thermal, guide = images(1, 1, 6, 6), images(1, 1, 6, 6, seed=1)
    torch.testing.assert_close(unexplained(thermal, guide, 1e-6), unexplained(thermal, 2 - 3 * guide, 1e-6))
    assert unexplained(thermal, 0.3 - thermal).max() < -3, "a negative explains all"
    assert not unexplained(thermal, torch.ones_like(thermal)).any(), "a grey area explains nothing"


def test_slopes_solve_the_ridge_regression_of_each_window():
    thermal, guide, ridge = images(1, 1, 5, 5), images(1, 3, 5, 5, seed=1), 1e-2
    found = mean_slopes(thermal, guide, ridge)
    expected = torch.zeros(3, dtype=torch.float64)
    for y in (1, 2, 3):
        for x in (1, 2, 3):
            g = guide[0, :, y - 1 : y + 2, x - 1 : x + 2].flatten(1)
            t = thermal[0, 0, y - 1 : y + 2, x - 1 : x + 2].flatten()
            g, t = g - g.mean(1, keepdim=True), t - t.mean()
            expected += torch.linalg.solve(g @ g.T / 9 + ridge * torch.eye(3, dtype=torch.float64), g @ t / 9) / 9
    torch.testing.assert_close(found[0, :, 2, 2], expected)


def transfer_of_a_pixel(thermal, guide, y, x, scale, contrast, distance, ridge):
    """The enlarged value of one pixel, neighbour by neighbour, without corrections."""
    small = resize(guide, tuple(thermal.shape[-2:]))
    slope = mean_slopes(thermal, small, ridge)
    total = weights = 0.0
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            row = min(max(y // scale + dy, 0), thermal.shape[-2] - 1)
            column = min(max(x // scale + dx, 0), thermal.shape[-1] - 1)
            difference = guide[0, :, y, x] - small[0, :, row, column]
            away = (dy - ((y % scale + 0.5) / scale - 0.5)) ** 2 + (dx - ((x % scale + 0.5) / scale - 0.5)) ** 2
            weight = math.exp(-float(difference.square().sum()) / (2 * contrast**2) - away / (2 * distance**2))
            total += weight * float(thermal[0, 0, row, column] + slope[0, :, row, column] @ difference)
            weights += weight
    return total / weights


@pytest.mark.parametrize("place", [(0, 0), (7, 9), (13, 3), (15, 19)])
def test_transfer_is_a_weighted_mean_of_lines(place):
    thermal, guide = images(1, 1, 4, 5).float(), images(1, 3, 16, 20, seed=1).float()
    result = guided_transfer(thermal, guide, contrast=0.3, distance=0.6, ridge=1e-2, corrections=0)
    expected = transfer_of_a_pixel(thermal, guide, *place, 4, 0.3, 0.6, 1e-2)
    assert float(result[0, 0, place[0], place[1]]) == pytest.approx(expected, abs=1e-5)


def test_an_edge_of_the_guide_is_carried_where_it_explains_the_thermal_image():
    hot = torch.zeros(1, 1, 64, 64)
    hot[..., 27:] = 0.5
    guide = (1 - hot).repeat(1, 3, 1, 1) * torch.tensor([1.0, 0.5, 0.2]).view(1, 3, 1, 1)
    thermal = resize(hot, (8, 8))
    plain = (resize(thermal, (64, 64)) - hot).square().mean()
    assert (guided_transfer(thermal, guide) - hot).square().mean() < 0.05 * plain
    flat = guided_transfer(thermal, torch.full_like(guide, 0.5))
    assert (flat - hot).square().mean() < 1.3 * plain, "a guide without content does no harm"


def test_corrections_bring_the_reduced_result_to_the_input():
    thermal, guide = images(1, 1, 6, 6).float(), images(1, 3, 24, 24, seed=2).float()
    errors = [(resize(guided_transfer(thermal, guide, corrections=n), (6, 6)) - thermal).abs().max() for n in (0, 3)]
    assert errors[1] < 0.3 * errors[0]


def test_sizes_must_fit():
    with pytest.raises(ValueError, match="not a multiple"):
        guided_transfer(torch.rand(1, 1, 4, 4), torch.rand(1, 3, 15, 16))
