"""Agreement of a restored image with its input: the restored image is reduced again and compared."""

from typing import NamedTuple

import torch
from torch import Tensor

from lit_thermal.data.degradations.degradation import Bicubic, Degradation, MatlabBicubic, OpenCVBilinear, PillowBicubic
from lit_thermal.inference.mapping import Mapped
from lit_thermal.ops.resize import resize

_PLAIN: dict[str, type[Degradation]] = {
    kind.__name__: kind for kind in (Bicubic, MatlabBicubic, OpenCVBilinear, PillowBicubic)
}
"""Degradations without noise and random blur, by name."""


class Difference(NamedTuple):
    """Difference between a reduced result and its input, in Kelvin or, if temperatures are unknown, in counts."""

    mean: float
    largest: float


def reduction(recorded: str | None) -> Degradation:
    """Return the degradation by which a result is reduced: that of the training if it is plain, otherwise `Bicubic`.

    Args:
        recorded: name of the degradation that the model was trained with, if known.
    """
    kind = _PLAIN.get(recorded or "", Bicubic)
    return kind() if kind is Bicubic else kind(bits=16)  # type: ignore[call-arg]


def reduced(values: Tensor, degradation: Degradation, scale: int) -> Tensor:
    """Reduce images (B, 1, H, W) to (B, 1, h, w)."""
    return degradation(values.flatten(0, 1).unsqueeze(1), scale=scale, seed=0)


def back_projected(values: Tensor, lr: Tensor, degradation: Degradation, scale: int, share: float) -> Tensor:
    """Move images (B, 1, H, W) towards agreement with their inputs (B, 1, h, w).

    The difference of the input to the reduced image is enlarged and added: once in full, the image agrees with its
    input nearly everywhere, and the noise of the input is back in it.

    Args:
        values: restored images in [0, 1].
        lr: their inputs.
        degradation: degradation by which images are reduced.
        scale: factor of the enlargement.
        share: share of the difference that is added, from 0 to 1.
    """
    if not share:
        return values
    missing = resize(lr - reduced(values, degradation, scale), values.shape[-2:])
    return (values + share * missing).clamp(0, 1)


def difference(values: Tensor, image: Mapped, degradation: Degradation, scale: int) -> Difference:
    """Return how far a restored image (1, H, W), reduced again, is from its input.

    Pixels that are beyond the range of the model, such as dead ones, are left out.
    """
    again = reduced(values[None], degradation, scale)[0]
    apart = (image.measured(again) - image.measured(image.lr)).abs()[image.beyond == 0]
    apart = apart[apart.isfinite()] if apart.numel() else torch.zeros(1)
    return Difference(float(apart.mean()), float(apart.max()))
