"""Latent diffusion models from diffusers: the UNet and autoencoder that a method starts from."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lit_thermal.blocks.pretrained import model_folder, pretrained_wanted
from lit_thermal.errors import InputError
from lit_thermal.networks.view_pixels import PixelNorm, ViewPixels
from lit_thermal.plain_files import read_json
from lit_thermal.shapes import COUNT, check

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

WEIGHTS = "diffusion_pytorch_model.safetensors"


class LatentDiffusion(ABC):
    """Base of the family: builds a UNet on latents, conditioned on time and text, and the autoencoder of the latents.

    Attributes:
        text_dim: width of the text embedding that the UNet takes.
        has_files: whether the weights come from files, so that a checkpoint may omit weights that are not trained.
    """

    text_dim: int
    has_files = False

    @abstractmethod
    def build(self) -> "tuple[UNet2DConditionModel, AutoencoderKL | ViewPixels]":
        """Return both networks in float32 and in training mode, newly built at each call."""


class SDTurbo(LatentDiffusion):
    """Stability AI's SD-Turbo, or another model of the Stable Diffusion family in the layout of diffusers.

    Inside `without_pretrained()`, where a checkpoint provides all weights, no file is needed: shapes follow the
    configuration in the folder if it exists, and otherwise the published Stable Diffusion 2.1 family.

    Args:
        folder: local folder with `unet/` and `vae/`, where `~` is the user's home, or a name on the Hugging Face hub.

    Raises:
        InputError: the folder's `unet/` has no readable configuration.
    """

    has_files = True

    def __init__(self, folder: str = "stabilityai/sd-turbo") -> None:
        self.folder = os.path.expanduser(folder)
        config = Path(self.folder) / "unet" / "config.json"
        self.text_dim = _text_dim(config) if config.parent.is_dir() else _PUBLISHED_TEXT_DIM

    def build(self) -> "tuple[UNet2DConditionModel, AutoencoderKL]":
        """Return both networks with their weights.

        Raises:
            InputError: the folder or one of its files is absent and cannot be downloaded, or does not hold such a
                network.
        """
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        return _load(UNet2DConditionModel, self.folder, "unet"), _load(AutoencoderKL, self.folder, "vae")


class SmallLatentDiffusion(LatentDiffusion):
    """A small UNet and autoencoder of the same classes, to be trained from scratch.

    As in Stable Diffusion, every level of the UNet except the coarsest has transformer blocks, and so has its middle.

    Args:
        unet_widths: channels of the UNet's levels, the finest first; each level but the first halves the size.
        vae_widths: channels of the autoencoder's levels, the finest first; a latent is smaller than the image by
            2 ** (levels - 1).
        latent_channels: number of channels of the latent.
        text_dim: width of the text embedding.
        head_dim: number of channels of an attention head.
        layers: number of residual blocks per level; each level of the decoder has one more.
        groups: number of groups of the group norms.
        scale: factor that scales the autoencoder's latents for the UNet, so that their variance is near 1.

    Raises:
        InputError: a width is not a multiple of groups or head_dim, or a size is less than 1.
    """

    def __init__(
        self,
        unet_widths: Sequence[int] = (32, 64, 64),
        vae_widths: Sequence[int] = (32, 64, 64),
        latent_channels: int = 4,
        text_dim: int = 64,
        head_dim: int = 32,
        layers: int = 1,
        groups: int = 8,
        scale: float = 1.0,
    ) -> None:
        sizes = [*unet_widths, *vae_widths, latent_channels, text_dim, head_dim, layers, groups]
        if not unet_widths or not vae_widths or min(sizes) < 1 or scale <= 0:
            raise InputError("SmallLatentDiffusion: all its sizes, and scale, must be positive, with a width at least")
        for name, widths, divisor, of in (
            ("unet_widths", unet_widths, groups, "groups"),
            ("vae_widths", vae_widths, groups, "groups"),
            ("unet_widths", unet_widths, head_dim, "head_dim"),
        ):
            wrong = [width for width in widths if width % divisor]
            if wrong:
                raise InputError(f"{name} of SmallLatentDiffusion: {wrong[0]} is not a multiple of {of} {divisor}")
        self.text_dim = text_dim
        heads = [width // head_dim for width in unet_widths]
        self._unet = _unet_config(unet_widths, heads, latent_channels, text_dim, layers, groups)
        self._vae = _vae_config(vae_widths, latent_channels, layers, groups, scale)

    def build(self) -> "tuple[UNet2DConditionModel, AutoencoderKL]":
        """Return both networks with random weights."""
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        return UNet2DConditionModel(**self._unet), AutoencoderKL(**self._vae)


class PixelDiffusion(LatentDiffusion):
    """A small UNet on pixels, to be trained from scratch; blocks of pixels are channels, so that nothing is lost.

    Group norms would remove the contrast that a predicted residual needs. So each residual block normalises the
    channels of each pixel instead, and the output is a linear map of features that are not normalised. The output and
    the residual blocks start at zero.

    Args:
        unshuffle: side of the pixel blocks that become channels.
        unet_widths: channels of the UNet's levels, the finest first; each level but the first halves the size.
        text_dim: width of the text embedding.
        head_dim: number of channels of an attention head.
        layers: number of residual blocks per level.

    Raises:
        InputError: a width is not a multiple of head_dim, or a size is less than 1.
    """

    def __init__(
        self,
        unshuffle: int = 4,
        unet_widths: Sequence[int] = (64, 96),
        text_dim: int = 64,
        head_dim: int = 32,
        layers: int = 1,
    ) -> None:
        if not unet_widths or min(unshuffle, *unet_widths, text_dim, head_dim, layers) < 1:
            raise InputError("PixelDiffusion: all its sizes must be positive, with a width at least")
        if wrong := [width for width in unet_widths if width % head_dim]:
            raise InputError(f"unet_widths of PixelDiffusion: {wrong[0]} is not a multiple of head_dim {head_dim}")
        self.text_dim, self.unshuffle = text_dim, unshuffle
        heads = [width // head_dim for width in unet_widths]
        self._unet = _unet_config(unet_widths, heads, 3 * unshuffle**2, text_dim, layers, groups=1)

    def build(self) -> "tuple[UNet2DConditionModel, ViewPixels]":
        """Return the UNet with random weights, and the rearrangement of pixels."""
        from diffusers.models.resnet import ResnetBlock2D
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        unet = UNet2DConditionModel(**self._unet)
        unet.conv_norm_out = unet.conv_act = nn.Identity()
        for module in list(unet.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.GroupNorm):
                    setattr(module, name, PixelNorm(child.num_channels))
        last = [module.conv2 for module in unet.modules() if isinstance(module, ResnetBlock2D)]
        for convolution in (*last, unet.conv_out):
            for parameter in convolution.parameters():
                nn.init.zeros_(parameter)
        return unet, ViewPixels(self.unshuffle)


class ConfiguredLatentDiffusion(LatentDiffusion):
    """Networks built from diffusers configurations with random weights, for checkpoints that contain all weights.

    Args:
        unet: contents of `unet/config.json` of a folder in the layout of diffusers.
        vae: contents of `vae/config.json` of such a folder.

    Raises:
        InputError: the UNet is not conditioned on text.
    """

    def __init__(self, unet: dict[str, Any], vae: dict[str, Any]) -> None:
        if not isinstance(unet.get("cross_attention_dim"), int):
            raise InputError(
                "unet of ConfiguredLatentDiffusion has no cross_attention_dim: give all of its config.json"
            )
        self.text_dim = unet["cross_attention_dim"]
        self._unet, self._vae = unet, vae

    def build(self) -> "tuple[UNet2DConditionModel, AutoencoderKL]":
        """Return both networks with random weights.

        Raises:
            InputError: a configuration does not describe such a network.
        """
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        return _configured(UNet2DConditionModel, self._unet, "unet"), _configured(AutoencoderKL, self._vae, "vae")


def _configured(kind: Any, config: dict[str, Any], part: str) -> Any:
    try:
        return kind.from_config(config)
    except Exception as error:  # the kind of exception depends on the entry
        raise InputError(f"{part} of ConfiguredLatentDiffusion cannot be built ({_reason(error)})") from error


def _unet_config(
    widths: Sequence[int], heads: Sequence[int], latent: int, text_dim: int, layers: int, groups: int
) -> dict[str, Any]:
    attended = len(widths) - 1
    return {
        "in_channels": latent,
        "out_channels": latent,
        "block_out_channels": tuple(widths),
        "down_block_types": (*["CrossAttnDownBlock2D"] * attended, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * attended),
        "layers_per_block": layers,
        "norm_num_groups": groups,
        "cross_attention_dim": text_dim,
        # diffusers uses this name for the number of heads
        "attention_head_dim": tuple(heads),
        "use_linear_projection": True,
    }


def _vae_config(widths: Sequence[int], latent: int, layers: int, groups: int, scale: float) -> dict[str, Any]:
    return {
        "block_out_channels": tuple(widths),
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "latent_channels": latent,
        "layers_per_block": layers,
        "norm_num_groups": groups,
        "scaling_factor": scale,
    }


_PUBLISHED_TEXT_DIM = 1024
_PUBLISHED: dict[str, dict[str, Any]] = {
    "unet": _unet_config((320, 640, 1280, 1280), (5, 10, 20, 20), 4, _PUBLISHED_TEXT_DIM, layers=2, groups=32),
    "vae": _vae_config((128, 256, 512, 512), 4, layers=2, groups=32, scale=0.18215),
}


def _load(kind: Any, folder: str, part: str) -> Any:
    """Build a network of diffusers with the weights of its folder; inside `without_pretrained()`, without them."""
    local = Path(folder) / part
    if not pretrained_wanted() and not local.is_dir():
        return kind.from_config(_PUBLISHED[part])
    files = local
    if pretrained_wanted():
        required = (f"{part}/config.json", f"{part}/{WEIGHTS}")
        files = model_folder(folder, required, "SD-Turbo", "model.base.folder", _advice()) / part
    try:
        if not pretrained_wanted():
            return kind.from_config(kind.load_config(local))
        network, report = kind.from_pretrained(
            files, use_safetensors=True, torch_dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # the kind of exception depends on the file
        raise InputError(f"{files} does not hold the {part} of SD-Turbo ({_reason(error)}): {_advice()}") from error
    if report["missing_keys"]:  # diffusers leaves them random and only logs that
        raise InputError(f"{files / WEIGHTS} has no weights for {report['missing_keys'][0]}: {_advice()}")
    return network.train()  # diffusers reads in eval mode


def _text_dim(config: Path) -> int:
    try:
        record = check(read_json(config, "a configuration"), {"cross_attention_dim": COUNT}, f"{config}", _advice())
        return int(record["cross_attention_dim"])
    except InputError as error:
        raise InputError(f"{config} does not say the cross_attention_dim of a UNet: {_advice()}") from error


def _reason(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line), type(error).__name__)[:120]


def _advice() -> str:
    return (
        "download unet/, vae/, text_encoder/ and tokenizer/ of stabilityai/sd-turbo where there is a network (`hf "
        "download stabilityai/sd-turbo --include '*/*' --exclude '*.fp16.*' --local-dir sd-turbo`, or likewise "
        "`huggingface-cli`), and give that folder by model.base.folder"
    )
