"""Encoders of condition maps: turn an image, or a map computed from it, into one token per block of pixels."""

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
"""Inverse of the root mean square of SiLU(x) for standard normal x; keeps the scale of features through SiLU."""
PATCH_LEVEL = 4
"""Deepest level of a backbone that is used, of stride 2 ** 4: DINOv3 has patches of 16 pixels."""


class MapEncoder(nn.Module, ABC):
    """Base of the family: encodes images (B, in_channels, H, W) as maps (B, width, H / factor, W / factor).

    Subclasses must accept any H and W that are multiples of `factor`, encode each image of a batch independently, and
    compute in the precision of the weights, under autocast too.

    Args:
        in_channels: number of channels of the images.
        width: number of channels of the result.

    Attributes:
        factor: factor by which each side of the image is reduced.
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
            image: images (B, in_channels, H, W).
            limits: nominal range (low, high) of the image's values, used by encoders that were trained on pictures;
                values may lie outside it.

        Raises:
            InputError: the image has another number of channels, or a side is not a multiple of `factor`.
        """

    def _check(self, image: Tensor) -> None:
        if image.shape[1] != self.in_channels or any(side % self.factor or not side for side in image.shape[-2:]):
            raise InputError(
                f"{type(self).__name__} was given an image of shape {tuple(image.shape[1:])} and takes "
                f"{self.in_channels} channels and sides that are multiples of {self.factor}: pad, cut or resize it"
            )


class ConvStackEncoder(MapEncoder):
    """A stack of 3x3 convolutions with SiLU and no norms (VARSR and the released Real-IISR).

    The first convolution maps to the first width. Then each width has one convolution of stride 1 and one of stride 2
    to the next width (the last one to `width`). A final convolution without activation follows. `limits` is ignored.

    Weights are drawn from a normal distribution scaled by the number of inputs, so that features keep their scale at
    any width; biases are zero. The released code uses a standard deviation of 0.02 everywhere, which makes the features
    of narrow stacks vanish.

    Args:
        in_channels: number of channels of the images.
        width: number of channels of the result; 1536 in the published model.
        widths: channels of the convolutions before the last width, the finest first. Each halves the sides once.

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
    """A vision transformer from timm, as in Real-IISR section 3.1, followed by a linear layer to `width`.

    The paper names DINOv3 but no size; the smallest one is the default. The image is scaled from its limits to [0, 1],
    a single channel is repeated three times, and the result is normalised as in the backbone's pretraining. The last
    features of stride 16 pass a layer norm and the linear layer. All parameters are trained.

    Args:
        in_channels: number of channels of the images, 1 or 3.
        width: number of channels of the result.
        name: name of the backbone in timm, such as `vit_small_patch16_dinov3` or `vit_large_patch16_dinov3`.
        pretrained: start from the published weights of the backbone.
        weights: file with these weights (.safetensors, .pth), to be used instead of a download.

    Raises:
        InputError: `in_channels` is neither 1 nor 3; or as for `lit_thermal.blocks.image_encoder.TimmEncoder`.
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
        # No affine part: the linear layer that follows has one.
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
