"""The VQ autoencoder of latent diffusion: maps images to small latents, and back through the nearest entries."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lit_thermal.errors import InputError
from lit_thermal.networks.convolutional_autoencoder import encoder_and_decoder, outside_autocast, released_state

GROUPS = 32
"""Number of groups of every norm; widths are multiples of it."""
DISTANCES = 2**24
"""Number of distances in memory at once when codebook entries are looked up: 64 MiB for images of any size."""


class VQAutoencoder(nn.Module):
    """Convolutional autoencoder with a codebook (Rombach et al. 2022, by default "VQ-f4"), built with diffusers.

    Encoder and decoder have residual blocks with group norm (32 groups, eps 1e-6) and SiLU, and a single-head
    self-attention in the middle. The encoder downsamples by a convolution of stride 2 with a padding of one at right
    and bottom; the decoder upsamples by nearest neighbour and a convolution. The output is not bounded. Latents are
    quantised in `decode`, not in `encode`, so that a diffusion works in a continuous space.

    With the defaults it has 55,322,782 parameters.

    Under autocast, norms and the layers next to the latent keep the precision of their weights.

    Args:
        channels: width of each level, the finest first; multiples of 32. Each level but the first halves the size.
        layers: number of residual blocks per level of the encoder; the decoder has one more.
        codebook: number of entries of the codebook.
        latent_channels: number of channels of the latent, which is also the number of values of an entry.

    Attributes:
        factor: ratio of the image's side to the latent's side.

    Raises:
        InputError: a width is not a positive multiple of 32, or there are no levels, layers, entries or channels.
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
        self.factor = 2 ** (len(channels) - 1)
        self.encoder, self.decoder = encoder_and_decoder(channels, layers, latent_channels, GROUPS, attention=False)
        self.quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        self.quantize = VectorQuantizer(codebook, latent_channels)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)

    def encode(self, image: Tensor) -> Tensor:
        """Return latents (B, latent_channels, H / factor, W / factor), not quantised; image is (B, 3, H, W)."""
        return outside_autocast(self.quant_conv, self.encoder(image.to(self.quant_conv.weight.dtype)))

    def decode(self, latent: Tensor) -> Tensor:
        """Quantise latents (B, latent_channels, h, w) and return images (B, 3, h * factor, w * factor), not clamped.

        The gradient passes the quantisation unchanged (straight-through).
        """
        return self.decoder(outside_autocast(self.post_quant_conv, self.quantize(latent)))

    def released_state(self) -> dict[str, Tensor]:
        """Return the weights with the names and shapes of the published layout; they share memory with ours."""
        return released_state(self)

    @torch.no_grad()
    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Load the weights of a state dict that has exactly the names and shapes of `released_state`."""
        for name, value in self.released_state().items():
            value.copy_(state[name])


class VectorQuantizer(nn.Module):
    """Replaces each latent vector by the nearest entry (Euclidean), with a straight-through gradient.

    The entries themselves get no gradient.

    Args:
        entries: number of entries.
        dim: number of values of an entry.
    """

    def __init__(self, entries: int, dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(entries, dim)
        nn.init.uniform_(self.embedding.weight, -1 / entries, 1 / entries)

    def forward(self, latent: Tensor) -> Tensor:
        """Return float32 latents (B, dim, h, w) that consist of entries; NaN and infinity become NaN."""
        latent = latent.float()
        with torch.no_grad():
            entries = self.embedding.weight.float()
            nearest = entries[self.indices(latent)].permute(0, 3, 1, 2)
        # The difference is zero but passes the gradient, and propagates values that are not finite.
        return nearest + (latent - latent.detach())

    def indices(self, latent: Tensor) -> Tensor:
        """Return the indices int64 (B, h, w) of the nearest entries to latents (B, dim, h, w), the first in a tie."""
        return nearest_entries(latent, self.embedding.weight)


@torch.no_grad()
def nearest_entries(latent: Tensor, entries: Tensor) -> Tensor:
    """Return the indices int64 (B, h, w) of the nearest entries (Euclidean), the first in a tie.

    Distances are always computed in float32, under autocast too, and are never all in memory at once.

    Args:
        latent: latents (B, dim, h, w).
        entries: entries (N, dim) of a codebook.
    """
    entries = entries.float()
    vectors = latent.float().permute(0, 2, 3, 1).flatten(0, 2)
    if torch.compiler.is_exporting():  # the number of vectors is a symbol, and ONNX has no cdist
        pairs = zip(vectors.unbind(1), entries.unbind(1), strict=True)
        squared = torch.stack([(x[:, None] - entry).square() for x, entry in pairs]).sum(0)
        return squared.argmin(1).view(latent.shape[0], *latent.shape[2:])
    with torch.autocast(latent.device.type, enabled=False):
        parts = [
            # Squared differences are summed directly: a matrix product could not tell close entries apart.
            torch.cdist(part, entries, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
            for part in vectors.split(max(1, DISTANCES // len(entries)))
        ]
    return torch.cat(parts).view(latent.shape[0], *latent.shape[2:])
