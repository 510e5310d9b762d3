"""The autoencoder of latent diffusion for batches of views, with skips from its encoder to its decoder."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lit_thermal.blocks.cross_modal_attention import Views
from lit_thermal.blocks.skip_connection import SkipConnection, ZeroSkip
from lit_thermal.errors import InputError

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

Latent = Literal["mean", "sample"]


class ViewAutoencoder(nn.Module):
    """Encodes views (B*V, 3, H, W), view index fastest, to latents and decodes them; the thermal view 0 gets the skips.

    Each image is mapped independently. The layers are those of diffusers' autoencoder, whose switch for gradient
    checkpointing applies here too. The state consists of `vae`, with the names of diffusers, and `skip`, which is below
    `decoder` in the released 3M-TI (`decoder.skip_conv_1`...).

    Args:
        vae: autoencoder from diffusers, which is only changed by training.
        skip: factory that makes the skip connections from the encoder's and the decoder's widths.
        latent: "mean" of the posterior, or a "sample" of it (as in the released 3M-TI).
    """

    def __init__(
        self,
        vae: "AutoencoderKL",
        skip: Callable[[Sequence[int], Sequence[int]], SkipConnection] = ZeroSkip,
        latent: Latent = "mean",
    ) -> None:
        super().__init__()
        config = cast("Any", vae.config)
        widths = list(config.block_out_channels)
        self.vae = vae
        self.skip = skip([widths[0], *widths[:-1]], [widths[-1], *widths[:0:-1]])
        self.latent = latent
        self.factor = 2 ** (len(widths) - 1)
        self.scale = float(config.scaling_factor)

    def encode(
        self, x: Tensor, views: Views, noise: Callable[[Tensor], Tensor] = torch.randn_like
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the scaled latents and the taps of the thermal view.

        Args:
            x: views (B*V, 3, H, W) in [-1, 1]; the values of absent views are ignored.
            views: views of this batch.
            noise: function that returns unit Gaussian noise like a tensor (B*V, C, h, w), used if the latent is a
                sample.

        Returns:
            Latents (B*V, C, H / factor, W / factor), and the inputs (B, c, h, w) of the encoder's blocks, the finest
            first.

        Raises:
            InputError: a side is not a multiple of `factor`.
        """
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        height, width = x.shape[-2:]
        if height % self.factor or width % self.factor:
            raise InputError(
                f"an image of {height}x{width} pixels has no latent: the autoencoder needs sides that are multiples of "
                f"{self.factor}; crop or pad it"
            )
        encoder, taps = self.vae.encoder, []
        # Absent views are set to zero and not only masked later: gradients of NaN would reach the shared weights.
        features = encoder.conv_in(views.clear(x))
        for block in encoder.down_blocks:
            taps.append(features[:: views.count])
            features = _run(block, features, encoder.gradient_checkpointing)
        features = _run(encoder.mid_block, features, encoder.gradient_checkpointing)
        moments = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(features)))
        if self.vae.quant_conv is not None:
            moments = self.vae.quant_conv(moments)
        posterior = DiagonalGaussianDistribution(moments.to(x))
        latent = posterior.mean
        if self.latent == "sample":
            latent = latent + posterior.std * noise(latent)
        return latent * self.scale, taps

    def decode(self, latent: Tensor, taps: Sequence[Tensor], views: Views, thermal_only: bool = False) -> Tensor:
        """Return images (B*V, 3, H, W), nominally in [-1, 1] and not clamped; or only the thermal ones (B, 3, H, W).

        Args:
            latent: scaled latents (B*V, C, h, w).
            taps: inputs of the encoder's blocks for the thermal view, as returned by `encode`.
            views: views of this batch.
            thermal_only: decode only the thermal view, which is sufficient for inference.
        """
        count = views.count
        if thermal_only:
            latent, count = latent[::count], 1
        decoder, features = self.vae.decoder, latent / self.scale
        if self.vae.post_quant_conv is not None:
            features = self.vae.post_quant_conv(features)
        features = _run(decoder.mid_block, decoder.conv_in(features), decoder.gradient_checkpointing)
        for level, (block, tap) in enumerate(zip(decoder.up_blocks, reversed(taps), strict=True)):
            features = self._skip(level, features, tap, count)
            features = _run(block, features, decoder.gradient_checkpointing)
        return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(features))).to(latent)

    def _skip(self, level: int, features: Tensor, tap: Tensor, count: int) -> Tensor:
        thermal = self.skip(level, features[::count], tap)
        if count == 1:
            return thermal
        # Unlike a concatenation, a copy keeps the memory layout, on which the convolutions' order of summation depends.
        joined = features.clone()
        joined[::count] = thermal
        return joined


def _run(block: nn.Module, features: Tensor, checkpointing: bool) -> Tensor:
    if checkpointing and torch.is_grad_enabled():
        return cast("Tensor", checkpoint(block, features, use_reentrant=False))
    return block(features)
