"""Intervals of what is no mean over images."""

import math

import numpy as np
import pytest

from lit_thermal.downstream.resampling import corrected_interval, resampled


def test_resamples_have_as_many_images():
    drawn = np.stack(list(resampled(30, 200, seed=0)))
    assert (drawn.sum(1) == 30).all()
    # each image once in the mean, some not at all
    assert drawn.mean(0) == pytest.approx(np.ones(30), abs=0.3)
    assert (drawn == 0).mean() == pytest.approx(math.exp(-1), abs=0.03)
    assert np.array_equal(drawn, np.stack(list(resampled(30, 200, seed=0))))


def test_a_bias_of_the_samples_is_taken_off_twice():
    samples = np.random.default_rng(0).normal(0.5 + 0.03, 0.1, 200_000)
    mean, low, high = corrected_interval(0.5, samples)
    assert mean == 0.5
    assert low == pytest.approx(0.5 - 0.03 - 1.96 * 0.1, abs=2e-3)
    assert high == pytest.approx(0.5 - 0.03 + 1.96 * 0.1, abs=2e-3)


def test_samples_without_spread_or_value():
    assert corrected_interval(0.2, np.full(50, 0.2)) == (0.2, 0.2, 0.2)
    assert all(math.isnan(end) for end in corrected_interval(0.2, np.full(5, np.nan))[1:])
    assert corrected_interval(0.2, np.array([np.nan, 0.1, 0.2, 0.3]))[1:] == pytest.approx((0.1, 0.3), abs=0.01)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(150):
        # a variance is skewed, and too low in resamples
        values = rng.normal(0, 1, 60)
        point = values.var()
        weights = np.stack(list(resampled(60, 300, seed=trial))) / 60
        means = weights @ values
        samples = weights @ values**2 - means**2
        _, low, high = corrected_interval(point, samples)
        covered += low <= 1 <= high
    assert 0.87 < covered / 150 < 0.99
