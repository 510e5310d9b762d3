"""3M-TI's network: one step of a latent diffusion model over all views of a scene (paper section 3, Fig. 3)."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext

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

TRAINING_STEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012
"""Of Stable Diffusion's schedule, whose square roots grow linearly."""


class ThreeMTINetwork(nn.Module):
    """Encodes every view, denoises all latents together in one step, decodes them.

    No noise is added: the degraded latent z is taken for a state of the diffusion at a fixed timestep, from which the
    clean one is ``(z - sqrt(1 - a) noise(z)) / sqrt(a)`` in closed form, with a the cumulated alpha of that step
    (0.7552 at 199).

    Args:
        base: makes the UNet and the autoencoder.
        attention: how views exchange in the UNet.
        skip: makes the skips of the thermal view from the widths of encoder and decoder.
        latent: mean of the autoencoder's posterior, or a sample of it.
        timestep: from 0 to 999.
        train: which weights are trained (`low_rank.trainable`); all: no LoRA is added.
        unet_rank: of LoRA in the UNet.
        vae_rank: of LoRA in the decoder.

    Raises:
        InputError: a number is out of range, weights cannot be had, or random ones would be frozen.
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
    ) -> None:
        super().__init__()
        if not 0 <= timestep < TRAINING_STEPS:
            raise InputError(f"model.timestep is {timestep} and must lie from 0 to {TRAINING_STEPS - 1}")
        if train != "all" and not base.has_files:
            raise InputError(
                f"model.train is {train!r}, whose checkpoints leave out what is not trained, and the random weights of "
                f"{type(base).__name__} could be had from nowhere else: give SDTurbo by model.base, or set model.train "
                "to all"
            )
        # What is not trained is in no checkpoint, and has to come from its own files each time.
        with with_pretrained() if train != "all" else nullcontext():
            unet, vae = base.build()
        self.unet = unet
        self.autoencoder = ViewAutoencoder(vae, skip, latent)
        if train != "all":
            add_lora(unet, self.autoencoder, unet_rank, vae_rank)
        trainable(unet, self.autoencoder, train)
        self.views = Views()
        self.exchange = attention.install(unet, self.views)
        self.timestep = timestep
        self.multiple = self.autoencoder.factor * 2 ** (len(unet.config["block_out_channels"]) - 1)
        """Sides are filled up to multiples of it."""
        roots = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAINING_STEPS, dtype=torch.float64)
        self.alpha = float((1 - roots.square()).cumprod(0)[timestep])

    def forward(
        self,
        images: Tensor,
        present: Tensor,
        prompt: Tensor,
        noise: Callable[[Tensor], Tensor] = torch.randn_like,
        thermal_only: bool = False,
    ) -> Tensor:
        """Restore all views.

        Args:
            images: (B, V, 3, H, W) in [-1, 1], the thermal view first.
            present: (B, V) bool; the thermal view always is.
            prompt: (B, L, D) text embeddings.
            noise: gives the noise of a sampled latent, like a tensor.
            thermal_only: decode the thermal view alone.

        Returns:
            (B, V, 3, H, W), or (B, 1, 3, H, W) of the thermal view alone; nominally in [-1, 1], not clamped.
        """
        count, (height, width) = images.shape[1], images.shape[-2:]
        flat = images.flatten(0, 1)
        down, right = -height % self.multiple, -width % self.multiple
        if down or right:
            flat = F.pad(flat, (0, right, 0, down), mode="replicate")
        self.views.set(count, present)
        z, taps = self.autoencoder.encode(flat, self.views, noise)
        steps = torch.full((len(flat),), self.timestep, device=flat.device)
        # Embeddings are float32 whatever the weights are.
        text = prompt.to(z).repeat_interleave(count, 0)
        predicted = self.unet(z, steps, encoder_hidden_states=text).sample.to(z)
        clean = (z - math.sqrt(1 - self.alpha) * predicted) / math.sqrt(self.alpha)
        restored = self.autoencoder.decode(clean, taps, self.views, thermal_only)[..., :height, :width]
        return restored.unflatten(0, (len(images), -1))
