"""A Hilbert-like path over a rectangle of any size."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

Vector = tuple[int, int]


def hilbert_path(height: int, width: int) -> Tensor:
    """Return a path that starts in a corner and visits every cell of a height x width grid once, in local steps.

    The path is the generalised Hilbert curve: a rectangle is cut into three (up, across, down) or, when it is
    long, into two along its longer side, until strips of width 1 remain. At most one step is diagonal (only when
    the longer side is odd and the shorter one even); all others go to a direct neighbour.

    Returns:
        (height * width,) int64, row-major cell indices in the order of the path.
    """
    return torch.from_numpy(_cells(height, width).copy())


@lru_cache(maxsize=64)
def _cells(height: int, width: int) -> np.ndarray:
    # The cache holds an array, because a tensor would keep the mode (inference, export) of the first call.
    cells: list[Vector] = []
    if width >= height:
        _fill((0, 0), (0, 1), width, (1, 0), height, cells)
    else:
        _fill((0, 0), (1, 0), height, (0, 1), width, cells)
    return np.array([y * width + x for y, x in cells], dtype=np.int64)


def _at(origin: Vector, *moves: tuple[Vector, int]) -> Vector:
    y, x = origin
    for direction, steps in moves:
        y, x = y + direction[0] * steps, x + direction[1] * steps
    return y, x


def _half(length: int) -> int:
    # An even first half lets the sub-paths join without a diagonal step.
    half = length // 2
    return half + 1 if half % 2 and length > 2 else half


def _fill(start: Vector, major: Vector, along: int, minor: Vector, across: int, cells: list[Vector]) -> None:
    """Append the cells of the rectangle at `start`, `along` cells in direction `major`, `across` in `minor`."""
    if across == 1:
        cells.extend(_at(start, (major, i)) for i in range(along))
    elif along == 1:
        cells.extend(_at(start, (minor, i)) for i in range(across))
    elif 2 * along > 3 * across:
        first = _half(along)
        _fill(start, major, first, minor, across, cells)
        _fill(_at(start, (major, first)), major, along - first, minor, across, cells)
    else:
        first, side = _half(across), along // 2
        down = (-minor[0], -minor[1])
        back = (-major[0], -major[1])
        _fill(start, minor, first, major, side, cells)
        _fill(_at(start, (minor, first)), major, along, minor, across - first, cells)
        corner = _at(start, (major, along - 1), (minor, first - 1))
        _fill(corner, down, first, back, along - side, cells)
