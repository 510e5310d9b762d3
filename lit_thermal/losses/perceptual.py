"""Perceptual losses: the difference of two images as a network that was trained on photographs sees it."""

import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
import torchmetrics
import torchvision
from torch import Tensor, nn

from lit_thermal.errors import InputError

LPIPSNetwork = Literal["vgg", "alex"]


class PerceptualLoss(nn.Module, ABC):
    """Base of the family: a scalar for restored and true images, the mean of each image's own value.

    What must hold: it is 0 for equal images and not negative; thermal images count as three equal channels; no sample
    at all (B = 0) gives 0; only `restored` gets a gradient. It has no parameters and nothing in a checkpoint.
    """

    @abstractmethod
    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of restored and true images (B, 1, H, W) or (B, 3, H, W) in [-1, 1]."""

    def prepare(self) -> None:
        """Fetch and read now what the loss needs, which happens at its first use otherwise; nothing by default.

        A method calls it before training begins, so that a missing file is told of early. Neither tests nor
        predictions need the file.
        """


class NoPerceptualLoss(PerceptualLoss):
    """None at all: always 0. For training where no pretrained network can be had."""

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Return 0."""
        return restored.new_zeros(())


class LPIPS(PerceptualLoss):
    """Learned perceptual image patch similarity (version 0.1), of VGG-16 as 3M-TI is trained with it.

    Features of five layers are scaled to unit length over their channels at each pixel; their squared differences are
    weighted by channel and averaged over the pixels, and the layers are added up. The weights by channel are those that
    the authors published, as torchmetrics ships them; they stand outside the square there, inside in the paper.
    The square root of a length has 1e-8 added under it, so that pixels without any response have a gradient.

    Convolutions follow autocast; lengths and differences are taken in float32.

    Args:
        network: `vgg` (VGG-16) or `alex` (AlexNet), of torchvision.
        weights: file with torchvision's ImageNet weights of the network (.pth, .safetensors), of which only the
            convolutions are read; empty fetches them from where torchvision publishes them.

    Raises:
        InputError: there is no such network; at the first use, the weights cannot be had or do not fit.

    Source: Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", 2018.
    """

    def __init__(self, network: LPIPSNetwork = "vgg", weights: str = "") -> None:
        super().__init__()
        if network not in get_args(LPIPSNetwork):
            raise InputError(f"LPIPS' network is {network!r}; choose of {', '.join(get_args(LPIPSNetwork))}")
        self.network, self.weights = network, weights
        self._held = _Held()

    def prepare(self) -> None:
        """Read the weights, fetched where no file is given.

        Raises:
            InputError: they cannot be had or do not fit.
        """
        if self._held.network is None:
            # Parameters born in inference mode could not take part in a later gradient.
            with torch.inference_mode(False):
                self._held.network = _WeightedFeatures(self.network, self.weights).eval().requires_grad_(False)

    def forward(self, restored: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of restored and true images (B, 1, H, W) or (B, 3, H, W) in [-1, 1].

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
        network = self._held.network
        assert network is not None
        if network.shift.device != device:
            with torch.inference_mode(False):
                network.to(device)
        return network


class Backbone(NamedTuple):
    """What LPIPS takes of a network of torchvision.

    Attributes:
        name: in `torchvision.models`.
        stages: index in its `features` behind each layer that is compared.
        least_side: of an image in pixels.
    """

    name: str
    stages: tuple[int, ...]
    least_side: int


BACKBONES: dict[str, Backbone] = {
    "vgg": Backbone("vgg16", (4, 9, 16, 23, 30), 16),
    "alex": Backbone("alexnet", (2, 5, 8, 10, 12), 31),
}


class _Held:
    """Keeps the network out of sight of the module, so that checkpoints, precision and copies leave it alone."""

    def __init__(self) -> None:
        self.network: _WeightedFeatures | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Held":
        return self

    def __getstate__(self) -> dict[str, None]:
        """Leave the weights behind: another process reads them anew."""
        return {"network": None}


class _WeightedFeatures(nn.Module):
    """The stages of a backbone, and how much each of their channels counts."""

    shift: Tensor
    scale: Tensor

    def __init__(self, network: LPIPSNetwork, weights: str) -> None:
        super().__init__()
        backbone = BACKBONES[network]
        path = Path(weights) if weights else _fetch(backbone.name)
        if not path.is_file():
            raise InputError(
                f"there is no file {path} with weights of {backbone.name}: download {_url(backbone.name)} and give its "
                "path by LPIPS' `weights`"
            )
        layers = _features(backbone, path)
        ends = backbone.stages
        self.stages = nn.ModuleList(layers[a:b] for a, b in zip((0, *ends), ends, strict=False))
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1))
        shipped = _read(Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models" / f"{network}.pth")
        self.channels = nn.ParameterList(shipped[f"lin{n}.model.1.weight"].view(-1, 1, 1) for n in range(len(ends)))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features (B, C, h, w) of each stage in float32, of unit length over C; image is (B, 3, H, W) in [-1, 1]."""
        x = (image.float() - self.shift) / self.scale
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return [_unit(x) for x in features]

    def difference(self, one: list[Tensor], other: list[Tensor]) -> Tensor:
        """Return LPIPS (B,) of what `forward` made of two batches."""
        with torch.autocast(one[0].device.type, enabled=False):
            layers = zip(self.channels, one, other, strict=True)
            return torch.stack([((a - b).square() * w).sum(1).mean((-2, -1)) for w, a, b in layers]).sum(0)


def _unit(features: Tensor) -> Tensor:
    with torch.autocast(features.device.type, enabled=False):
        x = features.float()
        return x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt()


def _features(backbone: Backbone, path: Path) -> nn.Sequential:
    """The convolutions of a network with the values of a file."""
    with torch.device("meta"):
        layers: nn.Sequential = getattr(torchvision.models, backbone.name)(weights=None).features
    given = _read(path)
    state = {name: given[f"features.{name}"] for name in layers.state_dict() if f"features.{name}" in given}
    try:
        layers.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise InputError(
            f"weights {path} do not fit {backbone.name} ({len(state)} of the {len(layers.state_dict())} that LPIPS "
            f"needs are in the file, or their shapes differ): give torchvision's file, {_url(backbone.name)}"
        ) from error
    return layers.float()


def _read(path: Path) -> dict[str, Tensor]:
    """Names to values of a file on the CPU; no code in it is run."""
    from safetensors.torch import load_file

    try:
        held = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        return {name: value for name, value in held.items() if isinstance(value, Tensor)}
    except Exception as error:  # what a reader trips over first depends on the file
        reason = str(error).splitlines()[0].split(". ")[0][:120]
        raise InputError(
            f"weights {path} cannot be read for LPIPS ({reason}): the file is damaged, or holds more than tensors"
        ) from error


def _url(name: str) -> str:
    return torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url


def _fetch(name: str) -> Path:
    """The file of torchvision's weights in torch's own cache, downloaded where it is not there yet."""
    url = _url(name)
    path = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    if path.is_file():
        return path
    try:
        # One quick look first: the download itself has no limit of time.
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10):
            pass
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rsplit("-", 1)[-1], progress=False)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the pretrained weights {path.name} of torchvision's {name} are not on this machine and could not be "
            f"fetched ({str(error).splitlines()[0][:120]}): download {url} elsewhere and give the file by LPIPS' "
            f"`weights`, put it into {path.parent}, or take NoPerceptualLoss"
        ) from error
    return path
