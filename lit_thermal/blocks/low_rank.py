"""Low-rank adaptation (LoRA, with peft) of a diffusion network and of its latent decoder."""

from typing import Any, Literal, cast

from torch import nn

from lit_thermal.errors import InputError

Train = Literal["lora", "lora_and_unet", "all"]
UNET_ADAPTER, VAE_ADAPTER = "default", "vae_skip"
ALPHA = 8
"""Alpha in the factor alpha / rank of the LoRA update; the released 3M-TI uses peft's default."""

_ATTENTION = r"to_q|to_k|to_v|to_out\.0"
_CONVOLUTIONS = r"conv1|conv2|conv_shortcut|conv|conv_out"
UNET_TARGETS = rf"(.*\.)?({_ATTENTION}|proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2|{_CONVOLUTIONS})"
"""Layers of the UNet: attention, feed-forward, and all convolutions except the first."""
VAE_TARGETS = rf"vae\.decoder\.(.*\.)?({_ATTENTION}|conv_in|{_CONVOLUTIONS})|skip\.skip_conv_\d+"
"""Layers of an autoencoder with skips: those of the decoder, and the skips."""


def add_lora(unet: nn.Module, autoencoder: nn.Module, unet_rank: int = 16, vae_rank: int = 4) -> None:
    """Add LoRA to both networks in place; their outputs are unchanged until the LoRA weights are trained.

    The first matrix is initialised from a Gaussian with a standard deviation of 1 / rank, the second one with zeros.
    The LoRA update is scaled by 8 / rank. Names are those of the released 3M-TI: `.base_layer.weight`,
    `.lora_A.default.weight`, `.lora_B.vae_skip.weight`. All other parameters are frozen; `trainable` changes that.

    Args:
        unet: UNet from diffusers.
        autoencoder: `ViewAutoencoder` of the latents.
        unet_rank: rank of the layers in the UNet.
        vae_rank: rank of the layers in the decoder and the skips.

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
    """Set which parameters are trained; the skips always are.

    Args:
        unet: UNet, which must have LoRA unless `train` is "all".
        autoencoder: `ViewAutoencoder`, which must have LoRA unless `train` is "all".
        train: "lora" trains LoRA only (the paper), "lora_and_unet" also the whole UNet (the released 3M-TI), and "all"
            every parameter including the autoencoder's encoder (from scratch).

    Raises:
        InputError: `train` needs LoRA and a network has none.
    """
    if train != "all" and not (_layers(unet) and _layers(autoencoder)):
        raise InputError(f"train {train!r} needs LoRA, which this model lacks: set train to 'all'")
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(train != "lora" or _is_lora(name))
    for name, parameter in autoencoder.named_parameters():
        parameter.requires_grad_(train == "all" or _is_lora(name) or name.startswith("skip."))


def merge(unet: nn.Module, autoencoder: nn.Module) -> None:
    """Merge LoRA into the base weights in place and remove it; the output is unchanged up to rounding."""
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
    """Return the layers with LoRA by name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: cast("Any", m) for name, m in network.named_modules() if isinstance(m, BaseTunerLayer)}
