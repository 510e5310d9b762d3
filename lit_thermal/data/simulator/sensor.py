"""An uncooled thermal camera: optics, noise, and 16-bit values over a fixed range."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lit_thermal.batch import Radiometry
from lit_thermal.data.simulator.canvas import SUPERSAMPLING, Array
from lit_thermal.data.simulator.planck import apparent_kelvin, band_radiance, radiance_per_kelvin

MARGIN = 3
"""Number of HR pixels beyond the edge of a frame that are rendered for the blur of the optics."""

_TAPS = 2 * SUPERSAMPLING * MARGIN
_NOISE_PER_KELVIN = radiance_per_kelvin(300.0)


@dataclass(frozen=True)
class Sensor:
    """Blur, noise and digitisation of a camera.

    Noise is given in mK like NETD: as the temperature change of a 300 K scene that causes the same signal. The noise of
    the radiance is the same everywhere, so that a cold sky is noisier in Kelvin.

    Attributes:
        psf: standard deviation of the Gaussian optics blur in pixels, 0 to 1.2, in addition to the average over the
            square pixel.
        netd: standard deviation in mK of the noise of each pixel in each frame.
        fixed_pattern: standard deviation in mK of the offset of each pixel, which is constant through the clip.
        stripes: standard deviation in mK of the offset of each column, which is constant through the clip.
        saturated: fraction of the clip's pixels below and above the range, so that a single hot spot does not
            determine it.
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
            """Reduce the second to last axis."""
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
        """Return noise of the radiance, (T, H, W) in W / (m2 sr)."""
        scale = 1e-3 * _NOISE_PER_KELVIN
        noise = rng.standard_normal(shape, dtype=np.float32)
        noise *= self.netd * scale
        fixed = rng.standard_normal(shape[1:], dtype=np.float32) * (self.fixed_pattern * scale)
        fixed += rng.standard_normal(shape[-1], dtype=np.float32) * (self.stripes * scale)
        noise += fixed
        return noise

    def choose_range(self, radiance: Array) -> tuple[float, float]:
        """Return the lowest and highest apparent temperature (K) of the range for a noise-free clip (T, H, W)."""
        sample = np.sort(radiance[::3, ::2, ::2], axis=None)
        low, high = (sample[round(share * (sample.size - 1))] for share in (self.saturated[0], 1 - self.saturated[1]))
        low, high = (float(k) for k in apparent_kelvin(np.array([low, high], np.float32)))
        slack = max(0.03 * (high - low), (6.0 - (high - low)) / 2)
        return low - slack, high + slack

    def digitise(self, radiance: Array, low: float, high: float) -> NDArray[np.uint16]:
        """Return the apparent temperature as 16-bit counts, 0 at `low` and 65535 at `high` Kelvin, with saturation."""
        value = apparent_kelvin(radiance)
        value -= np.float32(low)
        value *= np.float32(65535 / (high - low))
        value += np.float32(0.5)
        return np.clip(value, 0, 65535, out=value).astype(np.uint16)


def radiometry(low: float, high: float) -> Radiometry:
    """Return the radiometry of `Sensor.digitise`: the signal is linearised, so that counts are linear in Kelvin."""
    return Radiometry(0.0, 65535.0, 16, "linear", (low, (high - low) / 65535))


def surface_radiance(kelvin: Array, emissivity: Array, reflected: float) -> Array:
    """Return a surface's radiance: emission, by its emissivity, plus the reflection of a sky at `reflected` K."""
    mirror = float(band_radiance(np.array([reflected], np.float32))[0])
    radiance = band_radiance(kelvin)
    radiance -= np.float32(mirror)
    radiance *= emissivity
    radiance += np.float32(mirror)
    return radiance
