"""The learnable embedding of output times that THERIS shares between interpolation and state space blocks."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.batch import is_observed

OCTAVES = 4
FEATURES = 4 * OCTAVES + 4


def time_features(tau: Tensor, frames: int, temporal_scale: int) -> Tensor:
    """Describe output times by 20 numbers that do not depend on the content.

    The numbers are sine and cosine of ``2 pi 2^j phi`` for j = 0..3, once with phi = frac(tau) and once with
    phi = tau / frames; 1/s and log2 s; whether an input frame lies at tau; and the distance to the nearest input frame.

    Args:
        tau: output times (T,), in input frames.
        frames: number of input frames X.
        temporal_scale: number s of output steps between two input frames.

    Returns:
        (T, 20), float64.
    """
    tau = tau.double()
    octaves = 2 * math.pi * 2.0 ** torch.arange(OCTAVES, dtype=torch.float64, device=tau.device)
    distance = (tau - tau.round()).abs()
    phases = torch.cat([(tau % 1)[:, None] * octaves, (tau / frames)[:, None] * octaves], dim=1)
    rate = torch.tensor([1 / temporal_scale, math.log2(temporal_scale)], dtype=torch.float64, device=tau.device)
    return torch.cat(
        [
            phases.sin(),
            phases.cos(),
            rate.expand(len(tau), 2),
            is_observed(tau).double()[:, None],
            distance[:, None],
        ],
        dim=1,
    )


class TimeEmbedding(nn.Module):
    """The network Theta of THERIS: a learnable vector e_i for each output time.

    The paper does not specify its layers; here the features of `time_features` pass a two-layer MLP.

    Args:
        dim: width of the embedding.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.expand = nn.Linear(FEATURES, dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, tau: Tensor, frames: int, temporal_scale: int) -> Tensor:
        """Embed times (T,), in input frames, as (T, dim), in the precision of the weights even under autocast."""
        weight = self.expand.weight
        features = time_features(tau.cpu(), frames, temporal_scale).to(weight, non_blocking=True)
        with torch.autocast(weight.device.type, enabled=False):
            return self.project(F.silu(self.expand(features)))
