"""Encoders of condition maps: an image, or a map made of it, to one token for each of its blocks."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.image_encoder import TimmEncoder
from lit_thermal.errors import InputError

SILU_GAIN = 1.68
"""One over the root mean square of SiLU of normally distributed values."""
PATCH_LEVEL = 4
"""Levels of stride 2 ** 4 are as coarse as a backbone's features may be: DINOv3 has patches of 16 pixels."""


class MapEncoder(nn.Module, ABC):
    """Base of the family: images (B, in_channels, H, W) to maps (B, width, H / factor, W / factor).

    What must hold: any H and W that are multiples of `factor` pass; each image of a batch is by itself; the precision
    is that of the weights, under autocast too.

    Args:
        in_channels: of the images.
        width: of the result.

    Attributes:
        factor: sides of the image over those of the result.
    """

    factor: int

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        if in_channels < 1 or width < 1:
            raise InputError(f"in_channels {in_channels} and width {width} of {type(self).__name__}: give 1 or more")
        self.in_channels = in_channels

    @abstractmethod
    def forward(self, image: Tensor, limits: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
        """Return the map (B, width, H / factor, W / factor).

        Args:
            image: (B, in_channels, H, W).
            limits: what it ranges between, for encoders that were trained on pictures; some of it may lie outside.

        Raises:
            InputError: the image has another number of channels, or a side is no multiple of `factor`.
        """

    def _check(self, image: Tensor) -> None:
        if image.shape[1] != self.in_channels or any(side % self.factor or not side for side in image.shape[-2:]):
            raise InputError(
                f"{type(self).__name__} was given an image of shape {tuple(image.shape[1:])} and takes "
                f"{self.in_channels} channels and sides that are multiples of {self.factor}: pad, cut or resize it"
            )


class ConvStackEncoder(MapEncoder):
    """3x3 convolutions and SiLU, half of the steps of stride 2; no norms (VARSR and the released Real-IISR).

    A convolution to the first width; for each width one that stays and one of stride 2 to the next, the last to
    `width`; one more without activation. It does not ask for the limits of the image.

    Weights start so that features keep their size at any width (normal, by the number of inputs), biases as zeros. The
    released code starts all at a deviation of 0.02, with which features of narrow stacks vanish.

    Args:
        in_channels: of the images.
        width: of the result; 1536 is published.
        widths: of the convolutions before, the finest first. Each halves the sides once.

    Raises:
        InputError: a number is not positive, or there are no widths.
    """

    def __init__(self, in_channels: int, width: int, widths: Sequence[int] = (32, 128, 256, 512)) -> None:
        super().__init__(in_channels, width)
        if not widths or min(widths) < 1:
            raise InputError(f"widths {list(widths)} of ConvStackEncoder: give at least one, each 1 or more")
        self.factor = 2 ** len(widths)
        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for wide, following in pairwise([*widths, width]):
            self.blocks.append(nn.Conv2d(wide, wide, 3, padding=1))
            self.blocks.append(nn.Conv2d(wide, following, 3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(width, width, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                gain = 1.0 if module is self.conv_in else SILU_GAIN
                nn.init.normal_(module.weight, std=gain / math.sqrt(module.weight[0].numel()))
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, image: Tensor, limits: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
        """Return the map (B, width, H / factor, W / factor)."""
        self._check(image)
        with torch.autocast(image.device.type, enabled=False):
            features = F.silu(self.conv_in(image.to(self.conv_in.weight.dtype)))
            for conv in self.blocks:
                features = F.silu(conv(features))
            return self.conv_out(features)


class DINOv3Encoder(MapEncoder):
    """A vision transformer of timm, as in Real-IISR section 3.1, and a linear layer to the width.

    The paper names DINOv3 and no size; its smallest one is the default. The image is scaled from its limits to
    [0, 1], one channel becomes three, and both are normalised as in the backbone's pretraining; its last features of
    stride 16 go through a layer norm and the linear layer. All of it is trained.

    Args:
        in_channels: of the images, 1 or 3.
        width: of the result.
        name: of the backbone in timm, such as `vit_small_patch16_dinov3` or `vit_large_patch16_dinov3`.
        pretrained: start from its published weights.
        weights: file with these weights (.safetensors, .pth), where they are not to be fetched.

    Raises:
        InputError: there are neither 1 nor 3 channels; or as for `lit_thermal.blocks.image_encoder.TimmEncoder`.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        name: str = "vit_small_patch16_dinov3",
        pretrained: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__(in_channels, width)
        if in_channels not in (1, 3):
            raise InputError(f"DINOv3Encoder was given in_channels {in_channels}: it takes images of 1 or 3")
        self.backbone = TimmEncoder(name, PATCH_LEVEL, pretrained, weights)
        self.factor = max(self.backbone.widths)
        features = self.backbone.widths[self.factor]
        # without an affine part of its own: the linear layer has one
        self.norm = nn.LayerNorm(features, elementwise_affine=False)
        self.linear = nn.Linear(features, width)

    def forward(self, image: Tensor, limits: tuple[float, float] = (-1.0, 1.0)) -> Tensor:
        """Return the map (B, width, H / factor, W / factor)."""
        self._check(image)
        with torch.autocast(image.device.type, enabled=False):
            low, high = limits
            picture = (image.to(self.linear.weight.dtype) - low) / (high - low)
            features = self.backbone(picture.expand(-1, 3, -1, -1))[self.factor]
            return self.linear(self.norm(features.movedim(1, -1))).movedim(-1, 1)
