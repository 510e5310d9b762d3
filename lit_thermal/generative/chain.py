"""What a picture of a diffusion chain needs to know of each of its steps."""

from typing import NamedTuple

from torch import Tensor


class ChainStep(NamedTuple):
    """One step of the chain of a batch, from `chain(batch, guided)` of a method."""

    t: int
    """Index of the schedule at which the estimate was made."""
    image: Tensor
    """(B, 1, H, W) in [0, 1]: the estimate of the restored image."""
    loss: Tensor
    """(B,) the guided loss of the estimate; NaN where it cannot be computed."""
