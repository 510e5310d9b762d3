"""Convolutional encoders and decoders of latent diffusion, and their parameter names in the published layouts."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

PLACES = (
    (r"\.(down|up)_blocks\.(\d+)\.resnets\.", r".\1.\2.block."),
    (r"\.(down|up)_blocks\.(\d+)\.attentions\.", r".\1.\2.attn."),
    (r"\.(down|up)_blocks\.(\d+)\.(down|up)samplers\.0\.", r".\1.\2.\3sample."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
    (r"(\.attn[._]\d+)\.group_norm\.", r"\1.norm."),
    (r"(\.attn[._]\d+)\.to_out\.0\.", r"\1.proj_out."),
    (r"(\.attn[._]\d+)\.to_([qkv])\.", r"\1.\2."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
)
"""Substitutions from parameter names here to those of the published layouts."""


def encoder_and_decoder(
    channels: Sequence[int], layers: int, latent_channels: int, groups: int, attention: bool
) -> tuple[Any, Any]:
    """Return an encoder (B, 3, H, W) -> (B, latent_channels, h, w) and its decoder, built from parts of diffusers.

    Both have residual blocks with group norm (eps 1e-6) and SiLU, and a single-head self-attention in the middle. The
    encoder downsamples by a convolution of stride 2 with a padding of one at right and bottom; the decoder upsamples by
    nearest neighbour and a convolution. The output is not bounded. Norms compute in the type of their weights, under
    autocast too.

    Args:
        channels: width of each level, the finest first. Each level but the first halves the size.
        layers: number of residual blocks per level of the encoder; the decoder has one more.
        latent_channels: number of channels of the latent.
        groups: number of groups of every norm.
        attention: add a single-head self-attention after each residual block of the coarsest level.
    """
    from diffusers.models.autoencoders.vae import Decoder, Encoder

    finer = len(channels) - 1
    encoder = Encoder(
        out_channels=latent_channels,
        down_block_types=(
            *["DownEncoderBlock2D"] * finer,
            "AttnDownEncoderBlock2D" if attention else "DownEncoderBlock2D",
        ),
        block_out_channels=tuple(channels),
        layers_per_block=layers,
        norm_num_groups=groups,
        double_z=False,
    )
    decoder = Decoder(
        in_channels=latent_channels,
        up_block_types=("AttnUpDecoderBlock2D" if attention else "UpDecoderBlock2D", *["UpDecoderBlock2D"] * finer),
        block_out_channels=tuple(channels),
        layers_per_block=layers,
        norm_num_groups=groups,
    )
    for module in (*encoder.modules(), *decoder.modules()):
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(_own_precision)
    return encoder, decoder


def outside_autocast(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a layer with autocast disabled, in the precision of its weights."""
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.to(layer.weight.dtype))


def released_state(autoencoder: nn.Module) -> dict[str, Tensor]:
    """Return the state with names and shapes of latent diffusion's published layout; it shares memory with ours.

    In that layout the projections of an attention are 1x1 convolutions; here they are linear layers.

    Args:
        autoencoder: module whose `encoder` and `decoder` come from `encoder_and_decoder`; other names are unchanged.
    """
    decoder: Any = autoencoder.decoder
    levels = len(decoder.up_blocks)
    return {
        _released_name(name, levels): value[..., None, None] if _is_projection(name) else value
        for name, value in autoencoder.state_dict().items()
    }


def _released_name(name: str, levels: int) -> str:
    for ours, theirs in PLACES:
        name = re.sub(ours, theirs, name)
    # The published layout numbers the levels of the decoder from the finest, like those of the encoder.
    return re.sub(r"^decoder\.up\.(\d+)", lambda found: f"decoder.up.{levels - 1 - int(found[1])}", name)


def _is_projection(name: str) -> bool:
    return ".attentions." in name and ".to_" in name and name.endswith(".weight")


def _own_precision(module: nn.GroupNorm, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Cast the input of a norm to the type of its weights; on the CPU, autocast would keep the lower precision."""
    return tuple(x.to(module.weight.dtype) for x in inputs)
