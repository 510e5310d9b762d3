"""Bootstrap over images of what is no mean over images: average precision, overlap over all pixels."""

from collections.abc import Iterator

import numpy as np

from lit_thermal.evaluation.statistics import Interval


def resampled(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of so many images is in each resample, drawn with replacement: (images,) float64."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(0, images, images), minlength=images).astype(np.float64)


def corrected_interval(point: float, samples: np.ndarray, confidence: float = 0.95) -> Interval:
    """The bias-corrected percentile interval of a value by its values on resamples.

    An image that a resample has twice makes average precision a little too high, so that plain percentiles would lie
    too high too: with ``z0`` the normal quantile of the share of samples below the value, the ends are taken at
    ``Phi(2 z0 -+ z)``.

    Args:
        point: the value on the images themselves.
        samples: of the resamples; NaN where a resample has none.
        confidence: of the interval.

    Returns:
        All NaN but the value where no resample has one.

    Source: Efron, "Nonparametric standard errors and confidence intervals", 1981.
    """
    from scipy.stats import norm

    found = samples[np.isfinite(samples)]
    if not len(found) or not np.isfinite(point):
        return Interval(point, float("nan"), float("nan"))
    share = (np.mean(found < point) + np.mean(found <= point)) / 2
    bias = norm.ppf(np.clip(share, 0.5 / len(found), 1 - 0.5 / len(found)))
    ends = norm.cdf(2 * bias + norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2]))
    low, high = np.quantile(found, ends)
    return Interval(point, float(low), float(high))
