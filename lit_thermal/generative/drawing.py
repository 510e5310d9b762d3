"""One way to restore an image by drawing it: which sampler, and the mean of how many draws."""

from collections.abc import Callable

from lit_thermal.errors import InputError
from lit_thermal.generative.sampler import Sampler


class Drawing:
    """A sampler and how often it draws an image, whose restoration is the mean of the draws.

    One draw looks real; the mean of several is nearer to the target and smoother.

    Args:
        sampler: how an image is drawn.
        samples: how many draws the restored image is the mean of, at least 1.

    Raises:
        InputError: there is no draw.
    """

    def __init__(self, sampler: Callable[[], Sampler], samples: int = 1) -> None:
        if samples < 1:
            raise InputError(f"samples of Drawing is {samples}; give at least 1")
        self.sampler, self.samples = sampler(), samples
