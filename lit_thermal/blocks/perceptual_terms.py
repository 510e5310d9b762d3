"""Terms of the guidance loss that compare what a frozen network makes of two images."""

import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torchvision
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lit_thermal.blocks.guidance_terms import ReferenceTerm, mean_square
from lit_thermal.blocks.pretrained import fetch, pretrained_wanted, read_weights
from lit_thermal.errors import InputError

VGGNetwork = Literal["vgg16", "vgg19"]
Compared = Literal["masks", "embeddings"]


class FrozenNetwork:
    """A network that is used and neither trained nor saved, kept out of sight of the module that holds it.

    A module's checkpoint so stays free of hundreds of megabytes that training did not change, and its precision, its
    `train` and a copy of it (a moving average of weights) do not touch the network. The price is that the network
    follows the tensors that it is used with, in `on`.

    It is made at once, so that missing files are told of before training begins; where pretrained weights are moot
    (`without_pretrained`), when it is first used.

    Args:
        make: builds it with its weights.
    """

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        self._make = make
        self._network: nn.Module | None = None
        if pretrained_wanted():
            self._build()

    def on(self, like: Tensor) -> Any:
        """Return the network on the device and in the type of a tensor."""
        network = self._build() if self._network is None else self._network
        at = next(network.parameters())
        if (at.device, at.dtype) != (like.device, like.dtype):
            with torch.inference_mode(False):
                network.to(like.device, like.dtype)
        return network

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrozenNetwork":
        return self

    def _build(self) -> nn.Module:
        # Parameters born in inference mode could not take part in a later gradient.
        with torch.inference_mode(False):
            self._network = self._make().eval().requires_grad_(False)
        return self._network


