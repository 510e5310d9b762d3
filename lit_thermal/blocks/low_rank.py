"""Low-rank adaptation (LoRA, through peft) of a diffusion network and of the decoder of its latents."""

from typing import Any, Literal, cast

from torch import nn

from lit_thermal.errors import InputError

Train = Literal["lora", "lora_and_unet", "all"]
UNET_ADAPTER, VAE_ADAPTER = "default", "vae_skip"
ALPHA = 8
"""Numerator of the factor alpha / rank on what LoRA adds; the released 3M-TI leaves peft's default."""

_ATTENTION = r"to_q|to_k|to_v|to_out\.0"
_CONVOLUTIONS = r"conv1|conv2|conv_shortcut|conv|conv_out"
UNET_TARGETS = rf"(.*\.)?({_ATTENTION}|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2|{_CONVOLUTIONS})"
"""Layers of the UNet: attention, feed-forward, and convolutions but the first."""
VAE_TARGETS = rf"vae\.decoder\.(.*\.)?({_ATTENTION}|conv_in|{_CONVOLUTIONS})|skip\.skip_conv_\d+"
"""Layers of an autoencoder with skips: those of the decoder, and the skips."""


def add_lora(unet: nn.Module, autoencoder: nn.Module, unet_rank: int = 16, vae_rank: int = 4) -> None:
    """Add LoRA to both networks in place; they compute what they did before.

    The second matrix starts at zero, the first one Gaussian with a standard deviation of 1 / rank. What LoRA adds is
    scaled by 8 / rank. Names are those of the released 3M-TI: `.base_layer.weight`, `.lora_A.default.weight`,
    `.lora_B.vae_skip.weight`. Every other parameter is frozen; `trainable` sets which are not.

    Args:
        unet: a UNet of diffusers.
        autoencoder: a `ViewAutoencoder`.
        unet_rank: in the UNet.
        vae_rank: in the decoder and the skips.

    Raises:
        InputError: a rank is less than 1.
    """
    from peft import LoraConfig, inject_adapter_in_model

    for name, rank, network, targets, adapter in (
        ("unet_rank", unet_rank, unet, UNET_TARGETS, UNET_ADAPTER),
        ("vae_rank", vae_rank, autoencoder, VAE_TARGETS, VAE_ADAPTER),
    ):
        if rank < 1:
            raise InputError(f"{name} {rank} of LoRA: give 1 or more")
        config = LoraConfig(r=rank, lora_alpha=ALPHA, init_lora_weights="gaussian", target_modules=targets)
        inject_adapter_in_model(config, network, adapter)


def trainable(unet: nn.Module, autoencoder: nn.Module, train: Train) -> None:
    """Set which parameters have a gradient; the skips always have.

    Args:
        unet: with LoRA, unless all is trained.
        autoencoder: a `ViewAutoencoder`, likewise.
        train: LoRA alone (the paper); LoRA and the whole UNet (the released 3M-TI); or all, the autoencoder's encoder
            included (from scratch).

    Raises:
        InputError: LoRA alone is to be trained, and there is none.
    """
    if train != "all" and not (_layers(unet) and _layers(autoencoder)):
        raise InputError(f"train {train!r} needs LoRA, which this model has not: set train to 'all'")
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(train != "lora" or _is_lora(name))
    for name, parameter in autoencoder.named_parameters():
        parameter.requires_grad_(train == "all" or _is_lora(name) or name.startswith("skip."))


def merge(unet: nn.Module, autoencoder: nn.Module) -> None:
    """Fold LoRA into the weights it was added to, in place, and remove it; the output stays up to rounding."""
    for network in (unet, autoencoder):
        for name, layer in _layers(network).items():
            layer.merge()
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, layer.get_base_layer())
        if hasattr(network, "peft_config"):
            del network.peft_config


def _is_lora(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def _layers(network: nn.Module) -> dict[str, Any]:
    """Name to layer with LoRA."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: cast("Any", m) for name, m in network.named_modules() if isinstance(m, BaseTunerLayer)}
