"""The record of a metric: its names and format, where it applies, and its function of results and targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from lit_thermal.batch import Radiometry


class Unavailable(Exception):
    """Raised if a metric cannot be measured on this machine; the message is one sentence that names what is missing."""


@dataclass(frozen=True)
class Protocol:
    """Constants of the measurement that are independent of a method's own settings.

    Args:
        diffusivity: D of the heat residual in HR pixel^2 per step of a video with doubled frame rate; the same for
            every method, so that the residuals of two runs can be compared.
        alpha: edge weight of the heat residual, for values in [0, 1].
    """

    diffusivity: float = 0.1
    alpha: float = 100.0


CONSTANTS = Protocol()


class MetricInput(NamedTuple):
    """Input of a metric, with values as stored in a file."""

    restored: Tensor
    """(B, T, 1, H, W), in [0, 1] but for counts of 16 bit beyond the range that is mapped; T is 1 for images."""
    target: Tensor
    """Targets of the same shape."""
    radiometry: Sequence[Radiometry]
    """B mappings of values to counts and, where known, to Kelvin."""
    dt: float = 1.0
    """Time between neighbouring frames; 1 if the frame rate was doubled."""
    constants: Protocol = CONSTANTS


@dataclass(frozen=True)
class Metric:
    """The record of a metric, which tables, reports, help texts and published tables read.

    Attributes:
        name: key in `metrics.json` and in configs.
        label: readable name, used as the head of a column.
        text: one clause that says what is computed, for the record of a run.
        unit: unit of the values; empty if they have none.
        decimals: digits after the decimal point; None writes three significant digits.
        direction: direction of better values; None if neither is better.
        measure: function from `MetricInput` to (B, T - first or fewer) values, those of the frames from `first` on;
            None for values that other programs measure, such as those of detectors.
        frames: fewest and most frames that it takes at once.
        first: number of the first frame that has a value.
        side: fewest pixels along each side of a frame.
        known: whether a sample with a given radiometry has a value.
        no_reference: whether the metric needs no target, so that it can also be measured on the target itself.
        on_request: whether it is measured only if it is requested by name.
        sheet: table of a test that prints it: next to PSNR and SSIM ("quality"), with the errors for thermal users
            ("thermal"), or no table, only the files ("record").
    """

    name: str
    label: str
    text: str = ""
    unit: str = ""
    decimals: int | None = None
    direction: Literal["higher", "lower"] | None = "lower"
    measure: Callable[[MetricInput], Tensor] | None = None
    frames: tuple[int, float] = (1, float("inf"))
    first: int = 0
    side: int = 1
    known: Callable[[Radiometry], bool] = lambda radiometry: True
    no_reference: bool = False
    on_request: bool = False
    sheet: Literal["quality", "thermal", "record"] = "thermal"

    def applies(self, inputs: MetricInput) -> bool:
        """Return whether the frames and some of the samples have a value, whatever their size."""
        low, high = self.frames
        return low <= inputs.target.shape[1] <= high and any(map(self.known, inputs.radiometry))

    def written(self, value: float, *, sign: bool = False, unit: bool = False) -> str:
        """Return a value as plain text, with the digits of this metric.

        Args:
            value: value to write.
            sign: whether to write a plus sign too, as for a difference.
            unit: whether to write the unit after the number.
        """
        plus = "+" if sign else ""
        text = f"{value:{plus}.{self.decimals}f}" if self.decimals is not None else f"{value:{plus}#.3g}".rstrip(".")
        return f"{text} {self.unit}" if unit and self.unit else text

    @property
    def heading(self) -> str:
        """Return label and unit, as in "PSNR in dB"."""
        return f"{self.label} in {self.unit}" if self.unit else self.label
