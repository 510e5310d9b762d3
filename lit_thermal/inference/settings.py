"""Settings of a restoration of files."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from lit_thermal.data.formats.normalize import NORMALIZE, Normalize, check_normalize

Precision = Literal["32", "bf16"]
WHOLE = 1 << 20
"""Largest number of pixels of an image that is restored whole if no side of tiles is given."""
TILE = 512
"""Side of the tiles of larger images."""


@dataclass(frozen=True)
class Settings:
    """Settings of a restoration of files.

    Attributes:
        tile: side of tiles in input pixels; None restores images of up to `WHOLE` pixels whole.
        overlap: number of input pixels that neighbouring tiles share.
        batch: number of images or tiles that are restored at once.
        device: device of the model.
        precision: number format of the computation; "bf16" is faster on GPUs.
        normalize: mapping of 16-bit counts to [0, 1]; None means that of the training.
        palette: colour map of a view beside each image; None writes none.
        samples: number of samples that are averaged, for methods that draw.
        check: whether to compare each result with its input.
        fidelity: share of the difference to the input that is added to each result, from 0 to 1.
    """

    tile: int | None = None
    overlap: int = 16
    batch: int = 1
    device: torch.device | str = "cpu"
    precision: Precision = "32"
    normalize: Normalize | None = None
    palette: str | None = None
    samples: int = 1
    check: bool = False
    fidelity: float = 0.0

    def tile_for(self, height: int, width: int) -> int | None:
        """Return the side of the tiles for an image of this size; None restores it whole."""
        return self.tile or (TILE if height * width > WHOLE else None)

    def with_range_of(self, model: Any, name: object) -> "Settings":
        """Return the settings with the mapping of a model's training, unless a mapping was given.

        Args:
            model: model of a checkpoint.
            name: checkpoint, for the error message.

        Raises:
            InputError: this version does not know the mapping of the training.
        """
        if self.normalize is not None:
            return self
        normalize = model.normalize or NORMALIZE
        check_normalize(normalize, f"the mapping that {name} was trained with")
        return replace(self, normalize=normalize)
