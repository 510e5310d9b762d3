"""Perceptual losses: differences of two images in the features of a trained network."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torchmetrics
import torchvision
from torch import Tensor, nn

from lit_thermal.errors import InputError, check_choice
from lit_thermal.files import is_plain
from lit_thermal.thermal_features import FrozenFeatures
from lit_thermal.torchvision_weights import fetch_published, published
from lit_thermal.weights_file import check_kinds, check_tensors, read_file

LPIPSNetwork = Literal["vgg", "alex"]


class PerceptualLoss(nn.Module, ABC):
    """Base of the perceptual losses: a scalar loss of restored and true images, averaged over images.

    Subclasses must return 0 for equal images and for an empty batch (B = 0), and never a negative value. Thermal images
    count as three equal channels, and only `restored` gets a gradient. The loss must have no parameters, and must not
    add anything to a checkpoint.
    """

    @abstractmethod
    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of restored and true images (B, 1, H, W) or (B, 3, H, W) in [-1, 1]."""

    def prepare(self) -> None:
        """Load the files of the loss now instead of at its first use; does nothing by default.

        A method calls this before training begins, so that a missing file is reported early. Testing and prediction do
        not need the files.
        """


class NoPerceptualLoss(PerceptualLoss):
    """No perceptual loss: always 0, for training without a pretrained network."""

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return 0."""
        return restored.new_zeros(())


class ThermalFeatureLoss(PerceptualLoss):
    """Distance in the features of a small network trained on simulated thermal scenes (`thermal_features`).

    This loss replaces `LPIPS` if the weights of VGG-16 are not available: its weights are part of the package. It
    compares features in the same way, but the network has seen no photographs and no judgement of people, so that its
    values cannot be compared with LPIPS; tables must name it explicitly.

    Args:
        weights: file that `fit -c thermal_features` wrote; if empty, the weights of the package.

    Raises:
        InputError: the weights cannot be read or do not fit; raised at the first use.
    """

    def __init__(self, weights: str = "") -> None:
        super().__init__()
        self._features = FrozenFeatures(weights)

    def prepare(self) -> None:
        """Read the weights.

        Raises:
            InputError: the weights cannot be read or do not fit.
        """
        self._features.prepare()

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of restored and true images (B, 1, H, W) or (B, 3, H, W) in [-1, 1].

        The network takes thermal images; of three channels the mean is compared.

        Raises:
            InputError: the shapes differ.
        """
        if restored.shape != target.shape or restored.ndim != 4 or restored.shape[1] not in (1, 3):
            raise InputError(
                f"ThermalFeatureLoss compares images (B, 1 or 3, H, W) of one shape, not {tuple(restored.shape)} and "
                f"{tuple(target.shape)}"
            )
        if not len(restored):
            return (0 * restored).sum()
        one, other = ((x.mean(1, keepdim=True) + 1) / 2 for x in (restored, target))
        return self._features.distance(one, other).mean()


