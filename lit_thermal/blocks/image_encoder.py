"""Image encoders: turn one picture into a pyramid of features."""

import difflib
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.pretrained import fetch, pretrained_wanted, read_weights
from lit_thermal.blocks.residual_convolutions import ResidualConvolutions
from lit_thermal.errors import InputError
from lit_thermal.files import is_plain

Pyramid = dict[int, Tensor]
"""Features (B, C, H / stride, W / stride) by stride, the finest first."""


class ImageEncoder(nn.Module, ABC):
    """Maps (B, 3, H, W) in [0, 1] to a pyramid of features; H and W must be multiples of the largest stride.

    Attributes:
        widths: number of channels of the features by stride, a power of two, the finest first.
    """

    widths: dict[int, int]

    @abstractmethod
    def forward(self, image: Tensor) -> Pyramid:
        """Return the features of each stride in `widths`."""


class UnshuffleEncoder(ImageEncoder):
    """Residual convolutions without normalisation on pixels rearranged to channels (ours), for small networks.

    No pixel is lost before the first convolution, and none is computed at the size of the image. Each further level
    halves the size by a convolution of stride 2.

    Args:
        stride: stride of the finest features, a power of two; a square of so many pixels becomes the channels of one.
        widths: number of channels of each level, the finest first.
        blocks: residual blocks of each level.

    Raises:
        InputError: the stride is no power of two, or there is no level.
    """

    def __init__(self, stride: int = 4, widths: Sequence[int] = (48, 96), blocks: int = 2) -> None:
        super().__init__()
        if stride < 1 or stride & (stride - 1) or not widths or min(widths) < 1 or blocks < 0:
            raise InputError(
                f"UnshuffleEncoder has stride {stride}, widths {list(widths)} and {blocks} blocks: give a power "
                "of two, at least one positive width, and a number of blocks"
            )
        self.stride = stride
        self.widths = {stride << level: width for level, width in enumerate(widths)}
        self.head = nn.Conv2d(3 * stride**2, widths[0], 3, padding=1)
        self.downs = nn.ModuleList(
            nn.Conv2d(before, width, 3, stride=2, padding=1) for before, width in pairwise(widths)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*(ResidualConvolutions(width) for _ in range(blocks))) for width in widths
        )

    def forward(self, image: Tensor) -> Pyramid:
        """Return the features of each stride; image is (B, 3, H, W) in [0, 1]."""
        x = self.head(F.pixel_unshuffle(2 * image - 1, self.stride))
        levels = []
        for down, blocks in zip([None, *self.downs], self.blocks, strict=True):
            x = blocks(x if down is None else down(x))
            levels.append(x)
        return dict(zip(self.widths, levels, strict=True))


class TimmEncoder(ImageEncoder):
    """Any timm backbone that returns features: ResNets, mobile and hierarchical networks, transformers.

    Pictures are normalised by the mean and standard deviation of the backbone's own pretraining (ImageNet's if it has
    none). If a backbone has several features of the same stride, as plain vision transformers do, the deepest is used.
    The released CoReFusion uses two ResNet-34 with torchvision's ImageNet weights (`resnet34.tv_in1k`).

    Args:
        name: name of the backbone in timm, with or without the tag of its weights, such as `resnet34.tv_in1k`.
        depth: deepest level that is kept, of stride 2 ** depth.
        pretrained: start from the published weights of the backbone.
        weights: file with these weights (.safetensors, .pth), to be used instead of a download.

    Raises:
        InputError: timm has no such backbone; its features do not have power-of-two strides, start beyond `depth`, or
            need a fixed picture size; or the weights cannot be found or do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str = "resnet34", depth: int = 5, pretrained: bool = False, weights: str | None = None
    ) -> None:
        import timm
        from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

        super().__init__()
        levels = _levels(name, depth)
        self.body = _build(name, tuple(levels.values()), pretrained or weights is not None, weights)
        info: Any = self.body.feature_info
        self.widths = dict(zip(info.reduction(), info.channels(), strict=True))
        config = timm.get_pretrained_cfg(name)
        mean, std = (config.mean, config.std) if config else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self._last = "NHWC" in str(getattr(self.body, "output_fmt", ""))
        self._check_sizes(name)

    def forward(self, image: Tensor) -> Pyramid:
        """Return the features of each stride; image is (B, 3, H, W) in [0, 1]."""
        features = self.body((image - self.mean) / self.std)
        if self._last:
            features = [f.permute(0, 3, 1, 2) for f in features]
        return dict(zip(self.widths, features, strict=True))

    def _check_sizes(self, name: str) -> None:
        """Raise an error if the backbone needs a fixed picture size or returns features of unexpected sizes."""
        stride = max(self.widths)
        sides = 2 * stride, 3 * stride
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                pyramid = self(self.mean.new_zeros(1, 3, *sides))
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                f"timm's backbone {name!r} does not take pictures of any size ({str(error).splitlines()[0][:120]}): "
                "take another one"
            ) from error
        self.train(training)
        for at, features in pyramid.items():
            if features.shape[-2:] != (sides[0] // at, sides[1] // at):
                raise InputError(
                    f"timm's backbone {name!r} gives features of {tuple(features.shape[-2:])} at stride {at} for a "
                    f"picture of {sides}: take another one"
                )


def _levels(name: str, depth: int) -> dict[int, int]:
    """Return the index in timm's list of the deepest feature of each stride."""
    import timm

    try:
        if timm.get_pretrained_cfg(name) is None and not timm.is_model(name):
            near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=5)
            hint = f"; near are {', '.join(near)}" if near else ""
            raise InputError(f"timm has no backbone {name!r}{hint}; `timm.list_models()` names all")
        with torch.device("meta"):
            info: Any = timm.create_model(name, features_only=True, pretrained=False).feature_info
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        raise InputError(f"timm's backbone {name!r} gives no features ({error}); take another one") from error
    strides = info.reduction()
    levels = {stride: index for stride, index in zip(strides, info.out_indices, strict=True) if stride <= 2**depth}
    if not levels:
        raise InputError(f"timm's backbone {name!r} begins at stride {strides[0]}, beyond depth {depth}: raise depth")
    for stride in levels:
        if stride & (stride - 1):
            raise InputError(f"timm's backbone {name!r} has features of stride {stride}, which is no power of two")
    return levels


