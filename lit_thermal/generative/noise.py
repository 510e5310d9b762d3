"""Noise that belongs to an image, not to its place in a folder, a batch or a run."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


class SeededNoise:
    """Unit Gaussian noise for the images of a batch, each from a generator of its own.

    What an image gets depends on its seed, its shape and the number of the draw alone. Noise is drawn on the CPU in
    float32, so that it is the same on every device and in every precision but for rounding.

    Args:
        seeds: one for each image, 0 to 2**64 - 1.

    Attributes:
        generators: of the images, on the CPU, for who draws by itself.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    @classmethod
    def of(cls, names: Sequence[str], seed: int, sample: int = 0) -> "SeededNoise":
        """Noise whose seeds follow from the names of the images, the same on every machine.

        Args:
            names: of the images of a batch.
            seed: of the run.
            sample: number of the drawing, where an image is drawn several times.
        """
        return cls([_hash(f"{seed}/{sample}/{name}") for name in names])

    def __call__(self, like: Tensor) -> Tensor:
        """The next draw of each image.

        Args:
            like: (B, ...) gives shape, device and type; B is the number of seeds.

        Raises:
            ValueError: there is not one seed for each image.
        """
        if len(like) != len(self.generators):
            raise ValueError(f"there are {len(self.generators)} seeds for {len(like)} images")
        draws = [torch.randn(like.shape[1:], generator=g, dtype=torch.float32) for g in self.generators]
        return torch.stack(draws).to(like) if draws else torch.empty_like(like)


def _hash(text: str) -> int:
    """64 bits of a text; Python's own hash differs from process to process."""
    # File names that are no text hold what UTF-8 would refuse.
    return int.from_bytes(hashlib.sha256(text.encode(errors="surrogateescape")).digest()[:8], "big")
