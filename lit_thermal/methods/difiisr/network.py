"""DifIISR's network: a denoiser of latents between a first stage's encoder and decoder (the paper's Fig. 2)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.diffusion_condition import DiffusionCondition
from lit_thermal.errors import check_choice
from lit_thermal.generative.schedule import Prediction, Schedule
from lit_thermal.networks.first_stage import FirstStage
from lit_thermal.networks.swin_unet import SwinUNet


class EncodedCondition(NamedTuple):
    """Inputs of a batch, encoded as the condition of the denoiser."""

    lr: Tensor
    """(B, 1, h, w) inputs in [-1, 1]."""
    y: Tensor
    """(B, C, H', W') latent of the enlarged input, around which the diffusion starts."""
    condition: Tensor
    """(B, K, H', W') condition of the denoiser, in addition to the noisy latent."""


class DifIISRNetwork(nn.Module):
    """Estimate a clean latent from a noisy one and the low-resolution image.

    Args:
        scale: factor by which the restored image is wider and higher than the input; `scale` times the sides of an
            input must be multiples of the first stage's factor.
        unet: makes the denoiser from the channels of the latent and of the condition.
        first_stage: makes the encoder and decoder of images.
        condition: makes the block that prepares the input as a condition for the denoiser.
        schedule: noise schedule.
        prediction: quantity that the denoiser outputs (`Prediction`).

    Raises:
        InputError: the prediction is unknown.
    """

    def __init__(
        self,
        scale: int,
        unet: Callable[[int, int], SwinUNet],
        first_stage: Callable[[], FirstStage],
        condition: Callable[[], DiffusionCondition],
        schedule: Schedule,
        prediction: Prediction,
    ) -> None:
        super().__init__()
        check_choice(prediction, Prediction, "model.prediction")
        self.scale, self.schedule, self.prediction = scale, schedule, prediction
        self.first_stage, self.condition = first_stage(), condition()
        self.unet = unet(self.first_stage.channels, self.condition.channels)

    def encode_condition(self, lr: Tensor) -> EncodedCondition:
        """Encode inputs lr (B, 1, h, w) in [-1, 1] as the condition of the denoiser.

        The input is enlarged by PyTorch's bicubic (a = -0.75, no antialiasing, not clipped), as released.
        """
        large = F.interpolate(lr, scale_factor=float(self.scale), mode="bicubic", align_corners=False)
        return self.condition_from_latent(lr, self.first_stage.encode(large))

    def condition_from_latent(self, lr: Tensor, y: Tensor) -> EncodedCondition:
        """Encode inputs, given the latent y of their enlarged images, for example from the same first stage."""
        return EncodedCondition(lr, y, self.condition(lr, (y.shape[-2], y.shape[-1])))

    def forward(self, x: Tensor, t: Tensor, encoded: EncodedCondition) -> Tensor:
        """Return the denoiser's raw output, the quantity named by `prediction`, for a noisy latent x (B, C, H', W').

        Args:
            x: state of the chain, not scaled.
            t: (B,) index of the schedule.
            encoded: prepared batch from `encode_condition`.
        """
        return self.unet(self.schedule.scale_input(x, t), t, encoded.condition).float()

    def clean(self, output: Tensor, x: Tensor, t: Tensor, encoded: EncodedCondition) -> Tensor:
        """Convert an output to the clean latent, without clipping, which would stop the gradient of losses on it."""
        return self.schedule.clean(output, x, encoded.y, t, self.prediction)

    def clip(self, estimate: Tensor) -> Tensor:
        """Clip a clean latent to [-1, 1] if the latent consists of pixels; otherwise return it unchanged."""
        return estimate.clamp(-1, 1) if self.first_stage.bounded else estimate

    def estimate(self, x: Tensor, t: Tensor, encoded: EncodedCondition) -> Tensor:
        """Estimate the clean latent (B, C, H', W') of a noisy one, clipped as by `clip`."""
        return self.clip(self.clean(self(x, t, encoded), x, t, encoded))

    def image(self, latent: Tensor) -> Tensor:
        """Decode a latent to (B, 1, H, W), black at -1 and white at 1, not clipped; differentiable."""
        return self.first_stage.decode(latent)


def steps_of(count: int, index: int, device: torch.device) -> Tensor:
    """Return the same index of the schedule for each of `count` images."""
    return torch.full((count,), index, dtype=torch.long, device=device)
