"""Random textures: tiles are made once per process, and each scene uses random crops of them.

A tile is a fixed Gaussian random field of zero mean and unit variance. Making a new one for every scene would cost more
than the rest of the rendering.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float32]
Kind = Literal["cloud", "soil", "leaf", "grass"]

TILE = 512
"""Side of a tile in subpixels of the canvas."""


@lru_cache(maxsize=8)
def _tile(kind: Kind) -> Array:
    """Return a float32 tile (2 TILE, 2 TILE): a periodic field, repeated along both axes so that pieces are slices."""
    seed = {"cloud": 1, "soil": 2, "leaf": 3, "grass": 4}[kind]
    noise = np.random.default_rng(seed).standard_normal((TILE, TILE))
    fy, fx = np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)
    f = np.hypot(fy, fx)
    f[0, 0] = 1.0
    if kind == "cloud":
        gain = f**-2.2 * (f > 1.5 / TILE)
    elif kind == "soil":
        gain = f**-1.1 * np.exp(-((f / 0.07) ** 2)) * (f > 3 / TILE)
    elif kind == "leaf":  # clusters some 8 to 30 HR pixels wide
        gain = f**-1.0 * np.exp(-((f / 0.06) ** 2)) * (1 - np.exp(-((f / 0.015) ** 2)))
    else:  # upright blades
        gain = np.exp(-((fx / 0.07) ** 2) - (fy / 0.025) ** 2) * (1 - np.exp(-((f / 0.02) ** 2)))
    gain[0, 0] = 0.0
    drawn = np.fft.irfft2(np.fft.rfft2(noise) * gain, s=(TILE, TILE))
    field: Array = np.tile((drawn / drawn.std()).astype(np.float32), (2, 2))
    field.setflags(write=False)
    return field


def texture(rng: Generator, kind: Kind, height: int, width: int) -> Array:
    """Return a piece (height, width) of a tile in subpixels, at a random position and possibly mirrored.

    The piece must not be modified.
    """
    y, x, mirror = (int(n) for n in rng.integers(0, (TILE, TILE, 2)))
    tile = _tile(kind)
    if height > TILE or width > TILE:
        piece = tile[np.ix_((y + np.arange(height)) % TILE, (x + np.arange(width)) % TILE)]
    else:
        piece = tile[y : y + height, x : x + width]
    return piece[:, ::-1] if mirror else piece


def perspective_texture(rng: Generator, kind: Kind, depth: NDArray[np.float64], width: int, centre: float) -> Array:
    """Return a texture (len(depth), width) of the ground; row i is at distance `depth[i]`.

    Args:
        rng: random generator for the position of the piece.
        kind: tile from which the piece is taken.
        depth: distance of each row, 1 at the lowest; at distance 1 a subpixel of the tile is one of the canvas.
        width: number of columns.
        centre: column of the vanishing point.
    """
    y, x = rng.integers(0, TILE, 2)
    rows = (y + TILE * 0.6 * depth).astype(np.intp) % TILE
    cols = (x + (np.arange(width) - centre) * np.minimum(depth, 8.0)[:, None]).astype(np.intp) % TILE
    return _tile(kind)[rows[:, None], cols]
