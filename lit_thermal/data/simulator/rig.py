"""Named camera pairs: one with a beam splitter, and phones with a thermal module at three degrees of misalignment.

The phone is the one of 3M-TI: the thermal camera has a field of view of 50 x 50 degrees, the visible camera 74 x 59. On
a common plane the visible picture is tan(37) / tan(25) = 1.62 times as wide and tan(29.5) / tan(25) = 1.21 times as
high; it is squeezed when the whole picture is resized to the square of the thermal one. All values except the fields of
view are our estimates for such a phone.
"""

import math
from dataclasses import dataclass
from typing import Literal

from numpy.random import Generator

from lit_thermal.data.simulator.render import Camera, Flare

SecondCamera = Literal["coaxial", "phone_light", "phone", "phone_strong"]

_WIDE, _HIGH = (math.tan(math.radians(angle / 2)) / math.tan(math.radians(25)) for angle in (74, 59))


@dataclass(frozen=True)
class Rig:
    """Position of the visible camera relative to the thermal one, and the defects of its pictures.

    Attributes:
        view: ratio of the visible view to the thermal one, see `Camera.view`.
        baseline: displacement (x, y) against the background of objects at the lower edge of the view, as a fraction of
            the view's side.
        pointing: largest misalignment of the axes, as a fraction of the view's side; drawn for each scene.
        delay: largest delay of the visible picture in frames; drawn for each scene.
        flares: probability of a bright source that causes glare in the lens.
        glare: largest strength of the glare.
    """

    view: tuple[float, float] = (1.0, 1.0)
    baseline: tuple[float, float] = (0.0, 0.0)
    pointing: float = 0.0
    delay: float = 0.0
    flares: float = 0.0
    glare: float = 0.0

    def draw(self, rng: Generator, size: int, shift: tuple[float, float] = (0.0, 0.0)) -> Camera:
        """Draw the visible camera of one scene.

        Args:
            rng: random generator.
            size: height and width of the thermal view in pixels.
            shift: shift (x, y) that is added to the drawn `Camera.shift`.
        """
        radius, angle = self.pointing * size * math.sqrt(rng.random()), 2 * math.pi * rng.random()
        delay, lit, strength = self.delay * rng.random(), rng.random() < self.flares, rng.uniform(0.5, 1)
        # Sources are lamps and the sun, which are rarely low in the picture.
        place = float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.55, 0.1))
        return Camera(
            shift=(shift[0] + radius * math.cos(angle), shift[1] + radius * math.sin(angle)),
            baseline=(self.baseline[0] * size, self.baseline[1] * size),
            delay=delay,
            view=self.view,
            flare=Flare(place, float(self.glare * strength)) if lit else None,
        )


RIGS: dict[SecondCamera, Rig] = {
    "coaxial": Rig(),
    # The square middle part of the phone's picture.
    "phone_light": Rig((_HIGH, _HIGH), (0.0, 0.02), pointing=0.02, delay=1.0),
    "phone": Rig((_WIDE, _HIGH), (0.01, 0.05), pointing=0.05, delay=3.0, flares=0.2, glare=0.6),
    "phone_strong": Rig((_WIDE, _HIGH), (0.03, 0.1), pointing=0.1, delay=6.0, flares=0.5, glare=1.0),
}

FRAMES = 1 + math.ceil(max(rig.delay for rig in RIGS.values()))
"""Number of frames for which the scenes of all rigs except the coaxial one are made, so that they share scenes."""


def margin(size: int) -> int:
    """Return the margin in pixels that scenes need for this rig, for a view of `size` pixels."""
    return math.ceil(max(size * ((max(rig.view) - 1) / 2 + rig.pointing) for rig in RIGS.values())) + 1
