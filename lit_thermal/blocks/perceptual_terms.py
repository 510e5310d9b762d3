"""Terms of the guidance loss that compare features of two images from a frozen network."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lit_thermal.blocks.guidance_terms import ReferenceTerm, mean_square
from lit_thermal.blocks.pretrained import model_folder, pretrained_wanted, read_weights
from lit_thermal.errors import InputError, check_choice
from lit_thermal.files import is_plain
from lit_thermal.thermal_features import FrozenFeatures
from lit_thermal.torchvision_weights import fetch_published
from lit_thermal.weights_file import check_kinds

VGGNetwork = Literal["vgg16", "vgg19"]
Compared = Literal["masks", "embeddings"]


class FrozenNetwork:
    """A network that is used but neither trained nor saved, and is not a submodule of its owner.

    This keeps hundreds of megabytes that training does not change out of checkpoints, and precision settings, `train`
    and copies of the module (such as a moving average of weights) do not affect the network. Therefore `on` has to
    move the network to the device and type of the tensors that it is used with.

    The network is built at once, so that missing files are reported before training begins. Inside
    `without_pretrained()` it is built at the first use.

    Args:
        make: function that builds the network with its weights.
    """

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self._make = make
        self._network: nn.Module | None = None
        if pretrained_wanted():
            self._build()

    def on(self, like: Tensor) -> Any:
        """Return the network, moved to the device and dtype of the tensor `like`."""
        network = self._build() if self._network is None else self._network
        at = next(network.parameters())
        if (at.device, at.dtype) != (like.device, like.dtype):
            with torch.inference_mode(False):
                network.to(like.device, like.dtype)
        return network

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrozenNetwork":
        return self

    def _build(self) -> nn.Module:
        # Parameters created in inference mode could not be used in a later backward pass.
        with torch.inference_mode(False):
            self._network = self._make().eval().requires_grad_(False)
        return self._network


class VGGTerm(ReferenceTerm):
    """Mean squared difference of features of VGG-16 or VGG-19 trained on ImageNet: one half of DifIISR's eq. 12.

    The paper uses VGG-16 and does not name the layer; the default is the ReLU of its last convolution, the counterpart
    of the released code's layer. The paper does not say how images are normalised either; here ImageNet's mean and
    standard deviation are used, with which the network was trained. The released training code corresponds to
    `network="vgg19"`, `layer="relu5_4"` (index 35 of torchvision's `features`) and `normalize_input=False`.

    Args:
        weight: weight of this term.
        network: torchvision's VGG-16 or VGG-19, without batch normalisation.
        layer: compared layer `reluX_Y`, the ReLU after convolution Y of stage X.
        weights: file with torchvision's weights of the network (.pth, .safetensors), of which the convolutions up to
            the layer are read; if empty, torchvision's published weights are downloaded.
        normalize_input: normalise by ImageNet's mean and standard deviation; otherwise the network gets values in
            [-1, 1].

    Raises:
        InputError: `weight` is negative, the network or layer is unknown, or the weights cannot be found or do not
            fit.
    """

    name = "vgg"

    def __init__(
        self,
        weight: float = 0.01,
        network: VGGNetwork = "vgg16",
        layer: str = "relu5_3",
        weights: str = "",
        normalize_input: bool = True,
    ) -> None:
        super().__init__(weight)
        check_choice(network, VGGNetwork, "VGGTerm's network")
        layers = _vgg_layers(network)
        if layer not in layers:
            raise InputError(f"{network} has no layer {layer!r}; VGGTerm's layer is one of {', '.join(layers)}")
        self.layer = layer
        self.normalize_input = normalize_input
        self._least_side = 2 ** (int(layer[4]) - 1)
        self._network = FrozenNetwork(partial(_vgg, network, layers[layer], weights))

    def distance(self, image: Tensor, hr: Tensor) -> Tensor:
        """Return the loss (B,) of two images (B, 1, H, W).

        Raises:
            InputError: the images are too small for the layer.
        """
        if min(image.shape[-2:]) < self._least_side:
            raise InputError(
                f"VGGTerm's layer {self.layer} needs images of {self._least_side} pixels a side and got "
                f"{image.shape[-2]}x{image.shape[-1]}: take a layer of an earlier stage, or larger images"
            )
        with torch.no_grad():
            target = self._features(hr)
        return mean_square(self._features(image), target)

    def _features(self, image: Tensor) -> Tensor:
        colours = image.expand(-1, 3, -1, -1)
        return self._network.on(image)(_imagenet(colours) if self.normalize_input else colours)


class SegmentationTerm(ReferenceTerm):
    """Mean squared difference of outputs of the Segment Anything Model for two images: the other half of eq. 12.

    With `masks`, as in the paper, the mask logits are compared, three masks for each point of a grid of prompts that is
    the same for both images (the paper specifies no prompts). Images are stretched to the square that the model takes
    and normalised as in its training. The masks of one row of points are computed at a time, and recomputed for the
    gradient, because those of all points at once would take gigabytes per image.
    With `embeddings`, as in the released training code, the image embeddings are compared, without prompts and with
    values in [-1, 1] that are not normalised.

    Args:
        weight: weight of this term.
        compare: outputs that are compared, `masks` or `embeddings`.
        model: folder with the model as saved by transformers (config.json, model.safetensors), or its name on the
            Hugging Face hub; the released code uses ViT-B.
        points: number of grid points per side of the image.

    Raises:
        InputError: `weight` is negative, `points` is not positive, `compare` is unknown, or the model cannot be found
            or is not a SAM.
    """

    name = "segmentation"

    def __init__(
        self,
        weight: float = 0.01,
        compare: Compared = "masks",
        model: str = "facebook/sam-vit-base",
        points: int = 8,
    ) -> None:
        super().__init__(weight)
        check_choice(compare, Compared, "SegmentationTerm's compare")
        if points < 1:
            raise InputError(f"SegmentationTerm's points is {points} and must be at least 1")
        self.compare = compare
        self.points = points
        self._network = FrozenNetwork(partial(_sam, model))

    def distance(self, image: Tensor, hr: Tensor) -> Tensor:
        """Return the loss (B,) of two images (B, 1, H, W)."""
        with torch.no_grad():
            target = self._embedding(hr)
        embedding = self._embedding(image)
        if self.compare == "embeddings":
            return mean_square(embedding, target)
        rows = [checkpoint(self._row, embedding, target, row, use_reentrant=False) for row in range(self.points)]
        return torch.stack(rows).mean(dim=0)

    def _embedding(self, image: Tensor) -> Tensor:
        """Return the image encoder's embeddings (B, D, h, w) of images (B, 1, H, W)."""
        sam = self._network.on(image)
        side = sam.config.vision_config.image_size
        pixels = F.interpolate(image.expand(-1, 3, -1, -1), (side, side), mode="bilinear", align_corners=False)
        return sam.vision_encoder(_imagenet(pixels) if self.compare == "masks" else pixels)[0]

    def _row(self, embedding: Tensor, target: Tensor, row: int) -> Tensor:
        """Return the loss (B,) of the masks of one row of the grid."""
        with torch.no_grad():
            masks = self._masks(target, row)
        return mean_square(self._masks(embedding, row), masks)

    def _masks(self, embedding: Tensor, row: int) -> Tensor:
        """Return the mask logits (B, points, 3, h, w) of one row of the grid, from embeddings (B, D, h', w')."""
        sam = self._network.on(embedding)
        side = sam.config.vision_config.image_size
        # The model takes pixel indices and itself adds the half pixel to the centre.
        middle = (torch.arange(self.points, device=embedding.device) + 0.5) * (side / self.points) - 0.5
        grid = torch.stack([middle, middle[row].expand(self.points)], dim=-1).to(embedding.dtype)
        prompts = grid[None, :, None].expand(len(embedding), -1, -1, -1)
        return sam(image_embeddings=embedding, input_points=prompts, multimask_output=True).pred_masks


class ThermalFeatureTerm(ReferenceTerm):
    """Distance in the features of a small network trained on simulated thermal scenes (`thermal_features`).

    This term replaces `VGGTerm` and `SegmentationTerm` if their weights are not available: the weights are part of the
    package. It is not the perceptual guidance of DifIISR, whose networks were trained on photographs, and its results
    cannot be compared with the paper's; tables must name it explicitly.

    Args:
        weight: weight of this term.
        weights: file that `fit -c thermal_features` wrote; if empty, the weights of the package.

    Raises:
        InputError: `weight` is negative, or the weights cannot be read or do not fit.
    """

    name = "thermal_features"

    def __init__(self, weight: float = 0.01, weights: str = "") -> None:
        super().__init__(weight)
        self._network = FrozenFeatures(weights)
        if pretrained_wanted():
            self._network.prepare()

    def distance(self, image: Tensor, hr: Tensor) -> Tensor:
        """Return the loss (B,) of two images (B, 1, H, W)."""
        return self._network.distance((image + 1) / 2, (hr + 1) / 2)


class RandomFeatureTerm(ReferenceTerm):
    """Mean squared difference of features of a small convolutional network with random weights.

    This is the untrained counterpart of `ThermalFeatureTerm`, with which a comparison shows the benefit of training. It
    is not the perceptual guidance of DifIISR, and its results cannot be compared with the paper's; tables must name it
    explicitly.

    Each level is a 3x3 convolution of stride 2 with orthogonal weights and without bias, followed by a ReLU. The loss
    is the mean over the levels of their mean squared differences.

    Args:
        weight: weight of this term.
        seed: seed of the random weights, which are the same in every run.
        widths: number of channels of each level.

    Raises:
        InputError: `weight` is negative, or `widths` is empty or has a number below 1.
    """

    name = "random_features"

    def __init__(self, weight: float = 0.01, seed: int = 0, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__(weight)
        if not widths or min(widths) < 1:
            raise InputError(f"RandomFeatureTerm's widths are {list(widths)}: give positive numbers")
        self._network = FrozenNetwork(partial(_random_features, seed, widths))

    def distance(self, image: Tensor, hr: Tensor) -> Tensor:
        """Return the loss (B,) of two images (B, 1, H, W)."""
        losses = []
        for level in self._network.on(image):
            image = level(image)
            with torch.no_grad():
                hr = level(hr)
            losses.append(mean_square(image, hr))
        return torch.stack(losses).mean(dim=0)


def _imagenet(image: Tensor) -> Tensor:
    """Normalise (B, 3, H, W) in [-1, 1] by the mean and the standard deviation of ImageNet, which SAM uses too."""
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    mean, std = (image.new_tensor(v).view(3, 1, 1) for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    return ((image + 1) / 2 - mean) / std


def _vgg_features(network: VGGNetwork) -> nn.Sequential:
    """Return the convolutional part of a VGG on the meta device, without weights."""
    with torch.device("meta"):
        return getattr(torchvision.models, network)(weights=None).features


def _vgg_layers(network: VGGNetwork) -> dict[str, int]:
    """Return the index of each ReLU in torchvision's `features` by name."""
    layers, stage, convolution = {}, 1, 1
    for index, layer in enumerate(_vgg_features(network)):
        if isinstance(layer, nn.ReLU):
            layers[f"relu{stage}_{convolution}"] = index
            convolution += 1
        elif isinstance(layer, nn.MaxPool2d):
            stage, convolution = stage + 1, 1
    return layers


def _vgg(network: VGGNetwork, last: int, weights: str) -> nn.Module:
    """Return the layers of a VGG up to index `last` with torchvision's weights, from a file or downloaded."""
    path = Path(weights) if weights else fetch_published(network, "give the file by VGGTerm's `weights`")
    if not is_plain(path):
        raise InputError(f"there is no file {path} with weights of {network}: correct VGGTerm's `weights`")
    features = _vgg_features(network)[: last + 1]
    given = read_weights(path)
    state = {name: given[f"features.{name}"] for name in features.state_dict() if f"features.{name}" in given}
    check_kinds(state, features.state_dict(), path)
    try:
        features.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise InputError(
            f"weights {path} do not fit {network} ({len(state)} of the {len(features.state_dict())} weights that are "
            "needed are in the file, or their shapes differ): give torchvision's file of this network"
        ) from error
    return features


def _sam(model: str) -> nn.Module:
    """Load the Segment Anything Model from a folder or the hub."""
    from transformers import SamModel

    folder = model_folder(
        model,
        ("config.json", "model.safetensors"),
        "a SAM",
        "SegmentationTerm's `model`",
        "give SegmentationTerm's `model` as a folder with config.json and model.safetensors of a SAM, or as a name on "
        "the Hugging Face hub such as facebook/sam-vit-base",
    )
    read: Any = SamModel
    try:
        sam, report = read.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except Exception as error:  # the kind of exception depends on the file
        raise InputError(
            f"SegmentationTerm's model {folder} cannot be read as a SAM ({str(error).splitlines()[0][:120]}): give the "
            "folder of facebook/sam-vit-base or another SAM"
        ) from error
    if report["missing_keys"]:
        raise InputError(
            f"SegmentationTerm's model {folder} is not a complete SAM: {len(report['missing_keys'])} weights are "
            f"missing, {min(report['missing_keys'])} among them; give the folder of facebook/sam-vit-base or another "
            "SAM"
        )
    return sam


def _random_features(seed: int, widths: Sequence[int]) -> nn.Module:
    """Build the levels of `RandomFeatureTerm`."""
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for before, width in zip((1, *widths), widths, strict=False):
        convolution = nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False, device="meta").to_empty(device="cpu")
        nn.init.orthogonal_(convolution.weight, gain=nn.init.calculate_gain("relu"), generator=generator)
        levels.append(nn.Sequential(convolution, nn.ReLU()))
    return nn.Sequential(*levels)
