"""Bootstrap over images for scores that are not means over images: average precision, overlap over all pixels."""

from collections.abc import Iterator

import numpy as np

from lit_thermal.evaluation.statistics import Interval


def resampled(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield bootstrap counts: how often each image is drawn, (images,) float64 for each resample."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(0, images, images), minlength=images).astype(np.float64)


def corrected_interval(point: float, samples: np.ndarray, confidence: float = 0.95) -> Interval:
    """Return the bias-corrected percentile interval of a value from its values on resamples.

    Images that are drawn twice make average precision, and thus plain percentiles, slightly too high. The correction
    takes the ends at ``Phi(2 z0 -+ z)``, where ``z0`` is the normal quantile of the share of samples below the value.

    Args:
        point: value on the images themselves.
        samples: values on the resamples; NaN for a resample without a value.
        confidence: confidence level of the interval.

    Returns:
        The interval; its ends are NaN if no resample has a value.

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
