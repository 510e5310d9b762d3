"""PSNR and SSIM of images whose targets are displaced, registered and not, over the same pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_thermal.metrics.quality import psnr, ssim
from lit_thermal.ops.registration import Displacement, common_view

REGISTERED = ("psnr_unregistered", "ssim_unregistered", "psnr_registered", "ssim_registered")
"""Names of the metrics of `registered_quality`."""


def registered_quality(restored: Tensor, target: Tensor, displacements: Sequence[Displacement]) -> dict[str, Tensor]:
    """Measure the part of each restored image that its target also shows, without and with the displacement.

    Both values of an image are measured over the same pixels of the restored image, and so are those of all methods.
    The displacement is given, so it does not depend on the restored image.

    Args:
        restored: (B, ..., 1, H, W) results in [0, 1], already quantized.
        target: targets of the same shape.
        displacements: displacement of each target relative to its input, in pixels down and to the right.

    Returns:
        Values (B, ...), float32, by the names in `REGISTERED`.
    """
    columns: dict[str, list[Tensor]] = {name: [] for name in REGISTERED}
    for mine, true, displacement in zip(restored, target, displacements, strict=True):
        kept, moved = common_view(mine, true, displacement)
        still, _ = common_view(true, true, displacement)
        values = (psnr(kept, still), ssim(kept, still), psnr(kept, moved), ssim(kept, moved))
        for name, value in zip(REGISTERED, values, strict=True):
            columns[name].append(value)
    return {name: torch.stack(values) for name, values in columns.items()}
