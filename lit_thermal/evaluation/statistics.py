"""Uncertainty of means: intervals over images, paired tests between methods, differences over several trainings."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lit_thermal.errors import InputError

RESAMPLES = 2000
"""Number of bootstrap samples: the ends of a 95 % interval then vary by some 2 % of its width between seeds."""

BOOTSTRAP_UP_TO = 2000
"""Number of values above which Student's interval is used, with which the bootstrap of a mean then agrees."""
_VALUES_AT_ONCE = 1 << 21


class Interval(NamedTuple):
    """A mean and the two ends of its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float


class Paired(NamedTuple):
    """Comparison of one method with another on the same images or clips."""

    difference: Interval
    """Mean of the first method's values minus the second's."""
    p_value: float
    """P-value of the two-sided Wilcoxon signed-rank test that the differences are symmetric around 0."""
    count: int  # type: ignore[assignment]  # replaces the unused method of tuples
    """Number of compared images or clips."""


def mean_interval(values: Sequence[float], confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean of values and its BCa bootstrap interval.

    A single value, or equal values, give an interval of zero width, since their spread is unknown. NaN among the values
    makes all three NaN. Above `BOOTSTRAP_UP_TO` values the interval is Student's.

    Args:
        values: one value per image or clip.
        confidence: confidence level of the interval, in (0, 1).
        seed: seed of the resampling.

    Raises:
        InputError: there are no values, or the confidence is out of range.

    Source: Efron, "Better bootstrap confidence intervals", 1987; `scipy.stats.bootstrap`.
    """
    return mean_intervals([values], confidence, seed)[0]


def mean_intervals(columns: Sequence[Sequence[float]], confidence: float = 0.95, seed: int = 0) -> list[Interval]:
    """Compute `mean_interval` of each of several columns of equal length, over the same resamples.

    Raises:
        InputError: a column is empty, or the confidence is out of range.
    """
    _check(confidence)
    table = np.asarray(columns, dtype=np.float64)
    if table.ndim != 2 or not table.shape[1]:
        raise InputError("an interval needs at least one value; there is none")
    means = table.mean(axis=1)
    low, high = means.copy(), means.copy()
    # Equal values have no spread and infinite ones no mean; in both cases the mean says everything.
    varies = np.isfinite(means) & (np.ptp(table, axis=1) > 0)
    if varies.any():
        low[varies], high[varies] = _bootstrap(table[varies], confidence, seed)
    return [Interval(*map(float, ends)) for ends in zip(means, low, high, strict=True)]


def paired(ours: Mapping[str, float], theirs: Mapping[str, float], confidence: float = 0.95, seed: int = 0) -> Paired:
    """Compare two methods on the images or clips that both have.

    Args:
        ours: values of the first method by name of the image or clip.
        theirs: values of the second method, likewise.
        confidence: confidence level of the interval of the mean difference.
        seed: seed of the resampling.

    Returns:
        The mean difference with its bootstrap interval, and the p-value of the signed-rank test: 1 if all values are
        equal, NaN if one is NaN.

    Raises:
        InputError: they have no name in common.

    Source: Wilcoxon, "Individual comparisons by ranking methods", 1945; `scipy.stats.wilcoxon`.
    """
    from scipy.stats import wilcoxon

    names = sorted(ours.keys() & theirs.keys())
    if not names:
        raise InputError(
            f"nothing to compare: {_some(ours)} and {_some(theirs)} have no image or clip in common; give two "
            "methods that were measured on the same data"
        )
    differences = np.array([ours[name] - theirs[name] for name in names], dtype=np.float64)
    if np.isnan(differences).any():
        p_value = math.nan
    else:
        p_value = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    return Paired(mean_interval(differences.tolist(), confidence, seed), p_value, len(names))


def difference_over_seeds(
    ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]], confidence: float = 0.95
) -> Interval:
    """Return the mean difference of two methods, each trained with several seeds and measured on the same images.

    The interval covers other seeds and other images: both are random and crossed, as each seed is measured on each
    image, so an interval from the spread over images alone, or over seeds alone, would be too narrow. With the mean
    squares of the two-way layout, the variance of the mean is ``(MS_seed + MS_image - MS_residual) / (n_seeds
    n_images)``, where a component with a negative estimate counts as 0; the degrees of freedom are Satterthwaite's.
    With one seed the interval is over images only, and with one image over seeds only; with one of both it is infinite.

    Args:
        ours: values of the first method by image, one mapping per seed.
        theirs: values of the second method, likewise; seeds are paired by position.
        confidence: confidence level of the interval.

    Returns:
        The mean of `ours` minus `theirs` over the images that all runs have; NaN if a value is NaN.

    Raises:
        InputError: the numbers of seeds differ or are 0, or there is no image in common.

    Source: Searle, Casella and McCulloch, "Variance components", 1992, chapter 4; Satterthwaite, "An approximate
        distribution of estimates of variance components", 1946. The same layout as readers and cases in Dorfman,
        Berbaum and Metz, "Receiver operating characteristic rating analysis", 1992.
    """
    from scipy.stats import t

    _check(confidence)
    if not ours or len(ours) != len(theirs):
        raise InputError(f"{len(ours)} seeds against {len(theirs)}: give each method the same seeds, at least one")
    names = sorted(set.intersection(*(set(run) for run in (*ours, *theirs))))
    if not names:
        raise InputError("the runs have no image or clip in common; measure them on the same data")
    pairs = zip(ours, theirs, strict=True)
    table = np.array([[mine[n] - other[n] for n in names] for mine, other in pairs], dtype=np.float64)
    mean = float(table.mean())
    if not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan)
    if table.size == 1:
        return Interval(mean, -math.inf, math.inf)
    variance, freedom = _variance_of_mean(table)
    reach = float(t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)
    return Interval(mean, mean - reach, mean + reach)


def _variance_of_mean(table: np.ndarray) -> tuple[float, float]:
    """Return the variance of the mean of (seeds, images) and its degrees of freedom."""
    seeds, images = table.shape
    if min(seeds, images) == 1:
        return float(table.var(ddof=1)) / table.size, table.size - 1
    by_seed, by_image = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    seed = images * float(by_seed.var(ddof=1))
    image = seeds * float(by_image.var(ddof=1))
    freedom = (seeds - 1) * (images - 1)
    residual = float(np.square(table - by_seed - by_image + table.mean()).sum()) / freedom
    if seed > residual and image > residual:
        terms = [(seed, seeds - 1), (image, images - 1), (-residual, freedom)]
    else:
        terms = [max((seed, seeds - 1), (image, images - 1), (residual, freedom))]
    total = sum(square for square, _ in terms)
    spread = sum(square**2 / degrees for square, degrees in terms)
    return total / table.size, total**2 / spread if spread else freedom


def _bootstrap(table: np.ndarray, confidence: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the intervals of the means of (columns, values)."""
    from scipy.stats import bootstrap, sem, t

    count = table.shape[1]
    if count > BOOTSTRAP_UP_TO:
        return t.interval(confidence, count - 1, loc=table.mean(axis=1), scale=sem(table, axis=1))
    found = bootstrap(
        (table,),
        np.mean,
        axis=-1,
        n_resamples=RESAMPLES,
        batch=max(1, _VALUES_AT_ONCE // table.size),
        confidence_level=confidence,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return found.low, found.high


def _check(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; it must be between 0 and 1, such as 0.95")


def _some(values: Mapping[str, float]) -> str:
    """Return the first names, for an error message."""
    names = list(values)
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else "no name"
