"""Orthonormal cosine bases on half-sample nodes, evaluated at any real position."""

import math

import torch
from torch import Tensor


def cosine_basis(position: Tensor, count: int) -> Tensor:
    """Evaluate the orthonormal DCT-II basis of `count` nodes at real positions.

    ``basis[i, n] = c_n cos(pi n (position_i + 1/2) / count)`` with ``c_0 = sqrt(1/count)`` and
    ``c_n = sqrt(2/count)``. At the nodes 0..count-1 this is the (orthogonal) inverse DCT.

    Args:
        position: positions (T,), in units of nodes.
        count: number of nodes.

    Returns:
        (T, count), float64.
    """
    n = torch.arange(count, dtype=torch.float64, device=position.device)
    scale = torch.full_like(n, math.sqrt(2 / count))
    scale[0] = math.sqrt(1 / count)
    return scale * torch.cos(math.pi * n * (position.double()[:, None] + 0.5) / count)
