"""Uncertainty of means, compared with simulations and with the textbook."""

import math

import numpy as np
import pytest
from scipy.stats import t, wilcoxon

from lit_thermal.errors import InputError
from lit_thermal.evaluation.statistics import (
    BOOTSTRAP_UP_TO,
    Interval,
    difference_over_seeds,
    mean_interval,
    mean_intervals,
    paired,
)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def named(values: np.ndarray) -> dict[str, float]:
    return {f"image {i}": float(value) for i, value in enumerate(values)}


def test_the_bootstrap_covers_the_mean_of_a_skewed_population():
    draws = np.random.default_rng(0).exponential(size=(120, 40))
    hits = sum(low <= 1 <= high for _, low, high in mean_intervals(draws))
    assert 0.88 <= hits / 120 <= 0.99
    found = mean_interval(draws[0].tolist())
    assert found.mean == pytest.approx(draws[0].mean()) and found.low < found.mean < found.high
    # What lies above the mean of a skewed sample is less certain than what lies below.
    assert found.high - found.mean > found.mean - found.low
    assert found == mean_interval(draws[0].tolist()), "the resampling has a seed"
    assert found == pytest.approx(mean_intervals(draws)[0]), "columns do not change one another"
    wide = mean_interval(draws[0].tolist(), confidence=0.99)
    assert wide.low < found.low and wide.high > found.high


def test_many_values_have_the_interval_of_student():
    values = normal(1, BOOTSTRAP_UP_TO + 1)
    found = mean_interval(values.tolist())
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    assert found == pytest.approx((values.mean(), values.mean() - half, values.mean() + half))
    fewer = mean_interval(values[:BOOTSTRAP_UP_TO].tolist())
    assert fewer.high - fewer.low == pytest.approx(2 * half, rel=0.1)


def test_intervals_without_spread_and_of_what_is_no_number():
    assert mean_interval([3.0]) == mean_interval([3.0] * 5) == Interval(3.0, 3.0, 3.0)
    assert all(map(math.isnan, mean_interval([1.0, math.nan, 2.0])))
    both = mean_intervals([[1.0, math.nan, 2.0], [1.0, 2.0, 4.0]])
    assert math.isnan(both[0].mean) and both[1] == pytest.approx(mean_interval([1.0, 2.0, 4.0]))
    with pytest.raises(InputError, match="at least one value"):
        mean_interval([])
    with pytest.raises(InputError, match=r"confidence is 95; it must be between 0 and 1"):
        mean_interval([1.0], confidence=95)


def test_paired_differences_are_taken_by_name():
    ours, noise = normal(0, 12), normal(1, 12)
    theirs = {name: ours[i] - 0.5 - 0.2 * noise[i] for i, name in enumerate(named(ours))}
    found = paired(named(ours) | {"only ours": 100.0}, dict(reversed(theirs.items())) | {"only theirs": -100.0})
    expected = 0.5 + 0.2 * noise
    assert found.count == 12
    assert found.difference.mean == pytest.approx(expected.mean())
    assert 0 < found.difference.low < expected.mean() < found.difference.high
    assert found.p_value == pytest.approx(wilcoxon(expected).pvalue) and found.p_value < 0.01
    back = paired(theirs, named(ours))
    assert back.difference.mean == pytest.approx(-expected.mean()) and back.p_value == pytest.approx(found.p_value)


def test_paired_without_a_difference_or_without_a_name_in_common():
    same = paired(named(normal(0, 5)), named(normal(0, 5)))
    assert same.difference == (0.0, 0.0, 0.0) and same.p_value == 1.0
    assert paired({"a": 2.0}, {"a": 1.0}) == ((1.0, 1.0, 1.0), 1.0, 1)
    assert math.isnan(paired({"a": 2.0, "b": 1.0}, {"a": math.nan, "b": 0.0}).p_value)
    with pytest.raises(InputError, match=r"^nothing to compare: a, b and no name have no image"):
        paired({"a": 1.0, "b": 1.0}, {})


@pytest.mark.parametrize(
    ("seeds", "images", "spreads"),
    [(3, 20, (1, 1, 1)), (3, 20, (0, 1, 1)), (5, 10, (1, 0.2, 0.5)), (3, 8, (0.1, 0.1, 1))],
)
def test_differences_over_seeds_and_images_cover_the_truth(seeds, images, spreads):
    hits, rounds = 0, 300
    for seed in range(rounds):
        generator = np.random.default_rng(seed)
        shapes = ((seeds, 1), (1, images), (seeds, images))
        parts = [s * generator.standard_normal(shape) for s, shape in zip(spreads, shapes, strict=True)]
        table = 2.0 + sum(parts)
        _, low, high = difference_over_seeds([named(row) for row in table], [named(0 * row) for row in table])
        hits += low <= 2.0 <= high
    assert 0.90 <= hits / rounds <= 0.995


def test_the_variance_of_a_difference_over_seeds_is_the_textbook_s():
    table = normal(0, 3, 1) + normal(1, 1, 6) + 0.3 * normal(2, 3, 6)
    ours, theirs = normal(3, 3, 6) + table, normal(3, 3, 6)
    found = difference_over_seeds([named(row) for row in ours], [named(row) for row in theirs])
    mean = table.mean()
    seed = 6 * sum((row.mean() - mean) ** 2 for row in table) / 2
    image = 3 * sum((column.mean() - mean) ** 2 for column in table.T) / 5
    cells = [(s, i) for s in range(3) for i in range(6)]
    residual = sum((table[s, i] - table[s].mean() - table[:, i].mean() + mean) ** 2 for s, i in cells) / 10
    total = seed + image - residual
    freedom = total**2 / (seed**2 / 2 + image**2 / 5 + residual**2 / 10)
    reach = t.ppf(0.975, freedom) * math.sqrt(total / 18)
    assert found == pytest.approx((mean, mean - reach, mean + reach))


def test_one_seed_or_one_image_leaves_the_other():
    values = normal(0, 7)
    half = t.ppf(0.975, 6) * values.std(ddof=1) / math.sqrt(7)
    expected = pytest.approx((values.mean(), values.mean() - half, values.mean() + half))
    zeros = named(0 * values)
    assert difference_over_seeds([named(values)], [zeros]) == expected
    assert difference_over_seeds([{"a": v} for v in values], [{"a": 0.0}] * 7) == expected
    assert difference_over_seeds([{"a": 2.0}], [{"a": 1.0}]) == (1.0, -math.inf, math.inf)
    assert difference_over_seeds([zeros] * 3, [zeros] * 3) == (0.0, 0.0, 0.0)
    assert all(map(math.isnan, difference_over_seeds([zeros | {"image 0": math.nan}] * 2, [zeros] * 2)))


def test_runs_that_cannot_be_compared_over_seeds_are_refused():
    with pytest.raises(InputError, match="2 seeds against 1"):
        difference_over_seeds([{"a": 1.0}] * 2, [{"a": 1.0}])
    with pytest.raises(InputError, match="no image or clip in common"):
        difference_over_seeds([{"a": 1.0}, {"b": 1.0}], [{"a": 1.0}] * 2)
