"""Data of the steps of a diffusion chain, for figures."""

from typing import NamedTuple

from torch import Tensor


class ChainStep(NamedTuple):
    """One step of the chain of a batch, as returned by a method's `chain(batch, guided)`."""

    t: int
    """Index of the schedule at which the estimate was made."""
    image: Tensor
    """Estimate (B, 1, H, W) of the restored image in [0, 1]."""
    loss: Tensor
    """Guidance loss (B,) of the estimate; NaN if it cannot be computed."""
