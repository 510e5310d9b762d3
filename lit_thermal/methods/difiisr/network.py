"""DifIISR's network: a denoiser of latents between a first stage's encoder and decoder (the paper's Fig. 2)."""

from collections.abc import Callable
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.blocks.diffusion_condition import DiffusionCondition
from lit_thermal.errors import InputError
from lit_thermal.generative.schedule import Prediction, Schedule
from lit_thermal.networks.first_stage import FirstStage
from lit_thermal.networks.swin_unet import SwinUNet


class Given(NamedTuple):
    """Known inputs of a batch, before anything is restored."""

    lr: Tensor
    """(B, 1, h, w) inputs in [-1, 1]."""
    y: Tensor
    """(B, C, H', W') latent of the enlarged input, around which the diffusion starts."""
    condition: Tensor
    """(B, K, H', W') condition of the denoiser, in addition to the noisy latent."""


class DifIISRNetwork(nn.Module):
    """Estimate a clean latent from a noisy one and the low-resolution image.

    Args:
        scale: how many times wider and higher the restored image is; `scale` times the sides of an input must be
            multiples of the first stage's factor.
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
        if prediction not in get_args(Prediction):
            raise InputError(f"model.prediction is {prediction!r}; must be one of {', '.join(get_args(Prediction))}")
        self.scale, self.schedule, self.prediction = scale, schedule, prediction
        self.first_stage, self.condition = first_stage(), condition()
        self.unet = unet(self.first_stage.channels, self.condition.channels)

    def look(self, lr: Tensor) -> Given:
        """Prepare a batch lr (B, 1, h, w) in [-1, 1].

        The input is enlarged by PyTorch's bicubic (a = -0.75, no antialiasing, not clipped), as released.
        """
        large = F.interpolate(lr, scale_factor=float(self.scale), mode="bicubic", align_corners=False)
        return self.look_again(lr, self.first_stage.encode(large))

    def look_again(self, lr: Tensor, y: Tensor) -> Given:
        """Prepare a batch whose enlarged inputs have the known latent y, for example from the same first stage."""
        return Given(lr, y, self.condition(lr, (y.shape[-2], y.shape[-1])))

    def forward(self, x: Tensor, t: Tensor, given: Given) -> Tensor:
        """Return the denoiser's raw output, the quantity named by `prediction`, for a noisy latent x (B, C, H', W').

        Args:
            x: state of the chain, not scaled.
            t: (B,) index of the schedule.
            given: prepared batch from `look`.
        """
        return self.unet(self.schedule.scale_input(x, t), t, given.condition).float()

    def clean(self, output: Tensor, x: Tensor, t: Tensor, given: Given) -> Tensor:
        """Convert an output to the clean latent, without clipping, which would stop the gradient of losses on it."""
        return self.schedule.clean(output, x, given.y, t, self.prediction)

    def clip(self, estimate: Tensor) -> Tensor:
        """Clip a clean latent to [-1, 1] if latents are made of pixels; otherwise return it unchanged."""
        return estimate.clamp(-1, 1) if self.first_stage.bounded else estimate

    def estimate(self, x: Tensor, t: Tensor, given: Given) -> Tensor:
        """Estimate the clean latent (B, C, H', W') of a noisy one, clipped as by `clip`."""
        return self.clip(self.clean(self(x, t, given), x, t, given))

    def image(self, latent: Tensor) -> Tensor:
        """Decode a latent to (B, 1, H, W), black at -1 and white at 1, not clipped; differentiable."""
        return self.first_stage.decode(latent)


def steps_of(count: int, index: int, device: torch.device) -> Tensor:
    """Return the same index of the schedule for each of `count` images."""
    return torch.full((count,), index, dtype=torch.long, device=device)
