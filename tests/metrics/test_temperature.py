"""Temperatures, their order, and the edges of hot things, on images whose errors are known."""

import math

import pytest
import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.metrics.metric import MetricInput
from lit_thermal.metrics.temperature import counts_error, hot_edge_error, kelvin_error, order_violations

LINEAR = Radiometry(1000.0, 500.0, 16, "linear", (200.0, 0.05))
PLANCK = Radiometry(9000.0, 4000.0, 16, "planck", (17096.453, 0.046642166, 1428.0, 1.0, -342.0))


def metric_input(restored: Tensor, target: Tensor, *radiometry: Radiometry) -> MetricInput:
    return MetricInput(restored, target, radiometry or [Radiometry()] * len(target))


def rand(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_an_error_in_values_is_one_in_counts_and_in_kelvin():
    target = 0.8 * rand(3, 2, 1, 6, 7)
    pair = metric_input(target + 0.1, target, Radiometry(), LINEAR, PLANCK)
    assert counts_error(pair)[:, 0].tolist() == pytest.approx([25.5, 50.0, 400.0], rel=1e-5)
    kelvin = kelvin_error(pair)
    assert kelvin.shape == (3, 2) and kelvin[0].isnan().all()
    assert kelvin[1].tolist() == pytest.approx([2.5, 2.5], rel=1e-5)
    r1, r2, b, f, o = PLANCK.constants

    def planck(value: Tensor) -> Tensor:
        return b / torch.log(r1 / (r2 * (9000 + 4000 * value.double() + o)) + f)

    expected = (planck(target[2] + 0.1) - planck(target[2])).abs().mean(dim=(-3, -2, -1))
    assert kelvin[2].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def slow_order(restored: Tensor, target: Tensor, gain: float) -> float:
    """Pixel by pixel, over the four neighbours of each."""
    counted = violated = 0
    height, width = target.shape
    for y in range(height):
        for x in range(width):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if abs(dy) + abs(dx) == 1 and 0 <= y + dy < height and 0 <= x + dx < width:
                        truth = round(gain * float(target[y, x] - target[y + dy, x + dx]))
                        ours = float(restored[y, x] - restored[y + dy, x + dx])
                        counted += abs(truth) > 1
                        violated += abs(truth) > 1 and ours * truth < 0
    return violated / counted


def test_order_violations_count_reversed_pairs():
    target = (8 * rand(2, 3, 1, 5, 6)).round() / 255
    restored = (target + 3 * torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) / 255).clamp(0, 1)
    found = order_violations(metric_input(restored, target))
    assert found.shape == (2, 3)
    for b in range(2):
        for t in range(3):
            assert float(found[b, t]) == pytest.approx(slow_order(restored[b, t, 0], target[b, t, 0], 255.0))
    assert 0 < float(found.mean()) < 0.5


def test_order_knows_no_temperature_but_who_is_warmer():
    target = (200 * rand(1, 1, 1, 9, 9)).round() / 255
    assert order_violations(metric_input(1 - target, target)).item() == 1
    for same in (target, target.square(), 0.5 * target + 0.1, torch.zeros_like(target)):
        assert order_violations(metric_input(same, target)).item() == 0
    # One count apart is noise, two counts are an order.
    step = torch.zeros(1, 1, 1, 4, 4)
    step[..., 2:] = 1 / 255
    assert order_violations(metric_input(1 - step, step)).item() == 0
    assert order_violations(metric_input(1 - 2 * step, 2 * step)).item() == 1


def test_errors_count_at_the_warm_side_of_edges_only():
    target = torch.zeros(1, 1, 1, 8, 10)
    target[..., 5:] = 0.8  # an edge between the columns 4 and 5
    for column, expected in ((5, 0.3), (4, 0.0), (8, 0.0), (0, 0.0)):
        restored = target.clone()
        restored[..., column] = (restored[..., column] - 0.3).abs()
        assert hot_edge_error(metric_input(restored, target)).item() == pytest.approx(expected, abs=1e-6)
    # A steeper edge weighs more: 0.8 beside 0.4, which alone has an error.
    both = torch.zeros(1, 1, 1, 20, 20)
    both[..., 3:, :10], both[..., 17:, :10] = 0.8, 0.0
    assert hot_edge_error(metric_input(both + 0.1, both)).item() == pytest.approx(0.1, abs=1e-6)
    assert hot_edge_error(metric_input(target + 0.1, torch.full_like(target, 0.5))).item() == 0


def test_nan_stays_visible():
    target = rand(1, 1, 1, 6, 6)
    lost = torch.full_like(target, math.nan)
    for metric in (counts_error, hot_edge_error):
        assert metric(metric_input(lost, target)).isnan().all()
    assert kelvin_error(metric_input(lost, target, LINEAR)).isnan().all()
