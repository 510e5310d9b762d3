"""Correction of a radiometric image for emissivity, reflection and air, as new constants of the camera's Planck law."""

import math
from dataclasses import dataclass

from lit_thermal.batch import Radiometry

ROOM_AIR = 293.15
"""Default temperature in Kelvin of air, reflected surroundings and window, which is FLIR's default too."""
_WATER = (1.5587, 6.939e-2, -2.7816e-4, 6.8455e-7)
"""Coefficients of FLIR's polynomial in degrees Celsius for the logarithm of the water content of saturated air."""


@dataclass(frozen=True)
class ObjectSettings:
    """Settings of a camera that turn apparent temperatures into temperatures of the object.

    Attributes:
        emissivity: emissivity of the object, above 0, at most 1.
        distance: distance of the object in metres.
        humidity: relative humidity of the air, 0 to 1.
        reflected: apparent temperature in Kelvin of the surroundings that the object reflects.
        air: temperature of the air in Kelvin.
        window: temperature in Kelvin of a window in front of the camera.
        window_transmission: transmission of that window, 1 for none.
        atmosphere: FLIR's constants alpha1, alpha2, beta1, beta2 and X of the air's transmission.
    """

    emissivity: float = 1.0
    distance: float = 0.0
    humidity: float = 0.5
    reflected: float = ROOM_AIR
    air: float = ROOM_AIR
    window: float = ROOM_AIR
    window_transmission: float = 1.0
    atmosphere: tuple[float, float, float, float, float] = (0.006569, 0.01262, -0.002276, -0.00667, 1.9)

    def transmission(self) -> float:
        """Return the transmission of half of the air's path; the window, if there is one, is in its middle."""
        alpha1, alpha2, beta1, beta2, share = self.atmosphere
        celsius = self.air - 273.15
        water = math.sqrt(self.humidity * math.exp(sum(c * celsius**power for power, c in enumerate(_WATER))))
        path = math.sqrt(max(0.0, self.distance) / 2)
        first, second = math.exp(-path * (alpha1 + beta1 * water)), math.exp(-path * (alpha2 + beta2 * water))
        return share * first + (1 - share) * second

    def gain_and_stray(self, radiometry: Radiometry) -> tuple[float, float]:
        """Return a and s of ``counts = a * counts of the object + s``, where s is the radiation of everything else."""
        air, glass = self.transmission(), self.window_transmission
        reflected, around, pane = (counts_of(t, radiometry) for t in (self.reflected, self.air, self.window))
        stray = (
            air * glass * air * (1 - self.emissivity) * reflected
            + (air * glass * (1 - air) + 1 - air) * around
            + air * (1 - glass) * pane
        )
        return self.emissivity * air * glass * air, stray

    def folded(self, radiometry: Radiometry) -> Radiometry:
        """Return the mapping from the same counts to temperatures of the object; it is exact.

        ``kelvin = B / log(R1 / (R2 / a * (counts + a * O - s)) + F)``: the same law with two other constants.

        Args:
            radiometry: mapping to apparent temperatures, with the unit "planck".
        """
        gain, stray = self.gain_and_stray(radiometry)
        r1, r2, b, f, o = radiometry.constants
        return radiometry._replace(constants=(r1, r2 / gain, b, f, gain * o - stray), reading="object")

    def plausible(self) -> bool:
        """Return whether the numbers can describe a scene; damaged files have others."""
        kelvins = (self.reflected, self.air, self.window)
        return (
            0 < self.emissivity <= 1
            and 0 <= self.distance < 1e6
            and 0 <= self.humidity <= 1
            and 0 < self.window_transmission <= 1
            and all(30 < kelvin < 5000 for kelvin in kelvins)
            and all(math.isfinite(number) for number in self.atmosphere)
            and 0 < self.transmission() <= 1.1
        )


def counts_of(kelvin: float, radiometry: Radiometry) -> float:
    """Return the counts of a black body of this temperature, with a fraction; the inverse of the Planck law."""
    r1, r2, b, f, o = radiometry.constants
    return r1 / (r2 * (math.exp(b / kelvin) - f)) - o
