"""Restoration of an image by sampling: a sampler and the number of samples that are averaged."""

from collections.abc import Callable

from lit_thermal.errors import InputError
from lit_thermal.generative.sampler import Sampler


class Drawing:
    """A sampler and the number of samples that are averaged to the restored image.

    One sample looks realistic; the mean of several is closer to the target but smoother.

    Args:
        sampler: factory that makes the sampler.
        samples: number of samples that are averaged, at least 1.

    Raises:
        InputError: `samples` is less than 1.
    """

    def __init__(self, sampler: Callable[[], Sampler], samples: int = 1) -> None:
        if samples < 1:
            raise InputError(f"samples of Drawing is {samples}; give at least 1")
        self.sampler, self.samples = sampler(), samples
