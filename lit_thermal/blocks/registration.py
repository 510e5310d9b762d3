"""Registration: blocks that warp a guide onto the thermal image before a method reads it."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from lit_thermal.errors import InputError
from lit_thermal.ops.guide_registration import find_warp, warp_each


class Registered(NamedTuple):
    """Guides that lie on their thermal images, as far as the registration could find out."""

    guide: Tensor
    """(B, 3, H, W)."""
    moved: Tensor
    """(B,): displacement of the guide's centre in pixels of the guide."""
    unexplained: Tensor
    """(B,): mean logarithm of the share of the local thermal variance that the guide does not explain, at most 0."""
    matches: Tensor
    """(B,) bool: whether the guide shows the scene of the thermal image."""


class Registration(ABC):
    """Base of the family: warps the guide of each sample, without learned weights.

    Subclasses must process each sample independently, and must not wait for the device.
    """

    @abstractmethod
    def __call__(self, thermal: Tensor, guide: Tensor) -> Registered:
        """Register guides.

        Args:
            thermal: (B, 1, h, w) in [0, 1], at the resolution of the thermal camera.
            guide: (B, 3, H, W) in [0, 1], whose sides are the same multiple of those of `thermal`; no NaN.
        """


class NoRegistration(Registration):
    """Guides stay as they are."""

    def __call__(self, thermal: Tensor, guide: Tensor) -> Registered:
        """Return the guides unchanged."""
        zeros = guide.new_zeros(len(guide))
        return Registered(guide, zeros, zeros, torch.ones_like(zeros, dtype=torch.bool))


class DisplacementRegistration(Registration):
    """Displacement after which a local linear regression on the guide explains the thermal image best.

    The regression makes no assumption about which of both is brighter where, so it works between cameras. The search
    takes place at the resolution of the thermal image, but finds parts of a pixel: on simulated images at scale 8, with
    24 x 24 thermal pixels and displacements of up to 12 guide pixels, half of the errors are below 0.6 guide pixels.

    Args:
        reach: largest displacement along an axis that is searched, in thermal pixels.
        noise: standard deviation of values in [0, 1] that a regression need not explain.
        reject: guides that leave more than this unexplained count as absent; a logarithm, at most 0, where no guide is
            rejected. Matching guides of simulated scenes leave -0.5 or less, guides of other scenes mostly -0.4 or
            more.

    Raises:
        InputError: a number is out of range.
    """

    freedoms = 2

    def __init__(self, reach: float = 2.0, noise: float = 0.004, reject: float = 0.0) -> None:
        if not (0 < reach <= 16 and noise > 0 and reject <= 0):
            raise InputError(
                f"{type(self).__name__}: reach {reach} must be above 0 and at most 16, noise {noise} above 0 and "
                f"reject {reject} at most 0"
            )
        self.reach, self.noise, self.reject = reach, noise, reject

    def __call__(self, thermal: Tensor, guide: Tensor) -> Registered:
        """Register guides.

        Raises:
            InputError: a thermal image has fewer than 5 pixels a side.
        """
        if min(thermal.shape[-2:]) < 5:
            raise InputError(
                f"a thermal image of {thermal.shape[-2]}x{thermal.shape[-1]} pixels is too small to register a guide, "
                "which needs 5 a side: set model.registration to NoRegistration"
            )
        found = find_warp(thermal, guide, self.freedoms, self.reach, self.noise)
        moved = found.matrix[:, :2, 2].norm(dim=1)
        return Registered(
            warp_each(guide, found.matrix), moved, found.unexplained, found.unexplained <= self.reject
        )  # fmt: skip


class SimilarityRegistration(DisplacementRegistration):
    """Displacement, scaling and rotation, found in the same way.

    The search covers scalings of up to 10 percent and rotations of up to 6 degrees at 24 thermal pixels a side, and
    more at larger sizes only as far as it moves edges by less than about 2 thermal pixels.

    Args:
        reach: largest displacement along an axis that is searched, in thermal pixels.
        noise: standard deviation of values in [0, 1] that a regression need not explain.
        reject: guides that leave more than this unexplained count as absent, as in `DisplacementRegistration`.
    """

    freedoms = 4


class AffineRegistration(DisplacementRegistration):
    """Affine warp, found in the same way: a similarity, and different scalings along two directions.

    Args:
        reach: largest displacement along an axis that is searched, in thermal pixels.
        noise: standard deviation of values in [0, 1] that a regression need not explain.
        reject: guides that leave more than this unexplained count as absent, as in `DisplacementRegistration`.
    """

    freedoms = 6
