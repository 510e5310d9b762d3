"""The contents of one file of a thermal camera, whatever its format: what adapters return and writers take."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.object_settings import ObjectSettings
from lit_thermal.errors import InputError

Reading = Literal["apparent", "object"]
"""Kind of temperature: of a black body of the same radiance, or of the object by the camera's settings."""
COUNTS = Radiometry(0.0, 1.0, 16)
"""Scale of counts of unknown temperature."""
KELVIN = Radiometry(0.0, 1.0, 16, "linear", (0.0, 1.0))
"""Scale of pixels that are Kelvin."""
CENTIKELVIN = Radiometry(0.0, 1.0, 16, "linear", (0.0, 0.01))
"""Scale of counts of 0.01 K, a common unit of cameras, up to 655.35 K."""
DECIKELVIN = Radiometry(0.0, 1.0, 16, "linear", (0.0, 0.1))
"""Scale of counts of 0.1 K, for temperatures above 655.35 K."""


class Measured(NamedTuple):
    """One thermal image as counts, with their scale.

    Attributes:
        counts: (H, W) uint8 or uint16.
        scale: mapping from counts to Kelvin, if known; its offset is 0 and its gain is 1.
    """

    counts: np.ndarray
    scale: Radiometry


@dataclass(frozen=True)
class Thermogram:
    """The frames of one file with all that a result needs in order to become a file of the same kind.

    Attributes:
        pixels: (T, H, W) counts, uint8 or uint16, or float32 Kelvin; T is 1 for a single image.
        radiometry: mapping from pixels to Kelvin, with offset 0 and gain 1. Its reading is "apparent" if the file has
            the camera's constants.
        settings: emissivity, distance and the like that the camera recorded; None if the file has none.
        photo: visible photo (h, w, 3) uint8 that the file embeds. It has another field of view.
        times: time of each frame in seconds from the first; empty for a single image.
        path: file that the pixels were read from. Writers copy its tags (EXIF, GPS, XMP, TIFF tags).
        facts: other plain values of the file, such as camera, position, or placement of the photo.
        message: sentence for the user about how the file was understood, or an empty text.
    """

    pixels: np.ndarray
    radiometry: Radiometry = COUNTS
    settings: ObjectSettings | None = None
    photo: np.ndarray | None = None
    times: tuple[float, ...] = ()
    path: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""

    @property
    def image(self) -> np.ndarray:
        """The only frame, (H, W).

        Raises:
            InputError: there are several frames.
        """
        if len(self.pixels) > 1:
            raise InputError(f"{self.path} holds {len(self.pixels)} pages: write one frame per file")
        return self.pixels[0]

    @property
    def knows_kelvin(self) -> bool:
        """Whether pixels have a known temperature."""
        return self.radiometry.unit in ("linear", "planck")

    def scale(self, reading: Reading = "apparent") -> Radiometry:
        """Return the mapping from pixels to Kelvin of a reading; its `reading` names the one that was found.

        The camera's settings are folded into the constants for "object". A file that does not have both readings gives
        the one that it has.

        Args:
            reading: wanted kind of temperature.
        """
        if reading == "object" and self.settings and self.radiometry.unit == "planck":
            return self.settings.folded(self.radiometry)
        return self.radiometry

    def kelvin(self, reading: Reading = "apparent") -> np.ndarray:
        """Return temperatures (T, H, W) float32 in Kelvin; NaN where counts are outside of the camera's law.

        Args:
            reading: wanted kind of temperature.

        Raises:
            InputError: the temperature is unknown.
        """
        return to_kelvin(self.pixels, self.scale(reading), self.path)

    def measured(self) -> Measured:
        """Return the only frame as counts with the scale of its apparent temperature.

        Float pixels become counts of 0.01 K, or of 0.1 K if one is above 655.35 K.

        Raises:
            InputError: there are several frames.
        """
        if self.pixels.dtype.kind != "f":
            return Measured(self.image, self.radiometry)
        return in_steps(self.image, self.radiometry.reading, fine=float(self.image.max()) <= 65535 * 0.01)


def to_kelvin(pixels: np.ndarray, scale: Radiometry, where: object = "the image") -> np.ndarray:
    """Map pixels of any shape to float32 Kelvin.

    Args:
        pixels: counts or float Kelvin.
        scale: mapping with offset 0 and gain 1.
        where: file, for the error message.

    Raises:
        InputError: the temperature is unknown.
    """
    if scale.unit == "counts":
        raise InputError(
            f"{where} does not say how its counts become temperatures: give the constants of the camera in a file of "
            "the same name that ends in .json"
        )
    # float64, and before the camera's offset, often negative, is added: unsigned counts would overflow
    return scale.to_kelvin(torch.from_numpy(pixels.astype(np.float64))).numpy().astype(np.float32)


def in_steps(kelvin: np.ndarray, reading: str, fine: bool) -> Measured:
    """Round Kelvin of any shape to counts of 0.01 K if `fine`, else of 0.1 K; what no count reaches is clipped."""
    scale = CENTIKELVIN if fine else DECIKELVIN
    counts = np.nan_to_num(kelvin.astype(np.float64) / scale.constants[1], nan=0.0)
    return Measured(counts.round().clip(0, 65535).astype(np.uint16), scale._replace(reading=reading))
