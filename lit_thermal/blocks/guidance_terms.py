"""Terms of the guidance loss: what a restored image is compared with, and how."""

from abc import ABC, abstractmethod
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize
from lit_thermal.ops.spectra import Normalization, normalized_spectrum


class GuidanceTerm(nn.Module, ABC):
    """Base of the family: one loss per image, differentiable in the restored image.

    What must hold: the loss of an image that equals its target is 0 up to rounding, and images are (B, 1, H, W) in
    [-1, 1], which they may leave. It is computed in float32 at least, whatever autocast says, because differences of
    almost equal features are what it is made of. A term has no weights that are trained or saved.

    Args:
        weight: of this term in the guidance loss, from 0 on; 0.01 in DifIISR's released training code.

    Attributes:
        name: under which the term is logged.
        needs_hr: it compares with the high-resolution image, which is there in training alone.

    Raises:
        InputError: `weight` is negative.
    """

    name: str
    needs_hr: bool

    def __init__(self, weight: float = 0.01) -> None:
        super().__init__()
        if not weight >= 0:
            raise InputError(f"{type(self).__name__}'s weight is {weight} and must be at least 0")
        self.weight = weight

    @abstractmethod
    def forward(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Loss (B,), not yet weighted, of images (B, 1, H, W) beside their targets and inputs (B, 1, h, w)."""


class ReferenceTerm(GuidanceTerm):
    """A term that compares with the high-resolution image: its members say how far two images are apart."""

    needs_hr = True

    def forward(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Loss (B,), not yet weighted, of images (B, 1, H, W) beside their targets of the same shape.

        Raises:
            InputError: there is no target.
        """
        if hr is None:
            raise InputError(
                f"the guidance term {type(self).__name__} compares with the high-resolution image, which is not there: "
                "take DataConsistencyTerm, or Unguided"
            )
        with torch.autocast(image.device.type, enabled=False):
            return self.distance(precise(image), precise(hr))

    @abstractmethod
    def distance(self, image: Tensor, hr: Tensor) -> Tensor:
        """Loss (B,) of two images (B, 1, H, W), float32 at least."""


class SpectrumTerm(ReferenceTerm):
    """Mean squared difference of normalised log amplitude spectra: the visual guidance V of DifIISR (eq. 10 and 11).

    It sees neither where things are (a circular shift costs nothing) nor contrast alone, but which frequencies there
    are. Eq. 11 marks the two spectra differently ("norm", "shift"); both are treated alike here, as in the released
    code.

    Args:
        weight: of this term.
        normalization: each spectrum to zero mean and unit variance over its own `image`, as the paper describes, or
            over the `batch`, as the released code does; the loss of an image then depends on its batch.

    Raises:
        InputError: `weight` is negative, or there is no such normalisation.
    """

    name = "spectrum"

    def __init__(self, weight: float = 0.01, normalization: Normalization = "image") -> None:
        super().__init__(weight)
        if normalization not in get_args(Normalization):
            raise InputError(
                f"SpectrumTerm's normalization is {normalization!r}; choose of {', '.join(get_args(Normalization))}"
            )
        self.normalization = normalization

    def distance(self, image: Tensor, hr: Tensor) -> Tensor:
        """Loss (B,) of two images (B, 1, H, W)."""
        return mean_square(normalized_spectrum(image, self.normalization), normalized_spectrum(hr, self.normalization))


class DataConsistencyTerm(GuidanceTerm):
    """Mean squared difference between the restored image, reduced, and the image that it was restored from.

    It needs no high-resolution image, so that it guides at test time too. The reduction is antialiased bicubic
    (a = -0.5) to the size of the input: blur and noise of a camera are not in it. Our addition, after the operator of
    diffusion posterior sampling (Chung et al., "Diffusion posterior sampling for general noisy inverse problems",
    2023), from which DifIISR starts.
    """

    name = "consistency"
    needs_hr = False

    def forward(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Loss (B,), not yet weighted, of images (B, 1, H, W) beside their inputs (B, 1, h, w); `hr` is not read."""
        with torch.autocast(image.device.type, enabled=False):
            return mean_square(resize(precise(image), (lr.shape[-2], lr.shape[-1])), precise(lr))


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference (B,) of tensors (B, ...) of one shape."""
    return F.mse_loss(a, b, reduction="none").flatten(1).mean(dim=1)


def precise(x: Tensor) -> Tensor:
    """The tensor itself, or in float32 where it has less."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