class LPIPS(PerceptualLoss):
    """Learned perceptual image patch similarity (version 0.1); with VGG-16 as in the training of 3M-TI.

    Features of five layers are scaled to unit length over their channels at each pixel. Their squared differences are
    weighted by channel, averaged over the pixels, and summed over the layers. The channel weights are those published
    by the authors, as shipped with torchmetrics; the published code applies them outside the square, the paper inside.
    1e-8 is added under the square root of a length, so that pixels without any response have a gradient.

    Convolutions follow autocast; lengths and differences are computed in float32.

    Args:
        network: torchvision network, `vgg` (VGG-16) or `alex` (AlexNet).
        weights: file with torchvision's ImageNet weights of the network (.pth, .safetensors), of which only the
            convolutions are read; if empty, torchvision's published weights are downloaded.

    Raises:
        InputError: the network is unknown; at the first use, the weights cannot be found or do not fit.

    Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", 2018.
    """

    def __init__(self, network: LPIPSNetwork = "vgg", weights: str = "") -> None:
        super().__init__()
        check_choice(network, LPIPSNetwork, "LPIPS' network")
        self.network, self.weights = network, weights
        self._loaded = _Unregistered()

    def prepare(self) -> None:
        """Read the weights from the file, or download them if none is given.

        Raises:
            InputError: the weights cannot be found or do not fit.
        """
        if self._loaded.network is None:
            # Parameters created in inference mode could not be used in a later backward pass.
            with torch.inference_mode(False):
                self._loaded.network = _WeightedFeatures(self.network, self.weights).eval().requires_grad_(False)

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss of restored and true images (B, 1, H, W) or (B, 3, H, W) in [-1, 1].

        Raises:
            InputError: the shapes differ, or the images are too small for the network.
        """
        least = BACKBONES[self.network].least_side
        if restored.shape != target.shape or restored.ndim != 4 or restored.shape[1] not in (1, 3):
            raise InputError(
                f"LPIPS compares images (B, 1 or 3, H, W) of one shape, not {tuple(restored.shape)} and "
                f"{tuple(target.shape)}"
            )
        if min(restored.shape[-2:]) < least:
            raise InputError(
                f"LPIPS of {self.network} needs images of {least} pixels a side and got {restored.shape[-2]}x"
                f"{restored.shape[-1]}: take larger crops, or NoPerceptualLoss"
            )
        if not len(restored):
            return (0 * restored).sum()
        network = self._on(restored.device)
        with torch.no_grad():
            features = network(target.expand(-1, 3, -1, -1))
        return network.difference(network(restored.expand(-1, 3, -1, -1)), features).mean()

    def _on(self, device: torch.device) -> "_WeightedFeatures":
        self.prepare()
        network = self._loaded.network
        assert network is not None
        if network.shift.device != device:
            with torch.inference_mode(False):
                network.to(device)
        return network


class Backbone(NamedTuple):
    """The parts of a torchvision network that LPIPS uses.

    Attributes:
        name: name of the network in `torchvision.models`.
        stages: index in its `features` after each compared layer.
        least_side: minimum side of an image in pixels.
    """

    name: str
    stages: tuple[int, ...]
    least_side: int


BACKBONES: dict[str, Backbone] = {
    "vgg": Backbone("vgg16", (4, 9, 16, 23, 30), 16),
    "alex": Backbone("alexnet", (2, 5, 8, 10, 12), 31),
}


class _Unregistered:
    """Holds the network outside the module tree, so that checkpoints, precision and copies do not affect it."""

    def __init__(self) -> None:
        self.network: _WeightedFeatures | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Unregistered":
        return self

    def __getstate__(self) -> dict[str, None]:
        """Return the state without the weights, which are read again in another process."""
        return {"network": None}


class _WeightedFeatures(nn.Module):
    """The stages of a backbone and the weights of their channels."""

    shift: Tensor
    scale: Tensor

    def __init__(self, network: LPIPSNetwork, weights: str) -> None:
        super().__init__()
        backbone = BACKBONES[network]
        path = (
            Path(weights)
            if weights
            else fetch_published(backbone.name, "give the file by LPIPS' `weights`, or choose NoPerceptualLoss")
        )
        if not is_plain(path):
            raise InputError(
                f"there is no file {path} with weights of {backbone.name}: download {published(backbone.name).url} and "
                "give its path by LPIPS' `weights`"
            )
        layers = _features(backbone, path)
        ends = backbone.stages
        self.stages = nn.ModuleList(layers[a:b] for a, b in zip((0, *ends), ends, strict=False))
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))
        shipped = _read(Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models" / f"{network}.pth")
        self.channels = nn.ParameterList(shipped[f"lin{n}.model.1.weight"].view(-1, 1, 1) for n in range(len(ends)))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the features (B, C, h, w) of each stage, of unit length over C, for images (B, 3, H, W) in [-1, 1].

        The features are float32.
        """
        x = (image.float() - self.shift) / self.scale
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return [_unit(x) for x in features]

    def difference(self, one: list[Tensor], other: list[Tensor]) -> Tensor:
        """Return LPIPS (B,) from the features of two batches, as returned by `forward`."""
        with torch.autocast(one[0].device.type, enabled=False):
            layers = zip(self.channels, one, other, strict=True)
            return torch.stack([((a - b).square() * w).sum(1).mean((-2, -1)) for w, a, b in layers]).sum(0)


def _unit(features: Tensor) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        x = features.float()
        return x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt()


def _features(backbone: Backbone, path: Path) -> nn.Sequential:
    """Return the convolutions of a network with the weights of a file."""
    with torch.device("meta"):
        layers: nn.Sequential = getattr(torchvision.models, backbone.name)(weights=None).features
    given = _read(path)
    state = {name: given[f"features.{name}"] for name in layers.state_dict() if f"features.{name}" in given}
    check_kinds(state, layers.state_dict(), path)
    try:
        layers.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise InputError(
            f"weights {path} do not fit {backbone.name} ({len(state)} of the {len(layers.state_dict())} that LPIPS "
            f"needs are in the file, or their shapes differ): give torchvision's file, {published(backbone.name).url}"
        ) from error
    return layers.float()


def _read(path: Path) -> dict[str, Tensor]:
    """Names to values of a file on the CPU; no code in it is run."""
    values = read_file(path, "weights for LPIPS")
    if not isinstance(values, dict):
        raise InputError(f"weights {path} hold no tensors by name; give torchvision's file")
    state = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    check_tensors(state, path)
    return state
