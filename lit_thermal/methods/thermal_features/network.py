"""Network that trains thermal features: what each pixel shows is predicted from the features of all stages."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.thermal_features import WIDTHS, ThermalFeatureNetwork


class PixelPredictions(NamedTuple):
    """What the network predicts at each pixel of images (B, 1, H, W)."""

    classes: Tensor
    """(B, classes, H, W): scores of the classes of the masks."""
    temperatures: Tensor
    """(B, levels, H, W): scores of the classes of temperature."""
    sides: Tensor
    """(B, 4, H, W): distances to the left, upper, right and lower side of the object's box, log(1 + pixels)."""


class ThermalFeatureTrainer(nn.Module):
    """Feature network in training, with linear maps of its stages that are enlarged, added and read per pixel.

    Args:
        classes: number of classes of the masks.
        levels: number of classes of temperature.
        width: number of channels to which each stage is mapped.
    """

    def __init__(self, classes: int, levels: int, width: int = 48) -> None:
        super().__init__()
        self.features = ThermalFeatureNetwork(normed=True)
        self.maps = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in WIDTHS)
        self.read = nn.Conv2d(width, classes + levels + 4, 1)
        self.split = (classes, levels, 4)
        self.to(memory_format=torch.channels_last)  # a third faster on the CPU

    def forward(self, image: Tensor) -> PixelPredictions:
        """Predict what each pixel of images (B, 1, H, W) in [0, 1] shows."""
        size = image.shape[-2:]
        total = image.new_zeros(1)
        for stage, features in zip(self.maps, self.features(image), strict=True):
            total = total + F.interpolate(stage(features), size, mode="bilinear", align_corners=False)
        classes, temperatures, sides = self.read(torch.relu(total)).split(self.split, dim=1)
        return PixelPredictions(classes, temperatures, F.softplus(sides))
