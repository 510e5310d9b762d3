"""THERIS as a LightningModule."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_thermal.batch import Batch, need
from lit_thermal.blocks.scan_order import Hilbert, ScanOrder, SpatialFirst, TemporalFirst
from lit_thermal.blocks.spectral_mask import SpectralMask, ZeroPhaseMask
from lit_thermal.blocks.state_space import PromptFactory, StateSpace
from lit_thermal.blocks.temporal_interpolation import TemporalInterpolation, ThermalDiffusionInterpolation
from lit_thermal.blocks.thermal_prompt import ThermalPrompt
from lit_thermal.errors import InputError, check_choice
from lit_thermal.losses.gradient_ratio import Weighting, gradient_ratio
from lit_thermal.losses.heat_equation import HeatEquationLoss, HeatLoss
from lit_thermal.losses.pixel import MeanAbsoluteError, PixelLoss
from lit_thermal.methods.base import SchedulerCallable, SuperResolver
from lit_thermal.methods.theris.network import MixerFactory, THERISNetwork

InterpolationFactory = Callable[[int, int], TemporalInterpolation]
MaskFactory = Callable[[int], SpectralMask]
NetworkFactory = Callable[
    [int, InterpolationFactory, Sequence[ScanOrder], MaskFactory, PromptFactory, MixerFactory], THERISNetwork
]


class THERIS(SuperResolver):
    """Infrared space-time video super-resolution with heat-conduction priors (THERIS, CVPR 2026).

    Features of the input frames are interpolated in time by thermal diffusion (TDIM), refined by thermal state space
    blocks (TSSM: spectral mask, scans in three orders with a thermal prompt), and decoded to `scale` times the size.
    The loss is ``L_pixel + heat_weight * L_TFM``. No code and no sizes are published; choices that the paper leaves
    open are documented in the blocks.

    Args:
        scale: spatial scale, a power of two.
        temporal_scales: output steps per input frame that the model is trained for. With several, the data must
            come at their least common multiple, and each training step draws one of them.
        window: number of input frames that inference processes at a time (the paper's k + 1).
        network: encoder, state space blocks and decoder of these sizes; the blocks below are passed to it.
        interpolation: temporal interpolation of the features.
        scans: scan orders of each block, applied in sequence; an empty list leaves the scans out.
        mask: spectral mask of each block.
        prompt: prompt of each scan's read-out.
        mixer: sub-block that reads the tokens in the order of a scan.
        pixel_loss: pixel-wise distance to the target.
        heat_loss: heat-equation residual of the output.
        heat_weight: weight of `heat_loss` (lambda); 0 disables it.
        heat_weighting: meaning of `heat_weight`. "constant" multiplies the loss by it. "gradient_ratio" scales the loss
            at each step so that its gradient with respect to the output is this share of the pixel loss's.
        heat_ramp: share of the training over which the weight rises linearly from 0; no ramp if the number of steps is
            unknown.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning-rate schedule, stepped once per optimizer step.
    """

    restores_clips = True

    def __init__(
        self,
        scale: int = 4,
        temporal_scales: tuple[int, ...] = (2,),
        window: int = 4,
        network: NetworkFactory = THERISNetwork,
        interpolation: InterpolationFactory = ThermalDiffusionInterpolation,
        scans: Sequence[Callable[[], ScanOrder]] = (SpatialFirst, TemporalFirst, Hilbert),
        mask: MaskFactory = ZeroPhaseMask,
        prompt: PromptFactory = ThermalPrompt,
        mixer: MixerFactory = StateSpace,
        pixel_loss: Callable[[], PixelLoss] = MeanAbsoluteError,
        heat_loss: Callable[[], HeatLoss] = HeatEquationLoss,
        heat_weight: float = 0.1,
        heat_weighting: Weighting = "constant",
        heat_ramp: float = 0.02,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: SchedulerCallable | None = None,
    ) -> None:
        super().__init__(scale, optimizer, lr_scheduler)
        if not temporal_scales or min(temporal_scales) < 1:
            raise InputError(f"temporal_scales must be positive whole numbers, not {temporal_scales}")
        check_choice(heat_weighting, Weighting, "model.heat_weighting")
        self.temporal_scales = tuple(temporal_scales)
        self.window = window
        self.network = network(scale, interpolation, [order() for order in scans], mask, prompt, mixer)
        self.pixel_loss = pixel_loss()
        self.heat_loss = heat_loss()
        self.heat_weight = heat_weight
        self.heat_weighting: Weighting = heat_weighting
        self.heat_ramp = heat_ramp
        if heat_weight == 0:
            self.heat_loss.requires_grad_(False)

    def setup(self, stage: str) -> None:
        """Check that the model is, or is to be, trained for the temporal scale of the data.

        Raises:
            InputError: it is not.
        """
        super().setup(stage)
        given = getattr(self.trainer.datamodule, "temporal_scale", None)  # type: ignore[attr-defined]
        common = math.lcm(*self.temporal_scales)
        if given is None or given == common or (stage != "fit" and given in self.temporal_scales):
            return
        trained = " and ".join(map(str, self.temporal_scales))
        wanted = str(common) if stage == "fit" else " or ".join(map(str, {*self.temporal_scales, common}))
        raise InputError(
            f"the model is for temporal scale {trained} and the data has {given}: set data.temporal_scale to {wanted}, "
            f"or, to use the model at {given} all the same, model.temporal_scales to [{given}]"
        )

    def restore(self, batch: Batch) -> Tensor:
        """Restore the frames at `hr_time` from the frames in `lr`: (B, T', 1, H, W) in [0, 1]."""
        need(batch, "lr", "hr_time", by="THERIS")
        tau = common_times(batch)
        scale = temporal_scale(tau, self.temporal_scales[0], batch["lr"].shape[1])
        return self.network(batch["lr"], tau, scale).clamp(0, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the pixel loss and heat-equation loss of one batch."""
        need(batch, "lr", "hr", "hr_time", by="THERIS")
        tau = common_times(batch)
        finest = temporal_scale(tau, self.temporal_scales[0], batch["lr"].shape[1])
        scales = self.temporal_scales
        scale = scales[0] if len(scales) == 1 else scales[int(torch.randint(len(scales), ()))]
        if finest % scale:
            raise InputError(
                f"the data has {finest} steps per input frame, which temporal_scales {list(self.temporal_scales)} "
                f"does not divide; set data.temporal_scale to their least common multiple"
            )
        keep = slice(None, None, finest // scale)
        target = batch["hr"][:, keep]
        restored = self.network(batch["lr"], tau[keep], scale)

        pixel = self.pixel_loss(restored, target)
        self.log("train/pixel", pixel, prog_bar=True)
        if self.heat_weight == 0:
            return pixel
        heat = self.heat_loss(restored, target, scale)
        self.log("train/heat", heat)
        self.log("train/diffusivity", self.heat_loss.diffusivity)
        weight: Tensor | float = self._heat_weight_now()
        if self.heat_weighting == "gradient_ratio":
            weight = weight * gradient_ratio(pixel, heat, restored)
            self.log("train/heat_weight", weight)
        return pixel + weight * heat

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Group the parameters: no weight decay for decays and skips of the scans; the diffusivity has its own rate."""
        undecayed = self.network.undecayed()
        special = {id(p) for p in undecayed}
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.network.parameters() if id(p) not in special]},
            {"params": undecayed, "weight_decay": 0.0},
            {
                "params": [p for p in self.heat_loss.parameters() if p.requires_grad],
                "weight_decay": 0.0,
                "lr_scale": self.heat_loss.lr_scale,
            },
        ]
        return [group for group in groups if group["params"]]

    def _heat_weight_now(self) -> float:
        return self.heat_weight * self.warm_up(self.heat_ramp)


