"""Noise that is determined by an image's name, not by its position in a folder, a batch or a run."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


class SeededNoise:
    """Unit Gaussian noise for the images of a batch, each with its own generator.

    The noise of an image depends only on its seed, its shape and the number of the draw. Noise is drawn on the CPU in
    float32, so that it is the same on every device and, up to rounding, in every precision.

    Args:
        seeds: seed of each image, 0 to 2**64 - 1.

    Attributes:
        generators: random generators of the images, on the CPU, for code that draws its own random numbers.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    @classmethod
    def of(cls, names: Sequence[str], seed: int, sample: int = 0) -> "SeededNoise":
        """Return noise with seeds derived from the names of the images; it is the same on every machine.

        Args:
            names: names of the images of a batch.
            seed: seed of the run.
            sample: index of the sample, if several are drawn for an image.
        """
        return cls([_hash(f"{seed}/{sample}/{name}") for name in names])

    def __call__(self, like: Tensor) -> Tensor:
        """Return the next draw of each image.

        Args:
            like: tensor (B, ...) with the shape, device and type of the noise; B must be the number of seeds.

        Raises:
            ValueError: the number of seeds is not B.
        """
        if len(like) != len(self.generators):
            raise ValueError(f"there are {len(self.generators)} seeds for {len(like)} images")
        draws = [torch.randn(like.shape[1:], generator=g, dtype=torch.float32) for g in self.generators]
        return torch.stack(draws).to(like) if draws else torch.empty_like(like)


def _hash(text: str) -> int:
    """Return a 64-bit hash of a text, because Python's own hash differs between processes."""
    # File names that are not valid text contain surrogates, which UTF-8 would refuse.
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogateescape")).digest()[:8], "big")
