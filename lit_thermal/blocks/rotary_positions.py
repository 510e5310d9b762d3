"""Rotary position embeddings (RoPE) of tokens on square grids: attention depends on relative positions."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

BASE = 10000.0
"""Base of the geometric sequence of rotation frequencies."""


def grid_rotations(sides: tuple[int, ...], dim: int, extent: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the rotations of each token's channels, for a sequence of grids.

    All grids cover the same square: the token in row i and column j of a grid of side n is at i * extent / n and
    j * extent / n. The first half of the channel pairs is rotated by the row and the other by the column; pair m of
    each half is rotated by position * 10000^(-4 m / dim). This is the two-dimensional RoPE of VARSR and Real-IISR, with
    an extent of 32.

    Args:
        sides: side lengths of the grids, whose tokens are in row-major order. A grid of one token is at the origin.
        dim: number of channels of a head, a multiple of 4.
        extent: side length of the square.
        dtype: type of the result; angles are always computed in float64.
        device: device of the result.

    Returns:
        (2, sum of sides^2, dim / 2), cosines and sines.
    """
    return torch.from_numpy(_rotations(sides, dim, extent)).to(device, dtype, non_blocking=True)


@lru_cache(maxsize=8)
def _rotations(sides: tuple[int, ...], dim: int, extent: float) -> np.ndarray:
    """Return cosines and sines in float64; a tensor shares their memory and must not modify them."""
    # The cache holds an array, because a tensor would keep the mode (inference, export) of the first call.
    frequencies = BASE ** (-4 / dim * np.arange(dim // 4))
    lines = [np.arange(side) * (extent / side) for side in sides]
    places = np.concatenate([np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2) for line in lines])
    angles = (places[..., None] * frequencies).reshape(len(places), -1)
    return np.stack([np.cos(angles), np.sin(angles)])


def rotate(x: Tensor, rotations: Tensor) -> Tensor:
    """Rotate each pair of adjacent channels by its angle, which preserves norms.

    Args:
        x: tokens (..., tokens, dim).
        rotations: cosines and sines (2, tokens, dim / 2).

    Returns:
        (..., tokens, dim), in the promoted type of both arguments.
    """
    cosines, sines = rotations
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cosines - odd * sines, even * sines + odd * cosines], dim=-1).flatten(-2)
