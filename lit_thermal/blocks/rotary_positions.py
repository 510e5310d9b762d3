"""Rotary positions of tokens on square grids: a query and a key meet by how far they lie apart."""

from functools import lru_cache

import torch
from torch import Tensor

BASE = 10000.0
"""Wave lengths of the positions grow up to this."""


@lru_cache(maxsize=8)
def grid_rotations(sides: tuple[int, ...], dim: int, extent: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return how far the channels of each token turn, for grids that stand one after the other.

    All grids cover the same square: the token in row i and column j of a grid of side n is at i * extent / n and
    j * extent / n. The first half of the channel pairs turns by the row and the other by the column, pair m of each
    by position * 10000^(-4 m / dim) (RoPE in two dimensions as VARSR and Real-IISR have it, with an extent of 32).

    Args:
        sides: of the grids, whose tokens stand row by row. A grid of one token is at the origin.
        dim: channels of a head, a multiple of 4.
        extent: side of the square.
        dtype: of the result; angles are computed in float64 whatever it is.
        device: of the result.

    Returns:
        (2, sum of sides^2, dim / 2), cosines and sines.
    """
    # What is made in inference mode cannot be kept for a later backward pass.
    with torch.inference_mode(False):
        frequencies = BASE ** (-4 / dim * torch.arange(dim // 4, dtype=torch.float64, device="cpu"))
        lines = [torch.arange(side, dtype=torch.float64, device="cpu") * (extent / side) for side in sides]
        places = torch.cat([torch.cartesian_prod(line, line) for line in lines])
        angles = (places[..., None] * frequencies).flatten(1)
        return torch.stack([angles.cos(), angles.sin()]).to(device, dtype)


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Turn each pair of adjacent channels by its angle, which keeps lengths.

    Args:
        x: (..., tokens, dim).
        rotations: (2, tokens, dim / 2), cosines and sines.

    Returns:
        As `x`, in the type of both together.
    """
    cosines, sines = rotations
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cosines - odd * sines, even * sines + odd * cosines], dim=-1).flatten(-2)
