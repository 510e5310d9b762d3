"""Image encoders: what turns one picture into a pyramid of features."""

import logging
import pickle
from abc import ABC, abstractmethod
from pathlib import Path

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from lit_thermal.blocks.pretrained import fetch, pretrained_wanted
from lit_thermal.errors import InputError

Pyramid = dict[int, Tensor]
"""Stride to features (B, C, H / stride, W / stride), the finest first."""


class ImageEncoder(nn.Module, ABC):
    """Maps (B, 3, H, W) in [0, 1] to a pyramid of features; H and W are multiples of the largest stride.

    Attributes:
        widths: stride, a power of two, to the channels of its features, the finest first.
    """

    widths: dict[int, int]

    @abstractmethod
    def forward(self, image: Tensor) -> Pyramid:
        """Return the features of each stride in `widths`."""


class TimmEncoder(ImageEncoder):
    """Any backbone of timm that gives features: ResNets, mobile and hierarchical networks, transformers.

    Pictures are normalised by the mean and standard deviation of the backbone's own pretraining (ImageNet's where it
    has none). Where a backbone has several features of one stride, as plain vision transformers do, the deepest is
    taken. The released CoReFusion has two of ResNet-34 with torchvision's ImageNet weights (`resnet34.tv_in1k`).

    Args:
        name: of the backbone in timm, with or without the tag of its weights, such as `resnet34.tv_in1k`.
        depth: deepest level kept, of stride 2 ** depth.
        pretrained: start from its published weights.
        weights: file with these weights (.safetensors, .pth), where they are not to be fetched.

    Raises:
        InputError: timm has no such backbone or it gives no features, it has no level within `depth`, the weights
            cannot be had or do not fit.
    """

    def __init__(
        self, name: str = "resnet34", depth: int = 5, pretrained: bool = False, weights: str | None = None
    ) -> None:
        super().__init__()
        levels = _levels(name, depth)
        self.body = _build(name, tuple(levels.values()), pretrained or weights is not None, weights)
        info = self.body.feature_info
        self.widths = dict(zip(info.reduction(), info.channels(), strict=True))
        config = timm.get_pretrained_cfg(name)
        mean, std = (config.mean, config.std) if config else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self._last = "NHWC" in str(getattr(self.body, "output_fmt", ""))

    def forward(self, image: Tensor) -> Pyramid:
        """Return the features of each stride; image is (B, 3, H, W) in [0, 1]."""
        features = self.body((image - self.mean) / self.std)
        if self._last:
            features = [f.permute(0, 3, 1, 2) for f in features]
        return dict(zip(self.widths, features, strict=True))


def _levels(name: str, depth: int) -> dict[int, int]:
    """Stride to the index of its deepest feature in timm's list."""
    if timm.get_pretrained_cfg(name) is None and not timm.is_model(name):
        near = timm.list_models(f"*{name.split('.')[0].split('_')[0]}*")[:5]
        hint = f"; near are {', '.join(near)}" if near else ""
        raise InputError(f"timm has no backbone {name!r}{hint}; `timm.list_models()` names all")
    try:
        with torch.device("meta"):
            strides = timm.create_model(name, features_only=True, pretrained=False).feature_info.reduction()
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        raise InputError(f"timm's backbone {name!r} gives no features ({error}); take another one") from error
    levels = {stride: index for index, stride in enumerate(strides) if stride <= 2**depth}
    if not levels:
        raise InputError(f"timm's backbone {name!r} begins at stride {strides[0]}, beyond depth {depth}: raise depth")
    return levels


def _build(name: str, indices: tuple[int, ...], pretrained: bool, weights: str | None) -> nn.Module:
    overlay = None
    if pretrained and pretrained_wanted():
        overlay = {"file": str(_file(name, weights))}
    # Transformers of fixed size take any once they are told to; the others do not know the words.
    for words in ({"strict_img_size": False}, {"dynamic_img_size": True}, {}):
        try:
            return timm.create_model(
                name,
                features_only=True,
                out_indices=indices,
                pretrained=overlay is not None,
                pretrained_cfg_overlay=overlay,
                **words,
            )
        except TypeError as error:
            if not words or "unexpected keyword" not in str(error):
                raise
        except (RuntimeError, KeyError, ValueError, OSError, EOFError, pickle.UnpicklingError) as error:
            if overlay is None:
                raise
            raise InputError(
                f"weights {overlay['file']} do not fit timm's backbone {name!r} ({str(error).splitlines()[0][:160]})"
            ) from error
    raise AssertionError("the last attempt passes no words")


def _file(name: str, weights: str | None) -> Path:
    if weights is not None:
        if not Path(weights).is_file():
            raise InputError(f"there is no file {weights} with weights of timm's backbone {name!r}")
        return Path(weights)
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise InputError(
            f"timm has no published weights for {name!r}; set pretrained to false, or give a file by weights"
        )
    logging.getLogger(__name__).info("pretrained weights of %s: %s", name, config.hf_hub_id)
    return fetch(config.hf_hub_id, "model.safetensors", "the encoder's `weights`")
