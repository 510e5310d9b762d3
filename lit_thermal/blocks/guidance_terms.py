"""Terms of the guidance loss, which compare a restored image with a reference."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError, check_choice
from lit_thermal.ops.resize import resize
from lit_thermal.ops.spectra import Normalization, normalized_spectrum


class GuidanceTerm(nn.Module, ABC):
    """Base of the family: one loss per image, differentiable in the restored image.

    Images are (B, 1, H, W) in [-1, 1]; values outside that range are allowed. The loss of an image that equals its
    target must be 0 up to rounding. It must be computed in float32 at least, even under autocast, because it consists
    of differences of almost equal features. A term must have no weights that are trained or saved.

    Args:
        weight: weight of this term in the guidance loss, at least 0; 0.01 in DifIISR's released training code.

    Attributes:
        name: name under which the term is logged.
        needs_hr: whether the term compares with the high-resolution image, which is available only in training.

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
        """Return the unweighted loss (B,) of images (B, 1, H, W), given their targets and inputs (B, 1, h, w)."""


class ReferenceTerm(GuidanceTerm):
    """Base of terms that compare with the high-resolution image; subclasses define the distance of two images."""

    needs_hr = True

    def forward(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Return the unweighted loss (B,) of images (B, 1, H, W), given their targets of the same shape.

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
        """Return the loss (B,) of two images (B, 1, H, W), which are float32 at least."""


class SpectrumTerm(ReferenceTerm):
    """Mean squared difference of normalised log amplitude spectra: the visual guidance V of DifIISR (eq. 10 and 11).

    The term compares which frequencies occur: circular shifts do not change it, and a change of contrast alone hardly
    does. Eq. 11 marks the two spectra differently ("norm", "shift"); both are treated alike here, as in the released
    code.

    Args:
        weight: weight of this term.
        normalization: `image` normalises each spectrum to zero mean and unit variance by itself, as the paper
            describes; `batch` does so over the whole batch, as the released code does, so that the loss of an image
            depends on its batch.

    Raises:
        InputError: `weight` is negative, or the normalisation is unknown.
    """

    name = "spectrum"

    def __init__(self, weight: float = 0.01, normalization: Normalization = "image") -> None:
        super().__init__(weight)
        check_choice(normalization, Normalization, "SpectrumTerm's normalization")
        self.normalization = normalization

    def distance(self, image: Tensor, hr: Tensor) -> Tensor:
        """Return the loss (B,) of two images (B, 1, H, W)."""
        return mean_square(normalized_spectrum(image, self.normalization), normalized_spectrum(hr, self.normalization))


class DataConsistencyTerm(GuidanceTerm):
    """Mean squared difference between the downsampled restored image and the low-resolution input.

    The term needs no high-resolution image, so it can guide at test time too. Downsampling is antialiased bicubic
    (a = -0.5) to the size of the input and does not model the blur and noise of a camera. This is our addition, after
    the operator of diffusion posterior sampling (Chung et al., "Diffusion posterior sampling for general noisy inverse
    problems", 2023), on which DifIISR builds.
    """

    name = "consistency"
    needs_hr = False

    def forward(self, image: Tensor, hr: Tensor | None, lr: Tensor) -> Tensor:
        """Return the unweighted loss (B,) of images (B, 1, H, W), given their inputs (B, 1, h, w); `hr` is ignored."""
        with torch.autocast(image.device.type, enabled=False):
            return mean_square(resize(precise(image), (lr.shape[-2], lr.shape[-1])), precise(lr))


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean squared difference (B,) of two tensors (B, ...) of the same shape."""
    return F.mse_loss(a, b, reduction="none").flatten(1).mean(dim=1)


def precise(x: Tensor) -> Tensor:
    """Return the tensor in float32 if its precision is lower, and unchanged otherwise."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
