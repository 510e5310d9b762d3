"""Loss that penalises pairs of neighbouring patches whose thermal order differs from the true image."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError, check_choice

Reduction = Literal["mean", "released"]
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Offsets (rows, columns) from a patch to its neighbours: each pair once, those along the axes first."""


class ThermalOrderLoss(nn.Module):
    """Thermal order consistency of Real-IISR (eq. 3): penalises adjacent patches whose order is reversed.

    Images are reduced to the means of `patch` x `patch` pixels; remaining pixels at the right and bottom are ignored.
    With d the difference of two adjacent means, a pair costs ``max(0, -d_restored * d_target)``, which is zero if both
    differences have the same sign or the target's is zero. With threshold 0, replacing the target by
    ``a * target + b``, a > 0, multiplies the loss by a. With patch 1, a loss of zero is invariant under any increasing
    map of the target's values.

    The loss is computed in float32 at least, without autocast.

    Args:
        patch: side of a patch in pixels.
        neighbours: number of neighbours of a patch: 4 along the axes, or 8 with the diagonals (released; the paper says
            "adjacent").
        threshold: least difference of two means in the target, at least 0; pairs below it cost nothing but count in the
            mean. The released code uses 0.1.
        reduction: "mean" is the paper's mean over the pairs of all images. "released" sums the costs around each patch,
            divided by `neighbours`, so that each pair counts twice, and takes the mean over the images: about 4000
            times the "mean" for 512 x 512 pixels.

    Raises:
        InputError: an option is out of range or unknown.
    """

    def __init__(
        self,
        patch: int = 8,
        neighbours: Literal[4, 8] = 8,
        threshold: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        if patch < 1 or neighbours not in (4, 8) or threshold < 0:
            raise InputError(
                f"ThermalOrderLoss has patch {patch}, neighbours {neighbours} and threshold {threshold}; give a patch "
                "of at least 1 pixel, 4 or 8 neighbours, and a threshold of at least 0"
            )
        check_choice(reduction, Reduction, "ThermalOrderLoss's reduction")
        self.patch, self.neighbours, self.threshold, self.reduction = patch, neighbours, threshold, reduction

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss; the target gets no gradient.

        Args:
            restored: restored images (B, C, H, W) in [0, 1], whose channels are averaged.
            target: true images of the same shape.

        Raises:
            InputError: the shapes differ, or an image has fewer than two patches.
        """
        if restored.shape != target.shape or restored.ndim != 4:
            raise InputError(
                f"ThermalOrderLoss compares images of one shape (B, C, H, W), not {tuple(restored.shape)} with "
                f"{tuple(target.shape)}"
            )
        if sum(side // self.patch for side in target.shape[-2:]) < 3 or min(target.shape[-2:]) < self.patch:
            raise InputError(
                f"images of {tuple(target.shape[-2:])} pixels do not hold two patches of {self.patch} x {self.patch} "
                "to compare: give ThermalOrderLoss larger images or a smaller patch"
            )
        with torch.autocast(restored.device.type, enabled=False):
            ours, truth = self._patches(restored), self._patches(target.detach())
            costs = [self._costs(ours, truth, *step) for step in STEPS[: self.neighbours // 2]]
            total = torch.stack([cost.sum() for cost in costs]).sum()
            if self.reduction == "released":
                return 2 * total / (self.neighbours * len(restored))
            return total / sum(cost.numel() for cost in costs)

    def _patches(self, image: Tensor) -> Tensor:
        """Return the means (B, h, w) of the patches."""
        precise = image.to(torch.promote_types(image.dtype, torch.float32))
        return F.avg_pool2d(precise.mean(1, keepdim=True), self.patch)[:, 0]

    def _costs(self, ours: Tensor, truth: Tensor, down: int, right: int) -> Tensor:
        """Return the costs (B, h', w') of the pairs of patches that are `down` rows and `right` columns apart."""
        d_ours, d_truth = (_difference(x, down, right) for x in (ours, truth))
        costs = F.relu(-(d_ours * d_truth))
        return costs.masked_fill(d_truth.abs() < self.threshold, 0) if self.threshold else costs


def _difference(x: Tensor, down: int, right: int) -> Tensor:
    height, width = x.shape[-2:]
    near = x[:, : height - down, max(0, -right) : width - max(0, right)]
    far = x[:, down:, max(0, right) : width - max(0, -right)]
    return near - far
