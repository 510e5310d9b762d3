"""A small feature network for thermal images, trained on simulated scenes, and the distance of two images in it.

Its weights are part of the package (`weights.safetensors`), so that features of a trained network are available where
the weights of VGG, SAM or LPIPS are not. `fit -c thermal_features` trains it.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lit_thermal.errors import InputError
from lit_thermal.weights_file import check_finite, check_kinds, read_file

WIDTHS = (16, 32, 64, 96, 96)
"""Number of channels of each stage."""
WEIGHTS = Path(__file__).parent / "weights.safetensors"
"""Trained weights in half precision."""


class ThermalFeatureNetwork(nn.Module):
    """Five stages of two 3x3 convolutions and ReLUs, as in VGG; each stage but the first halves the sides by averaging.

    Any size is allowed; odd sides are rounded up when they are halved. The network has 376 thousand parameters.

    Args:
        normed: normalise after each convolution (batch norm) during training; `fused` removes it.
    """

    def __init__(self, normed: bool = False) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(*_layer(before, after, normed), *_layer(after, after, normed))
            for before, after in pairwise((1, *WIDTHS))
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features (B, C, h, w) of each stage for images (B, 1, H, W) in [0, 1]."""
        x = 4 * image - 2
        features = []
        for number, stage in enumerate(self.stages):
            if number:
                x = F.avg_pool2d(x, 2, ceil_mode=True)
            x = stage(x)
            features.append(x)
        return features

    @torch.no_grad()
    def fused(self) -> "ThermalFeatureNetwork":
        """Return the same network without normalisation, whose convolutions include that of evaluation mode."""
        result = ThermalFeatureNetwork()
        for stage, fused in zip(self.stages, result.stages, strict=True):
            assert isinstance(stage, nn.Sequential) and isinstance(fused, nn.Sequential)
            for place, (first, second) in {0: (stage[0], stage[1]), 2: (stage[3], stage[4])}.items():
                assert isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d)
                layer = fuse_conv_bn_eval(first.eval(), second.eval())
                fused[place].load_state_dict(layer.state_dict())
        return result


def thermal_features(weights: str | Path = WEIGHTS) -> ThermalFeatureNetwork:
    """Return the trained network, frozen, in float32 on the CPU.

    Args:
        weights: file that `fit -c thermal_features` wrote; the one of the package by default.

    Raises:
        InputError: the file cannot be read, or it has weights of another network.
    """
    path = Path(weights)
    state = read_file(path, "weights of the thermal feature network")
    # Parameters created in inference mode could not be used in a later backward pass.
    with torch.inference_mode(False):
        network = ThermalFeatureNetwork()
        own = network.state_dict()
        if not isinstance(state, dict) or {n: v.shape for n, v in own.items()} != {
            n: getattr(v, "shape", None) for n, v in state.items()
        }:
            raise InputError(
                f"weights {path} do not fit the thermal feature network: give the thermal_features.safetensors of a "
                "run of `fit -c thermal_features`"
            )
        check_kinds(state, own, path)
        check_finite(state, own, path)
        network.load_state_dict(state)
        return network.eval().requires_grad_(False)


def feature_distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Return the distance (B,) of two batches of images from their features at each stage.

    As in LPIPS, the features of each pixel are scaled to unit length, and their squared differences are summed over
    the channels and averaged over the pixels. Stages have equal weights and the distance is their mean: there are no
    weights that were fitted to the judgement of people.

    Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", 2018.
    """
    stages = [(_unit(a) - _unit(b)).square().sum(1).mean((-2, -1)) for a, b in zip(one, other, strict=True)]
    return torch.stack(stages).mean(0)


class FrozenFeatures:
    """The trained network, which is used but neither trained nor saved, and is not a submodule of its owner.

    So it is not part of checkpoints, and precision settings, `train` and copies of the owner do not affect it. It is
    read at the first use, or by `prepare`.

    Args:
        weights: file that `fit -c thermal_features` wrote; if empty, the weights of the package.
    """

    def __init__(self, weights: str = "") -> None:
        self.weights = weights
        self._network: ThermalFeatureNetwork | None = None

    def prepare(self) -> ThermalFeatureNetwork:
        """Return the network, after reading the file if that has not been done.

        Raises:
            InputError: the file cannot be read, or it has weights of another network.
        """
        if self._network is None:
            self._network = thermal_features(self.weights or WEIGHTS)
        return self._network

    def on(self, like: Tensor) -> ThermalFeatureNetwork:
        """Return the network, moved to the device and dtype of the tensor `like`."""
        network = self.prepare()
        at = next(network.parameters())
        if (at.device, at.dtype) != (like.device, like.dtype):
            with torch.inference_mode(False):
                network.to(like.device, like.dtype)
        return network

    def distance(self, image: Tensor, target: Tensor) -> Tensor:
        """Return the distance (B,) of images (B, 1, H, W) in [0, 1]; only `image` gets a gradient.

        It is computed in the precision of `image`, but at least in float32.
        """
        with torch.autocast(image.device.type, enabled=False):
            image, target = (x.to(torch.promote_types(image.dtype, torch.float32)) for x in (image, target))
            network = self.on(image)
            with torch.no_grad():
                features = network(target)
            return feature_distance(network(image), features)

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrozenFeatures":
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the network, which is read again in another process."""
        return {"weights": self.weights, "_network": None}


def _unit(features: Tensor) -> Tensor:
    # Pixels without any response need a gradient too.
    return features / (features.square().sum(1, keepdim=True) + 1e-6).sqrt()


def _layer(before: int, after: int, normed: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=not normed, padding_mode="replicate")
    return [convolution, *([nn.BatchNorm2d(after)] if normed else []), nn.ReLU()]