class VGGTerm(ReferenceTerm):
    """Mean squared difference of features of VGG-16 or VGG-19 trained on ImageNet: one half of DifIISR's eq. 12.

    The paper has VGG-16 and does not name the layer; the default is the ReLU of its last convolution, the counterpart
    of what the released code takes. It does not say how images are normalised either: by ImageNet's mean and standard
    deviation here, which the network was trained with. The released training code is `network="vgg19"`,
    `layer="relu5_4"` (index 35 of torchvision's `features`) and `normalize_input=False`.

    Args:
        weight: of this term.
        network: which of the two, without batch normalisation, from torchvision.
        layer: `reluX_Y`, the ReLU after convolution Y of stage X.
        weights: file with torchvision's weights of the network (.pth, .safetensors), of which the convolutions up to
            the layer are read; empty fetches them from where torchvision publishes them.
        normalize_input: by ImageNet's mean and standard deviation; otherwise the network gets values in [-1, 1].

    Raises:
        InputError: `weight` is negative, there is no such network or layer, or the weights cannot be had or do not
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
        if network not in get_args(VGGNetwork):
            raise InputError(f"VGGTerm's network is {network!r}; choose of {', '.join(get_args(VGGNetwork))}")
        layers = _vgg_layers(network)
        if layer not in layers:
            raise InputError(f"{network} has no layer {layer!r}; VGGTerm's layer is one of {', '.join(layers)}")
        self.layer = layer
        self.normalize_input = normalize_input
        self._least_side = 2 ** (int(layer[4]) - 1)
        self._network = FrozenNetwork(partial(_vgg, network, layers[layer], weights))

    def distance(self, image: Tensor, hr: Tensor) -> Tensor:
        """Loss (B,) of two images (B, 1, H, W).

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
    """Mean squared difference of what the Segment Anything Model makes of two images: the other half of eq. 12.

    Of its `masks`, as in the paper: their logits, of one grid of point prompts that is the same for both images, three
    masks per point (the paper gives no prompts). Images are stretched to the square that the model takes and normalised
    as it was trained. The masks of one row of points are computed at a time, and again for the gradient, because those
    of all points at once would take gigabytes per image.
    Or of its image `embeddings`, as in the released training code: no prompts, values in [-1, 1] as they are.

    Args:
        weight: of this term.
        compare: `masks` or `embeddings`.
        model: folder with the model as transformers saves it (config.json, model.safetensors), or its name on the
            Hugging Face hub; ViT-B in the released code.
        points: of the grid, per side of the image.

    Raises:
        InputError: `weight` is negative, `points` is not positive, there is no such comparison, or the model cannot be
            had or is not a SAM.
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
        if compare not in get_args(Compared):
            raise InputError(f"SegmentationTerm's compare is {compare!r}; choose of {', '.join(get_args(Compared))}")
        if points < 1:
            raise InputError(f"SegmentationTerm's points is {points} and must be at least 1")
        self.compare = compare
        self.points = points
        self._network = FrozenNetwork(partial(_sam, model))

    def distance(self, image: Tensor, hr: Tensor) -> Tensor:
        """Loss (B,) of two images (B, 1, H, W)."""
        with torch.no_grad():
            target = self._embedding(hr)
        embedding = self._embedding(image)
        if self.compare == "embeddings":
            return mean_square(embedding, target)
        rows = [checkpoint(self._row, embedding, target, row, use_reentrant=False) for row in range(self.points)]
        return torch.stack(rows).mean(dim=0)

    def _embedding(self, image: Tensor) -> Tensor:
        """Embeddings (B, D, h, w) of images (B, 1, H, W) by the image encoder."""
        sam = self._network.on(image)
        side = sam.config.vision_config.image_size
        pixels = F.interpolate(image.expand(-1, 3, -1, -1), (side, side), mode="bilinear", align_corners=False)
        return sam.vision_encoder(_imagenet(pixels) if self.compare == "masks" else pixels)[0]

    def _row(self, embedding: Tensor, target: Tensor, row: int) -> Tensor:
        """Loss (B,) of the masks of one row of the grid."""
        with torch.no_grad():
            masks = self._masks(target, row)
        return mean_square(self._masks(embedding, row), masks)

    def _masks(self, embedding: Tensor, row: int) -> Tensor:
        """Mask logits (B, points, 3, h, w) of one row of the grid, from embeddings (B, D, h', w')."""
        sam = self._network.on(embedding)
        side = sam.config.vision_config.image_size
        # The model takes pixel indices and adds the half to the centre itself.
        middle = (torch.arange(self.points, device=embedding.device) + 0.5) * (side / self.points) - 0.5
        grid = torch.stack([middle, middle[row].expand(self.points)], dim=-1).to(embedding.dtype)
        prompts = grid[None, :, None].expand(len(embedding), -1, -1, -1)
        return sam(image_embeddings=embedding, input_points=prompts, multimask_output=True).pred_masks


class RandomFeatureTerm(ReferenceTerm):
    """Mean squared difference of features of a small convolutional network with random weights.

    It stands in for `VGGTerm` and `SegmentationTerm` where their weights cannot be had: it needs no file, runs on a
    CPU, and exercises the same path. It is not the perceptual guidance of DifIISR, was never trained on anything, and
    its numbers cannot be compared with the paper's; a table that has it must name it so.

    Convolutions of 3x3 with stride 2, without bias, orthogonal weights and a ReLU; the loss is the mean over the levels
    of the mean squared difference at each.

    Args:
        weight: of this term.
        seed: of the random weights, which are the same in every run.
        widths: channels of the levels.

    Raises:
        InputError: `weight` is negative, or `widths` are none or not positive.
    """

    name = "random_features"

    def __init__(self, weight: float = 0.01, seed: int = 0, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__(weight)
        if not widths or min(widths) < 1:
            raise InputError(f"RandomFeatureTerm's widths are {list(widths)}: give positive numbers")
        self._network = FrozenNetwork(partial(_random_features, seed, widths))

    def distance(self, image: Tensor, hr: Tensor) -> Tensor:
        """Loss (B,) of two images (B, 1, H, W)."""
        losses = []
        for level in self._network.on(image):
            image = level(image)
            with torch.no_grad():
                hr = level(hr)
            losses.append(mean_square(image, hr))
        return torch.stack(losses).mean(dim=0)


def _imagenet(image: Tensor) -> Tensor:
    """Normalise (B, 3, H, W) in [-1, 1] by the mean and the standard deviation of ImageNet, which SAM has too."""
    mean, std = (image.new_tensor(v).view(3, 1, 1) for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    return ((image + 1) / 2 - mean) / std


def _vgg_features(network: VGGNetwork) -> nn.Sequential:
    """The convolutional part of a VGG, without values."""
    with torch.device("meta"):
        return getattr(torchvision.models, network)(weights=None).features


def _vgg_layers(network: VGGNetwork) -> dict[str, int]:
    """Name of each ReLU to its index in torchvision's `features`."""
    layers, stage, convolution = {}, 1, 1
    for index, layer in enumerate(_vgg_features(network)):
        if isinstance(layer, nn.ReLU):
            layers[f"relu{stage}_{convolution}"] = index
            convolution += 1
        elif isinstance(layer, nn.MaxPool2d):
            stage, convolution = stage + 1, 1
    return layers


