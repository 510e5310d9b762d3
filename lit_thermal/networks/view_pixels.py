"""Pixels instead of latents: a first stage for batches of views that loses nothing, and a norm for networks on it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.cross_modal_attention import Views
from lit_thermal.errors import InputError


class ViewPixels(nn.Module):
    """Rearranges views (B*V, 3, H, W) to smaller ones with more channels, and back.

    It has the interface of `ViewAutoencoder` and no parameters. There are no taps and no skips, so that nothing can go
    around the network between both.

    Args:
        unshuffle: side of the pixel blocks that become channels.
    """

    def __init__(self, unshuffle: int) -> None:
        super().__init__()
        self.factor = unshuffle

    def encode(
        self, x: Tensor, views: Views, noise: Callable[[Tensor], Tensor] = torch.randn_like
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the rearranged views (B*V, 3 factor^2, H / factor, W / factor), absent ones zero, and no taps.

        Raises:
            InputError: a side is not a multiple of `factor`.
        """
        height, width = x.shape[-2:]
        if height % self.factor or width % self.factor:
            raise InputError(
                f"an image of {height}x{width} pixels cannot be rearranged: its sides must be multiples of "
                f"{self.factor}; crop or pad it"
            )
        return F.pixel_unshuffle(views.clear(x), self.factor), []

    def decode(self, latent: Tensor, taps: Sequence[Tensor], views: Views, thermal_only: bool = False) -> Tensor:
        """Return images (B*V, 3, H, W), nominally in [-1, 1] and not clamped; or only the thermal ones (B, 3, H, W)."""
        return F.pixel_shuffle(latent[:: views.count] if thermal_only else latent, self.factor)


class PixelNorm(nn.LayerNorm):
    """Layer normalisation of the channels of each pixel of (B, dim, H, W).

    Args:
        dim: number of channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=1e-3)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, dim, H, W), keeping its shape."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)
