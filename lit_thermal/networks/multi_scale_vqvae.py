"""The tokenizer of visual autoregression: maps images to maps of tokens at several scales, and back."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lit_thermal.errors import InputError
from lit_thermal.networks.convolutional_autoencoder import encoder_and_decoder, outside_autocast, released_state
from lit_thermal.networks.residual_quantizer import PUBLISHED_SCALES, ResidualQuantizer

PLACES = (
    (r"(\.attn[._]\d+)\.[qkv]\.", r"\1.qkv."),
    (r"\.phi\.", ".quant_resi.qresi_ls."),
)
"""Substitutions from names in latent diffusion's layout, or here, to those in the tokenizer's published layout."""


class Reconstruction(NamedTuple):
    """Results of a training step of the tokenizer."""

    image: Tensor
    """Reconstructed images (B, 3, H, W), not clamped."""
    loss: Tensor
    """Loss of the quantiser, ()."""
    ids: list[Tensor]
    """Tokens (B, n) of each scale."""


class MultiScaleVQVAE(nn.Module):
    """Convolutional autoencoder whose latent is quantised at several scales (VAR, Tian et al. 2024).

    This is the tokenizer of VAR, VARSR and Real-IISR, built from parts of diffusers: residual blocks with group norm
    (eps 1e-6) and SiLU, single-head self-attention in the middle and after each block of the coarsest level, and 3x3
    convolutions on both sides of the quantiser. Token maps are those of `ResidualQuantizer`.

    With the defaults it has 108,948,355 parameters: the published 108,981,380 minus the condition-adaptive codebook.

    Under autocast, norms, the layers next to the latent and the quantiser keep the precision of their weights; tokens
    are computed entirely outside autocast.

    Args:
        width: number of channels of the finest level; the width of each level must be a multiple of `groups`.
        multipliers: ratio of each level's width to `width`, the finest first. Each level but the first halves the size.
        layers: number of residual blocks per level of the encoder; the decoder has one more.
        dim: number of channels of the latent and of values of a codebook entry.
        entries: number of entries of the codebook.
        scales: sides of the token maps; the last one is that of the latent.
        groups: number of groups of every norm.

    Attributes:
        factor: ratio of the image's side to the latent's side.
        side: side of the images in pixels.
        quantize: quantiser of the latents.

    Raises:
        InputError: a width is not a positive multiple of `groups`, scales do not increase, or there are no levels,
            layers, entries or channels.
    """

    def __init__(
        self,
        width: int = 160,
        multipliers: Sequence[int] = (1, 1, 2, 2, 4),
        layers: int = 2,
        dim: int = 32,
        entries: int = 4096,
        scales: Sequence[int] = PUBLISHED_SCALES,
        groups: int = 32,
    ) -> None:
        super().__init__()
        for name, value in (("layers", layers), ("groups", groups)):
            if value < 1:
                raise InputError(f"{name} {value} of the tokenizer: give 1 or more")
        channels = [width * multiplier for multiplier in multipliers]
        if not channels or any(wide < groups or wide % groups for wide in channels):
            raise InputError(
                f"the levels of the tokenizer would be {channels} wide: give a width and multipliers whose products "
                f"are multiples of the {groups} groups of its norms, or fewer groups"
            )
        self.quantize = ResidualQuantizer(entries, dim, scales)
        self.factor = 2 ** (len(channels) - 1)
        self.side = self.quantize.scales[-1] * self.factor
        self.encoder, self.decoder = encoder_and_decoder(channels, layers, dim, groups, attention=True)
        self.quant_conv = nn.Conv2d(dim, dim, 3, padding=1)
        self.post_quant_conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, image: Tensor) -> Reconstruction:
        """Encode, quantise and decode images (B, 3, side, side) in [-1, 1] for training.

        The result is not clamped, because a clamp would remove the gradient of pixels that are too bright or too dark.

        Raises:
            InputError: the images have another shape.
        """
        latent, loss, ids = self.quantize(self.encode(image))
        return Reconstruction(self._decode(latent), loss, ids)

    def encode(self, image: Tensor) -> Tensor:
        """Return latents (B, dim, side / factor, side / factor) of images (B, 3, side, side) in [-1, 1], not quantised.

        Raises:
            InputError: the images have another shape.
        """
        if image.shape[1:] != (3, self.side, self.side):
            raise InputError(
                f"an image of shape {tuple(image.shape[1:])} has no tokens: the tokenizer takes (3, {self.side}, "
                f"{self.side}); cut or resize it, or take a tokenizer of other scales"
            )
        return outside_autocast(self.quant_conv, self.encoder(image.to(self.quant_conv.weight.dtype)))

    @torch.no_grad()
    def tokens(self, image: Tensor) -> list[Tensor]:
        """Return the token maps of images (B, 3, side, side) in [-1, 1]: int64 (B, n) for each scale.

        Raises:
            InputError: the images have another shape.
        """
        with torch.autocast(image.device.type, enabled=False):
            return self.quantize.encode(self.encode(image))

    def image(self, codes: Sequence[Tensor]) -> Tensor:
        """Return the images (B, 3, side, side) in [-1, 1] of codes (B, n, dim) of each scale.

        Args:
            codes: entries of the codebook (`quantize.codes` returns those of tokens), or these entries after a
                `lit_thermal.blocks.codebook.Codebook`.
        """
        return self.decode(self.quantize.compose(codes))

    def decode(self, latent: Tensor) -> Tensor:
        """Return the images (B, 3, h * factor, w * factor) of quantised latents (B, dim, h, w), clamped to [-1, 1]."""
        return self._decode(latent).clamp(-1, 1)

    def released_state(self) -> dict[str, Tensor]:
        """Return the weights with the names and shapes of the published layout.

        In that layout one convolution computes query, key and value of an attention; here these are three layers.
        """
        return {name: torch.cat(parts) for name, parts in self._released_parts().items()}

    @torch.no_grad()
    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Load the weights of a state dict that has exactly the names and shapes of `released_state`."""
        for name, parts in self._released_parts().items():
            for part, value in zip(parts, state[name].chunk(len(parts)), strict=True):
                part.copy_(value)
        self.quantize.idle.zero_()

    def _decode(self, latent: Tensor) -> Tensor:
        return self.decoder(outside_autocast(self.post_quant_conv, latent))

    def _released_parts(self) -> dict[str, list[Tensor]]:
        """Return the tensors that are concatenated to each published entry, by name; they share memory with ours."""
        parts: dict[str, list[Tensor]] = {}
        for name, value in released_state(self).items():
            if name != "quantize.idle":
                for ours, theirs in PLACES:
                    name = re.sub(ours, theirs, name)
                parts.setdefault(name, []).append(value)
        return parts