def common_times(batch: Batch) -> Tensor:
    """Return the output times (T',) that all clips of a batch share, counted from the first input frame.

    In training and tests times lie on the CPU. On another device they are not checked, because reading them would wait.

    Raises:
        InputError: the clips have different times, or the input frames are not at 0, 1, 2, ..., which the cosine form
            of the interpolation requires.
    """
    hr_time = batch["hr_time"]
    if hr_time.device.type != "cpu":
        return hr_time[0]
    if not torch.allclose(hr_time, hr_time[:1].expand_as(hr_time), atol=1e-6):
        raise InputError("the clips of one batch differ in hr_time; THERIS restores all at the same times")
    lr_time = batch.get("lr_time")
    if lr_time is not None and lr_time.device.type == "cpu":
        uniform = torch.arange(lr_time.shape[1], dtype=lr_time.dtype)
        if not torch.allclose(lr_time, uniform.expand_as(lr_time), atol=1e-3):
            wrong = next(times for times in lr_time.tolist() if times != uniform.tolist())
            raise InputError(f"THERIS needs input frames at the times 0, 1, 2, ..., and lr_time is {wrong}")
    return hr_time[0]


def temporal_scale(tau: Tensor, default: int, frames: int = 1) -> int:
    """Return the output steps per input frame from the spacing of times (T',); `default` if there is only one time.

    Times that do not lie on the CPU are taken to divide the time between `frames` input frames evenly.
    """
    if tau.device.type != "cpu":
        return max(1, (len(tau) - 1) // (frames - 1)) if frames > 1 else default
    steps = tau.sort().values.diff()
    steps = steps[steps > 0]
    return max(1, round(1 / float(steps.min()))) if len(steps) else default
