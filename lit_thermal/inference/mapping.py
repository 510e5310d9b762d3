"""Mapping of a file's pixels to the values in [0, 1] that a model takes, and of restored values back to such pixels."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.fixed_range import in_common_counts
from lit_thermal.data.formats.frames import check_no_nan, to_counts
from lit_thermal.data.formats.normalize import Normalize
from lit_thermal.data.formats.radiometry import image_radiometry
from lit_thermal.data.formats.thermogram import Thermogram
from lit_thermal.ops.outliers import put_back


@dataclass(frozen=True)
class Mapped:
    """The only frame of a file as values, with the way back.

    Attributes:
        thermogram: file that was read, without its pixels' photo.
        radiometry: mapping from values to counts and, if known, to Kelvin.
        lr: (1, h, w) float32 in [0, 1].
        beyond: (1, h, w): part of the values that clipping to [0, 1] removed.
        floats: whether the pixels of the file are float32 Kelvin.
    """

    thermogram: Thermogram
    radiometry: Radiometry
    lr: Tensor
    beyond: Tensor
    floats: bool

    @property
    def knows_kelvin(self) -> bool:
        """Whether values have a known temperature."""
        return self.radiometry.unit != "counts"

    def measured(self, values: Tensor) -> Tensor:
        """Return values of any shape as float64 Kelvin, or as counts if temperatures are unknown."""
        values = values.double()
        return self.radiometry.to_kelvin(values) if self.knows_kelvin else self.radiometry.to_counts(values)

    def restored(self, values: Tensor) -> Thermogram:
        """Return restored values (1, H, W) as a thermogram of the file's kind, with the pixels beyond the range.

        Raises:
            InputError: a value is NaN.
        """
        check_no_nan(values, self.thermogram.path)
        values = put_back(values[None], self.beyond[None])[0]
        scale = self.radiometry._replace(offset=0.0, gain=1.0)
        if self.floats:
            pixels = self.radiometry.to_kelvin(values.double()).numpy().astype(np.float32)
            return replace(self.thermogram, pixels=pixels)
        return replace(self.thermogram, pixels=to_counts(values, self.radiometry), radiometry=scale)


def mapped(thermogram: Thermogram, normalize: Normalize) -> Mapped:
    """Map the only frame of a thermogram to values.

    Float Kelvin are not rounded: only the range is determined from counts.

    Args:
        thermogram: file with one frame.
        normalize: mapping of counts to [0, 1].

    Raises:
        InputError: there are several frames, or the range is fixed and the file's temperatures are unknown.
    """
    counts = in_common_counts(thermogram.measured(), normalize, thermogram.path)
    radiometry = image_radiometry(counts.counts, normalize, counts.scale)
    floats = thermogram.pixels.dtype.kind == "f"
    exact = counts.counts.astype(np.float64)
    if floats:
        exact = thermogram.image.astype(np.float64) / counts.scale.constants[1]
    values = torch.from_numpy((exact - radiometry.offset) / radiometry.gain).float()[None]
    inside = values.clamp(0.0, 1.0)
    return Mapped(replace(thermogram, photo=None), radiometry, inside, values - inside, floats)
