"""Scan orders: the sequence in which a state space model reads the tokens of a video."""

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lit_thermal.ops.hilbert import hilbert_path


class ScanOrder(ABC):
    """Base of the family: a permutation of the T * H * W tokens of a clip, cut into one or more chains.

    In subclasses every token index ``(t * H + y) * W + x`` must occur exactly once in the path.
    """

    @abstractmethod
    def path(self, frames: int, height: int, width: int) -> Tensor:
        """Return token indices (chains, length), int64, with chains * length = frames * height * width."""

    def indices(self, frames: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the path on a device, and the position (frames * height * width,) of each token in the flattened path.

        Both are cached for the next clip of the same size and must not be modified.
        """
        if torch.compiler.is_exporting():  # sizes may be symbols, and tensors are fake
            path = self.path(frames, height, width).to(device)
            return path, inverse(path)
        path, places = (torch.from_numpy(found) for found in _indices(self, frames, height, width))
        return path.to(device, non_blocking=True), places.to(device, non_blocking=True)


def inverse(path: Tensor) -> Tensor:
    """Return the position (tokens,) of each token in the flattened path."""
    flat = path.flatten()
    return torch.zeros_like(flat).scatter(0, flat, torch.arange(flat.shape[0], device=flat.device))


@lru_cache(maxsize=12)
def _indices(order: ScanOrder, frames: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    # The cache holds arrays, because tensors would keep the mode (inference, export) of the first call.
    path = order.path(frames, height, width)
    return path.numpy(), inverse(path).numpy()


class SpatialFirst(ScanOrder):
    """Frame by frame, each in row-major order (SMB of THERIS)."""

    def path(self, frames: int, height: int, width: int) -> Tensor:
        """Return the identity as one chain."""
        return torch.arange(frames * height * width)[None]


class TemporalFirst(ScanOrder):
    """All times of one pixel, then those of the next pixel (TMB of THERIS).

    Args:
        mode: ``chain`` reads all pixels in one chain; ``per_pixel`` resets the state at each pixel, which is cheaper
            and prevents leakage between pixels.
    """

    def __init__(self, mode: Literal["chain", "per_pixel"] = "chain") -> None:
        self.mode = mode

    def path(self, frames: int, height: int, width: int) -> Tensor:
        """Return one chain of all tokens, or height * width chains of length `frames`."""
        path = torch.arange(frames * height * width).reshape(frames, height * width).T
        return path.contiguous() if self.mode == "per_pixel" else path.reshape(1, -1)


class Hilbert(ScanOrder):
    """A generalised Hilbert curve in each frame, reversed in every other frame (HMB of THERIS).

    Because odd frames are reversed, each frame starts at the pixel where the previous one ended.
    """

    def path(self, frames: int, height: int, width: int) -> Tensor:
        """Return one chain of all tokens."""
        curve = hilbert_path(height, width)
        turns = [curve if t % 2 == 0 else curve.flip(0) for t in range(frames)]
        return torch.cat([turn + t * height * width for t, turn in enumerate(turns)])[None]