def _vgg(network: VGGNetwork, last: int, weights: str) -> nn.Module:
    """The layers of a VGG up to index `last` with torchvision's weights, from a file or fetched."""
    path = Path(weights) if weights else _fetch_vgg(network)
    if not path.is_file():
        raise InputError(f"there is no file {path} with weights of {network}: correct VGGTerm's `weights`")
    features = _vgg_features(network)[: last + 1]
    given = read_weights(path)
    state = {name: given[f"features.{name}"] for name in features.state_dict() if f"features.{name}" in given}
    try:
        features.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise InputError(
            f"weights {path} do not fit {network} ({len(state)} of the {len(features.state_dict())} weights that are "
            "needed are in the file, or their shapes differ): give torchvision's file of this network"
        ) from error
    return features


def _fetch_vgg(network: VGGNetwork) -> Path:
    """The file of torchvision's weights in torch's own cache, downloaded where it is not there yet."""
    url = torchvision.models.get_model_weights(network)["IMAGENET1K_V1"].url
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
            f"the pretrained weights {path.name} of torchvision's {network} are not on this machine and could not be "
            f"fetched ({str(error).splitlines()[0][:120]}): download {url} elsewhere and give the file by VGGTerm's "
            f"`weights`, or put it into {path.parent}"
        ) from error
    return path


def _sam(model: str) -> nn.Module:
    """The Segment Anything Model of a folder or of the hub."""
    from transformers import SamModel

    folder = _sam_folder(model)
    read: Any = SamModel
    try:
        sam, told = read.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except Exception as error:  # what a reader trips over first depends on the file
        raise InputError(
            f"SegmentationTerm's model {folder} cannot be read as a SAM ({str(error).splitlines()[0][:120]}): give the "
            "folder of facebook/sam-vit-base or another SAM"
        ) from error
    if told["missing_keys"]:
        raise InputError(
            f"SegmentationTerm's model {folder} is no SAM, or not whole: {len(told['missing_keys'])} weights are "
            f"missing, {min(told['missing_keys'])} among them; give the folder of facebook/sam-vit-base or another SAM"
        )
    return sam


def _sam_folder(model: str) -> Path:
    """The folder with config.json and the weights."""
    files = ("config.json", "model.safetensors")
    folder = Path(model)
    if folder.is_dir():
        missing = [name for name in files if not (folder / name).is_file()]
        if missing:
            raise InputError(
                f"the folder {folder} of SegmentationTerm's model has no {' and no '.join(missing)}: give a folder "
                "with both, as they lie in facebook/sam-vit-base on the Hugging Face hub"
            )
        return folder
    if model.count("/") != 1 or folder.is_absolute():
        raise InputError(
            f"SegmentationTerm's model {model!r} is neither a folder on this machine nor owner/name on the Hugging "
            "Face hub: give the folder, or facebook/sam-vit-base"
        )
    option = f"SegmentationTerm's `model`, a folder with {files[0]} and {files[1]} of {model}"
    config, _ = (fetch(model, name, option) for name in files)
    return config.parent


def _random_features(seed: int, widths: Sequence[int]) -> nn.Module:
    """The levels of `RandomFeatureTerm`."""
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for before, width in zip((1, *widths), widths, strict=False):
        convolution = nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False, device="meta").to_empty(device="cpu")
        nn.init.orthogonal_(convolution.weight, gain=nn.init.calculate_gain("relu"), generator=generator)
        levels.append(nn.Sequential(convolution, nn.ReLU()))
    return nn.Sequential(*levels)
