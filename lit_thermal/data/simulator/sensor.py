"""An uncooled thermal camera: optics, noise, and 16-bit values over a fixed range."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lit_thermal.batch import Radiometry
from lit_thermal.data.simulator.canvas import SUPERSAMPLING, Array
from lit_thermal.data.simulator.planck import apparent_kelvin, band_radiance, radiance_per_kelvin

MARGIN = 3
"""HR pixels that a frame must reach beyond its edge, for the optics to look at."""

_TAPS = 2 * SUPERSAMPLING * MARGIN
_NOISE_PER_KELVIN = radiance_per_kelvin(300.0)


@dataclass(frozen=True)
class Sensor:
    """What a camera does to the radiance that reaches it.

    Noise is given in mK as NETD is: as the temperature change of a 300 K scene that gives as much signal. It is the
    same amount of radiance everywhere, so a cold sky is noisier in Kelvin.

    Attributes:
        psf: standard deviation of the Gaussian optics blur in pixels, 0 to 1.2, on top of the square pixel's average.
        netd: standard deviation of the noise of each pixel in each frame, mK.
        fixed_pattern: the same, of the offset that a pixel keeps through the clip.
        stripes: the same, of the offset that a column keeps.
        saturated: share of the clip's pixels left below and above the range, so that one hot spot does not take it.
    """

    psf: float = 0.7
    netd: float = 30.0
    fixed_pattern: float = 10.0
    stripes: float = 10.0
    saturated: tuple[float, float] = (0.002, 0.002)

    def focus(self, fine: Array) -> Array:
        """Blur and average subpixels to pixels: (..., s (H + 2 MARGIN), s (W + 2 MARGIN)) to (..., H, W)."""
        distance = np.arange(_TAPS) - (_TAPS - 1) / 2
        sigma = max(self.psf * SUPERSAMPLING, 1e-3)
        weights = sum(
            np.exp(-(((distance - step) / sigma) ** 2) / 2)
            for step in np.arange(SUPERSAMPLING) - (SUPERSAMPLING - 1) / 2
        )
        weights = (weights / weights.sum()).astype(np.float32)
        height, width = (n // SUPERSAMPLING - 2 * MARGIN for n in fine.shape[-2:])
        first = MARGIN * SUPERSAMPLING - (_TAPS - SUPERSAMPLING) // 2

        def gather(field: Array, count: int) -> Array:
            """Reduce the second last axis."""
            total, term = None, None
            for tap, weight in enumerate(weights):
                if weight < 1e-7:
                    continue
                start = first + tap
                piece = field[..., start : start + SUPERSAMPLING * count : SUPERSAMPLING, :]
                if total is None:
                    total = piece * weight
                    term = np.empty_like(total)
                else:
                    total += np.multiply(piece, weight, out=term)
            assert total is not None
            return total

        rows = gather(fine, height)
        return gather(np.ascontiguousarray(rows.swapaxes(-1, -2)), width).swapaxes(-1, -2)

    def noise(self, shape: tuple[int, ...], rng: Generator) -> Array:
        """Noise of the radiance, (T, H, W) in W / (m2 sr)."""
        scale = 1e-3 * _NOISE_PER_KELVIN
        noise = rng.standard_normal(shape, dtype=np.float32)
        noise *= self.netd * scale
        fixed = rng.standard_normal(shape[1:], dtype=np.float32) * (self.fixed_pattern * scale)
        fixed += rng.standard_normal(shape[-1], dtype=np.float32) * (self.stripes * scale)
        noise += fixed
        return noise

    def choose_range(self, radiance: Array) -> tuple[float, float]:
        """Lowest and highest apparent temperature (K) of the range for a clip (T, H, W) without its noise."""
        sample = np.sort(radiance[::3, ::2, ::2], axis=None)
        low, high = (sample[round(share * (sample.size - 1))] for share in (self.saturated[0], 1 - self.saturated[1]))
        low, high = (float(k) for k in apparent_kelvin(np.array([low, high], np.float32)))
        slack = max(0.03 * (high - low), (6.0 - (high - low)) / 2)
        return low - slack, high + slack

    def digitise(self, radiance: Array, low: float, high: float) -> NDArray[np.uint16]:
        """Apparent temperature as 16-bit counts, 0 at `low` and 65535 at `high` Kelvin; what lies beyond saturates."""
        value = apparent_kelvin(radiance)
        value -= np.float32(low)
        value *= np.float32(65535 / (high - low))
        value += np.float32(0.5)
        return np.clip(value, 0, 65535, out=value).astype(np.uint16)


def radiometry(low: float, high: float) -> Radiometry:
    """The record of `Sensor.digitise`: the camera has linearised its signal, so counts are linear in Kelvin."""
    return Radiometry(0.0, 65535.0, 16, "linear", (low, (high - low) / 65535))


def surface_radiance(kelvin: Array, emissivity: Array, reflected: float) -> Array:
    """What leaves a surface: its own radiance and, for the rest of its emissivity, the `reflected` sky's (K)."""
    mirror = float(band_radiance(np.array([reflected], np.float32))[0])
    radiance = band_radiance(kelvin)
    radiance -= np.float32(mirror)
    radiance *= emissivity
    radiance += np.float32(mirror)
    return radiance
