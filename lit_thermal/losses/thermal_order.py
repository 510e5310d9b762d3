"""The loss that asks what is warmer than its neighbour in the true image to be so in the restored one."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError

Reduction = Literal["mean", "released"]
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""From a patch to its neighbours, rows and columns: each pair once, those along the axes first."""


class ThermalOrderLoss(nn.Module):
    """Thermal order consistency of Real-IISR (eq. 3): a penalty where two adjacent patches swap their order.

    Images are reduced to the means of `patch` x `patch` pixels; what is left over at their right and bottom is not
    seen. With d the difference of two adjacent means, a pair costs ``max(0, -d_restored * d_target)``: nothing where
    both have the same sign, and nothing where the target's are equal. With threshold 0 the loss is multiplied by a
    where the target becomes ``a * target + b``, a > 0; at patch 1 images that cost nothing stay so under any
    increasing map of the target's values.

    Computed in float32 at least, without autocast.

    Args:
        patch: side of a patch in pixels.
        neighbours: of a patch: 4, along the axes, or 8, the diagonals too (released; the paper says "adjacent").
        threshold: pairs whose means in the target differ by less cost nothing, but are counted. The released code has
            0.1.
        reduction: "mean" is the paper's, over the pairs of all images. "released" adds up the costs around each patch
            over `neighbours`, so that a pair counts twice, and takes the mean over the images: about 4000 times the
            mean for 512 x 512 pixels.

    Raises:
        InputError: an option is none of these.
    """

    def __init__(
        self,
        patch: int = 8,
        neighbours: Literal[4, 8] = 8,
        threshold: float = 0.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        if patch < 1 or neighbours not in (4, 8) or threshold < 0 or reduction not in get_args(Reduction):
            raise InputError(
                f"ThermalOrderLoss(patch={patch}, neighbours={neighbours}, threshold={threshold}, reduction="
                f"{reduction!r}): give a patch of at least 1 pixel, 4 or 8 neighbours, a threshold of at least 0, and "
                f'"mean" or "released"'
            )
        self.patch, self.neighbours, self.threshold, self.reduction = patch, neighbours, threshold, reduction

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Scalar loss; the target gets no gradient.

        Args:
            restored: (B, C, H, W) in [0, 1]; channels are averaged.
            target: the same shape.

        Raises:
            InputError: the shapes differ, or an image has no two patches.
        """
        if restored.shape != target.shape or restored.ndim != 4:
            raise InputError(
                f"ThermalOrderLoss compares images of one shape (B, C, H, W), not {tuple(restored.shape)} with "
                f"{tuple(target.shape)}"
            )
        if sum(side // self.patch for side in target.shape[-2:]) < 3 or min(target.shape[-2:]) < self.patch:
            raise InputError(
                f"images of {tuple(target.shape[-2:])} pixels hold no two patches of {self.patch} x {self.patch} to "
                "compare: give ThermalOrderLoss larger images or a smaller patch"
            )
        with torch.autocast(restored.device.type, enabled=False):
            ours, truth = self._patches(restored), self._patches(target.detach())
            costs = [self._costs(ours, truth, *step) for step in STEPS[: self.neighbours // 2]]
            total = torch.stack([cost.sum() for cost in costs]).sum()
            if self.reduction == "released":
                return 2 * total / (self.neighbours * len(restored))
            return total / sum(cost.numel() for cost in costs)

    def _patches(self, image: Tensor) -> Tensor:
        """Means (B, h, w) of the patches."""
        precise = image.to(torch.promote_types(image.dtype, torch.float32))
        return F.avg_pool2d(precise.mean(1, keepdim=True), self.patch)[:, 0]

    def _costs(self, ours: Tensor, truth: Tensor, down: int, right: int) -> Tensor:
        """Of each pair of a patch and the one so many rows below and columns to the right, (B, h', w')."""
        d_ours, d_truth = (_difference(x, down, right) for x in (ours, truth))
        costs = F.relu(-(d_ours * d_truth))
        return costs.masked_fill(d_truth.abs() < self.threshold, 0) if self.threshold else costs


def _difference(x: Tensor, down: int, right: int) -> Tensor:
    height, width = x.shape[-2:]
    near = x[:, : height - down, max(0, -right) : width - max(0, right)]
    far = x[:, down:, max(0, right) : width - max(0, -right)]
    return near - far
