"""Single thermal images from the embedded simulator: no download, and the same on every machine."""

from typing import Any

from lit_thermal.data.datamodules.simulated_pairs import SimulatedPairs
from lit_thermal.data.degradations.misalignment import Aligned


class SimulatedImages(SimulatedPairs):
    """Only the thermal images of `SimulatedPairs`, from the same scenes; the visible view is not rendered.

    Args:
        scale: factor by which the target is wider and higher than the input.
        options: arguments of `SimulatedPairs` that do not concern the guide.
    """

    def __init__(self, scale: int = 4, **options: Any) -> None:
        super().__init__(
            scale=scale,
            guided=False,
            guide_shift=0.0,
            second_camera="coaxial",
            misalignment=Aligned,
            **options,
        )
