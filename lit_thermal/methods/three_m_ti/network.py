"""3M-TI's network: one step of a latent diffusion model over all views of a scene (paper section 3, Fig. 3)."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.cross_modal_attention import CrossModalAttention, Views
from lit_thermal.blocks.low_rank import Train, add_lora, trainable
from lit_thermal.blocks.pretrained import with_pretrained
from lit_thermal.blocks.skip_connection import SkipConnection
from lit_thermal.errors import InputError
from lit_thermal.networks.latent_diffusion import LatentDiffusion
from lit_thermal.networks.view_autoencoder import Latent, ViewAutoencoder
from lit_thermal.networks.view_pixels import ViewPixels

Prediction = Literal["noise", "residual"]

TRAINING_STEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012
"""First and last beta of Stable Diffusion's schedule; the square roots of the betas grow linearly."""


class ThreeMTINetwork(nn.Module):
    """Encode every view, denoise all latents jointly in one step, and decode them.

    No noise is added: the degraded latent z is treated as a state of the diffusion at a fixed timestep, from which the
    clean latent is ``(z - sqrt(1 - a) noise(z)) / sqrt(a)`` in closed form, where a is the cumulative alpha of that
    step (0.7552 at 199). With `prediction: residual` the clean latent is z plus the output of the UNet instead.

    Args:
        base: UNet and autoencoder to start from.
        attention: block that exchanges information between the views in the UNet.
        skip: makes the skip connections of the thermal view from the widths of the encoder and the decoder.
        latent: mean of the autoencoder's posterior, or a sample of it.
        timestep: diffusion timestep that a degraded latent is assumed to be at, from 0 to 999.
        train: weights to train (`low_rank.trainable`); with `all`, no LoRA is added.
        unet_rank: rank of LoRA in the UNet.
        vae_rank: rank of LoRA in the decoder and the skips.
        prediction: output of the UNet, the `noise` of the closed form or the `residual` of the latent.

    Raises:
        InputError: a number is out of range, weights cannot be loaded, or random weights would be frozen.
    """

    def __init__(
        self,
        base: LatentDiffusion,
        attention: CrossModalAttention,
        skip: Callable[[Sequence[int], Sequence[int]], SkipConnection],
        latent: Latent = "mean",
        timestep: int = 199,
        train: Train = "lora",
        unet_rank: int = 16,
        vae_rank: int = 4,
        prediction: Prediction = "noise",
    ) -> None:
        super().__init__()
        if not 0 <= timestep < TRAINING_STEPS:
            raise InputError(f"model.timestep is {timestep} and must be from 0 to {TRAINING_STEPS - 1}")
        if train != "all" and not base.has_files:
            raise InputError(
                f"model.train is {train!r}, whose checkpoints omit frozen weights, and the random weights of "
                f"{type(base).__name__} could not be restored: give SDTurbo by model.base, or set model.train "
                "to all"
            )
        # Frozen weights are not in the checkpoint, so they are loaded from their own files each time.
        with with_pretrained() if train != "all" else nullcontext():
            unet, vae = base.build()
        self.unet = unet
        self.autoencoder = vae if isinstance(vae, ViewPixels) else ViewAutoencoder(vae, skip, latent)
        if train != "all":
            add_lora(unet, self.autoencoder, unet_rank, vae_rank)
        trainable(unet, self.autoencoder, train)
        self.views = Views()
        self.attention = attention
        self.exchange = attention.install(unet, self.views)
        self.timestep, self.prediction = timestep, prediction
        self.multiple = self.autoencoder.factor * 2 ** (len(unet.config["block_out_channels"]) - 1)
        """Image sides are padded to multiples of this."""
        roots = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAINING_STEPS, dtype=torch.float64)
        self.alpha = float((1 - roots.square()).cumprod(0)[timestep])

    def forward(
        self,
        images: Tensor,
        present: Tensor,
        prompt: Tensor,
        noise: Callable[[Tensor], Tensor] = torch.randn_like,
        thermal_only: bool = False,
        thermal: Tensor | None = None,
    ) -> Tensor:
        """Restore all views.

        Args:
            images: (B, V, 3, H, W) in [-1, 1], the thermal view first.
            present: (B, V) bool, which views are present; the thermal view always is.
            prompt: (B, L, D) text embeddings.
            noise: returns noise of the shape of a given tensor, for a sampled latent.
            thermal_only: decode only the thermal view.
            thermal: (B, 1, h, w) in [0, 1] at the resolution of the camera, for attentions that draw evidence from the
                images (`CrossModalAttention.evidence`).

        Returns:
            (B, V, 3, H, W), or (B, 1, 3, H, W) for the thermal view only; nominally in [-1, 1], not clamped.
        """
        height, width = images.shape[-2:]
        evidence = None
        if thermal is not None and images.shape[1] > 1:
            guides = ((images[:, 1:] + 1) / 2).masked_fill(~present[:, 1:, None, None, None], 0)
            enlarged = (images[:, 0].mean(1, keepdim=True) + 1) / 2
            evidence = self.attention.evidence(thermal, enlarged, guides, present[:, 1:])
        if thermal_only and not self.attention.reads_tokens:
            images, present = images[:, :1], present[:, :1]
        count = images.shape[1]
        flat = images.flatten(0, 1)
        down, right = -height % self.multiple, -width % self.multiple
        if down or right:
            flat = F.pad(flat, (0, right, 0, down), mode="replicate")
            evidence = None if evidence is None else F.pad(evidence, (0, right, 0, down))
        self.views.set(count, present)
        self.views.evidence = evidence
        z, taps = self.autoencoder.encode(flat, self.views, noise)
        steps = torch.full((len(flat),), self.timestep, device=flat.device)
        # The embeddings are float32, regardless of the precision of the weights.
        text = prompt.to(z).repeat_interleave(count, 0)
        predicted = self.unet(z, steps, encoder_hidden_states=text).sample.to(z)
        if self.prediction == "residual":
            clean = z + predicted
        else:
            clean = (z - math.sqrt(1 - self.alpha) * predicted) / math.sqrt(self.alpha)
        restored = self.autoencoder.decode(clean, taps, self.views, thermal_only)[..., :height, :width]
        return restored.unflatten(0, (len(images), -1))
