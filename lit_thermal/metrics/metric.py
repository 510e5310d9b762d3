"""What a metric is: one function of what was restored and its target, and when it can be had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from lit_thermal.batch import Radiometry


class Unavailable(Exception):
    """A metric cannot be measured on this machine; the message is one sentence that says what is missing."""


@dataclass(frozen=True)
class Protocol:
    """The constants of a measurement that a method's own settings could suggest otherwise.

    Args:
        diffusivity: D of the heat residual in HR pixel^2 per step of a video of doubled frame rate; the same
            for every method, so that the residuals of two runs can be compared.
        alpha: edge weight of the heat residual, for values in [0, 1].
    """

    diffusivity: float = 0.1
    alpha: float = 100.0


CONSTANTS = Protocol()


class Seen(NamedTuple):
    """What a metric looks at, as a file holds it."""

    restored: Tensor
    """(B, T, 1, H, W) in [0, 1]; T is 1 for images."""
    target: Tensor
    """The same shape."""
    radiometry: Sequence[Radiometry]
    """B mappings of values to counts and, where known, to Kelvin."""
    dt: float = 1.0
    """Time between neighbouring frames, 1 where the frame rate was doubled."""
    constants: Protocol = CONSTANTS


@dataclass(frozen=True)
class Metric:
    """A name for a function, and where the function has a value.

    Attributes:
        name: heading of its column.
        measure: from what is seen to (B, T - first or fewer) values, of the frames from `first` on.
        text: what it is, for the record of a run.
        frames: fewest and most frames at once.
        first: the first frame that has a value.
        side: fewest pixels a side.
        known: whether a sample of this radiometry has a value.
        blind: it looks at what was restored alone, so that the target has a value too.
        on_request: it is measured where it was asked for by name.
    """

    name: str
    measure: Callable[[Seen], Tensor]
    text: str
    frames: tuple[int, float] = (1, float("inf"))
    first: int = 0
    side: int = 1
    known: Callable[[Radiometry], bool] = lambda radiometry: True
    blind: bool = False
    on_request: bool = False

    def applies(self, seen: Seen) -> bool:
        """True where the frames and some of the samples have a value, whatever their size."""
        low, high = self.frames
        return low <= seen.target.shape[1] <= high and any(map(self.known, seen.radiometry))