def _build(name: str, indices: tuple[int, ...], pretrained: bool, weights: str | None) -> nn.Module:
    import timm

    overlay: dict[str, Any] | None = None
    state: dict[str, Tensor] = {}
    if pretrained and pretrained_wanted():
        path = _file(name, weights)
        # Read the file here first: its values are compared below, and older versions of timm would run code in it.
        state = read_weights(path)
        overlay = {"file": str(path), "custom_load": False}
    arguments: dict[str, Any] = {"features_only": True, "out_indices": indices}
    # Transformers of fixed size accept any size with one of these arguments; other backbones do not know them.
    free: tuple[dict[str, Any], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True}, {})
    for words in free:
        try:
            body = timm.create_model(
                name, pretrained=overlay is not None, pretrained_cfg_overlay=overlay, **arguments, **words
            )
            break
        except TypeError as error:
            if not words or "unexpected keyword" not in str(error):
                raise
        except (RuntimeError, KeyError, ValueError) as error:
            if overlay is None:
                raise
            raise InputError(
                f"weights {overlay['file']} do not fit timm's backbone {name!r} ({str(error).splitlines()[0][:160]})"
            ) from error
    if overlay is not None:
        _check_loaded(body, state, name, overlay["file"])
    return body


def _check_loaded(body: nn.Module, state: dict[str, Tensor], name: str, path: str) -> None:
    """Raise an error for a file of another backbone: timm silently loads only what fits, which may be nothing.

    Values are compared instead of names, because timm renames the parameters of older versions of a backbone.
    """
    in_file = {_fingerprint(value) for value in state.values() if value.is_floating_point() and value.numel()}
    sizes = [(p.numel(), _fingerprint(p) in in_file) for p in body.parameters()]
    share = sum(size for size, found in sizes if found) / sum(size for size, _ in sizes)
    if share < 0.9:  # a table of position embeddings may have been resampled
        raise InputError(
            f"weights {path} do not fit timm's backbone {name!r}: {share:.0%} of its parameters are in the file; give "
            "the file of this backbone"
        )


def _fingerprint(value: Tensor) -> tuple[int, float, float]:
    low, high = value.detach().float().aminmax()
    return value.numel(), float(low), float(high)


def _file(name: str, weights: str | None) -> Path:
    if weights is not None:
        if not is_plain(Path(weights)):
            raise InputError(f"there is no file {weights} with weights of timm's backbone {name!r}")
        return Path(weights)
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        raise InputError(
            f"timm has no published weights for {name!r}; set pretrained to false, or give a file by weights"
        )
    logging.getLogger(__name__).info("pretrained weights of %s: %s", name, config.hf_hub_id)
    return fetch(config.hf_hub_id, "model.safetensors", "the encoder's `weights`")
