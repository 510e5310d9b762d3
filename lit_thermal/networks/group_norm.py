"""Group normalisation in float32 at least, independent of the precision of the surrounding network."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class WideGroupNorm(nn.GroupNorm):
    """Group normalisation in float32 at least, under autocast and in a half-precision module too.

    Sums over a whole feature map lose too much precision with 8 or 11 significant bits. The result has the type of the
    input.

    Args:
        dim: number of channels. The number of groups is the greatest common divisor of `dim` and `groups`, which is
            `groups` at every width of the published networks.
        groups: maximum number of groups.
        eps: constant that is added to the variance.
    """

    def __init__(self, dim: int, groups: int = 32, eps: float = 1e-5) -> None:
        super().__init__(math.gcd(groups, dim), dim, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, dim, ...), keeping its shape and type."""
        wide = torch.promote_types(input.dtype, torch.float32)
        with torch.autocast(input.device.type, enabled=False):
            normed = F.group_norm(input.to(wide), self.num_groups, self.weight.to(wide), self.bias.to(wide), self.eps)
        return normed.to(input.dtype)
