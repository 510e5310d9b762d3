"""The VQ autoencoder of latent diffusion: images to small latents, and back through the nearest codebook entries."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lit_thermal.errors import InputError

GROUPS = 32
"""Of every norm; widths are multiples of it."""
DISTANCES = 2**24
"""Distances held at once when codebook entries are looked up: 64 MiB, whatever the size of the image."""

PLACES = (
    (r"\.(down|up)_blocks\.(\d+)\.resnets\.", r".\1.\2.block."),
    (r"\.(down|up)_blocks\.(\d+)\.(down|up)samplers\.0\.", r".\1.\2.\3sample."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
    (r"\.attn_1\.group_norm\.", ".attn_1.norm."),
    (r"\.attn_1\.to_out\.0\.", ".attn_1.proj_out."),
    (r"\.attn_1\.to_([qkv])\.", r".attn_1.\1."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
)
"""Parts of the names here to those of the published layout."""


class VQAutoencoder(nn.Module):
    """Convolutional autoencoder with a codebook (Rombach et al. 2022, "VQ-f4" by default), built of diffusers' parts.

    Residual blocks with group norm (32 groups, eps 1e-6) and SiLU; one self-attention with a single head in the middle
    of encoder and decoder; a level is left by a convolution of stride 2 that pads right and bottom by one, or entered
    by nearest enlargement and a convolution. Nothing limits the output. Latents leave `encode` as they are and are
    quantised in `decode`, so that what works on them sees a continuous space.

    At its defaults it has 55,322,782 parameters.

    Under autocast, norms and the layers next to the latent keep the precision of their weights.

    Args:
        channels: width of each level, the finest first; multiples of 32. Each level but the first halves the size.
        layers: residual blocks of a level of the encoder; the decoder has one more.
        codebook: entries of the codebook.
        latent_channels: of the latent, and values of one entry.

    Attributes:
        factor: side of the image over side of the latent.

    Raises:
        InputError: a width is no positive multiple of 32, or there are no levels, layers, entries or channels.
    """

    def __init__(
        self,
        channels: Sequence[int] = (128, 256, 512),
        layers: int = 2,
        codebook: int = 8192,
        latent_channels: int = 3,
    ) -> None:
        super().__init__()
        if not channels or any(width < GROUPS or width % GROUPS for width in channels):
            raise InputError(
                f"channels {list(channels)} of the VQ autoencoder: give one width for each level, multiples of {GROUPS}"
            )
        for name, value in (("layers", layers), ("codebook", codebook), ("latent_channels", latent_channels)):
            if value < 1:
                raise InputError(f"{name} {value} of the VQ autoencoder: give 1 or more")
        from diffusers import VQModel

        body: Any = VQModel(
            down_block_types=("DownEncoderBlock2D",) * len(channels),
            up_block_types=("UpDecoderBlock2D",) * len(channels),
            block_out_channels=tuple(channels),
            layers_per_block=layers,
            latent_channels=latent_channels,
            norm_num_groups=GROUPS,
            num_vq_embeddings=codebook,
        )
        self.factor = 2 ** (len(channels) - 1)
        self.encoder = body.encoder
        self.quant_conv = body.quant_conv
        self.quantize = Codebook(codebook, latent_channels)
        self.post_quant_conv = body.post_quant_conv
        self.decoder = body.decoder
        for module in self.modules():
            if isinstance(module, nn.GroupNorm):
                module.register_forward_pre_hook(_own_precision)

    def encode(self, image: Tensor) -> Tensor:
        """Return latents (B, latent_channels, H / factor, W / factor), not quantised; image is (B, 3, H, W)."""
        return _outside_autocast(self.quant_conv, self.encoder(image.to(self.quant_conv.weight.dtype)))

    def decode(self, latent: Tensor) -> Tensor:
        """Quantise latents (B, latent_channels, h, w) and return images (B, 3, h * factor, w * factor), not limited.

        The gradient passes the quantisation unchanged (straight-through).
        """
        return self.decoder(_outside_autocast(self.post_quant_conv, self.quantize(latent)))

    def released_state(self) -> dict[str, Tensor]:
        """Return the weights by their names and shapes in the published layout; they share memory with ours.

        There the projections of an attention are 1x1 convolutions, here they are linear layers.
        """
        return {
            self._released_name(name): value[..., None, None] if _is_projection(name) else value
            for name, value in self.state_dict().items()
        }

    @torch.no_grad()
    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a state dict that has exactly the names and shapes of `released_state`."""
        for name, value in self.released_state().items():
            value.copy_(state[name])

    def _released_name(self, name: str) -> str:
        for ours, theirs in PLACES:
            name = re.sub(ours, theirs, name)
        # the published levels of the decoder count from the finest, as those of the encoder do
        levels = len(self.decoder.up_blocks)
        return re.sub(r"^decoder\.up\.(\d+)", lambda found: f"decoder.up.{levels - 1 - int(found[1])}", name)


class Codebook(nn.Module):
    """Replaces each latent vector by the nearest entry (Euclidean), and passes the gradient on as if it had not.

    The entries themselves get no gradient. Distances are taken in float32 whatever the type of the latent and under
    autocast too; they are never all in memory at once.

    Args:
        entries: how many there are.
        dim: values of an entry.
    """

    def __init__(self, entries: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(entries, dim)
        nn.init.uniform_(self.embedding.weight, -1 / entries, 1 / entries)

    def forward(self, latent: Tensor) -> Tensor:
        """Return float32 latents (B, dim, h, w) of entries only; NaN and infinity come out as NaN."""
        latent = latent.float()
        with torch.no_grad():
            entries = self.embedding.weight.float()
            nearest = entries[self.indices(latent)].permute(0, 3, 1, 2)
        # the difference is zero in value: what is not finite shows, and the gradient passes
        return nearest + (latent - latent.detach())

    @torch.no_grad()
    def indices(self, latent: Tensor) -> Tensor:
        """Return which entry is nearest, the first of equals: int64 (B, h, w) for latents (B, dim, h, w)."""
        entries = self.embedding.weight.float()
        vectors = latent.float().permute(0, 2, 3, 1).flatten(0, 2)
        with torch.autocast(latent.device.type, enabled=False):
            parts = [
                # sums of squared differences: through a matrix product, near entries would be mistaken for each other
                torch.cdist(part, entries, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
                for part in vectors.split(max(1, DISTANCES // len(entries)))
            ]
        return torch.cat(parts).view(len(latent), *latent.shape[2:])


def _is_projection(name: str) -> bool:
    return ".attentions." in name and ".to_" in name and name.endswith(".weight")


def _own_precision(module: nn.GroupNorm, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Hand a norm its input in the type of its weights: on the CPU, autocast would leave it in the lower one."""
    return tuple(x.to(module.weight.dtype) for x in inputs)


def _outside_autocast(layer: nn.Conv2d, x: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.to(layer.weight.dtype))
