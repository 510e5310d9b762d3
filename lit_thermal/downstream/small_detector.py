"""A detector that trains on a CPU in minutes: FCOS on three scales of a light backbone."""

from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork

STRIDES = (8, 16, 32)


class Pyramid(nn.Module):
    """Features of a timm backbone, not pretrained, at `STRIDES`, all of one width.

    Args:
        name: name of the backbone in timm.
        width: number of channels of each scale.
    """

    def __init__(self, name: str, width: int) -> None:
        import timm

        super().__init__()
        body: Any = timm.create_model(name, features_only=True, pretrained=False, out_indices=(2, 3, 4))
        self.merge = FeaturePyramidNetwork(body.feature_info.channels(), width)
        self.body: nn.Module = body
        self.out_channels = width

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return (B, width, H / stride, W / stride) for each stride."""
        merged: dict[str, Tensor] = self.merge({str(i): level for i, level in enumerate(self.body(images))})
        return merged


class OwnSize(GeneralizedRCNNTransform):
    """Normalises and pads images without resizing them."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Return both unchanged."""
        return image, target


def fcos_small(num_classes: int, backbone: str = "test_resnet", width: int = 64, **options: Any) -> FCOS:
    """FCOS with 0.7 million parameters that takes images at their own size.

    Args:
        num_classes: number of classes including the background, as torchvision counts.
        backbone: name of a timm backbone with features at `STRIDES`.
        width: number of channels of the pyramid and the heads; a multiple of 32.
        options: further arguments of `torchvision.models.detection.FCOS`.

    Source: Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019.
    """
    network = FCOS(
        Pyramid(backbone, width),
        num_classes,
        anchor_generator=AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES)),
        head=FCOSHead(width, 1, num_classes, num_convs=2),
        **options,
    )
    network.transform = OwnSize(1, 1, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return network
