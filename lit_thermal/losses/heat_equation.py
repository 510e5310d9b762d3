"""Losses that penalise a restored thermal video for violating the heat equation."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.ops.heat_equation import edge_weight, heat_residual, laplacian


class HeatLoss(nn.Module, ABC):
    """Base of the heat losses, which weigh the residual of ``du/dt = D lap(u)`` in the interior frames of a sequence.

    The weight is ``w = exp(-alpha |grad GT|^2)``, so that edges of the target count less. The time step is
    ``dt = 2 / s`` at temporal scale s, so D is in squared HR pixels per output step at s = 2.

    Args:
        alpha: strength of the edge weight, for values in [0, 1].
        power: exponent p of the residual, 1 or 2.
        lr_scale: learning rate of the loss's own parameters relative to the network's.
    """

    def __init__(self, alpha: float, power: int, lr_scale: float) -> None:
        super().__init__()
        if power not in (1, 2):
            raise InputError(f"power must be 1 or 2, not {power}")
        self.alpha = alpha
        self.power = power
        self.lr_scale = lr_scale

    @property
    @abstractmethod
    def diffusivity(self) -> Tensor:
        """Diffusivity D, a scalar."""

    @abstractmethod
    def penalty(self, video: Tensor, truth: Tensor, weight: Tensor, dt: float) -> Tensor:
        """Return the scalar loss of restored and true frames (B, T, C, H, W), T >= 3.

        `weight` (B, T - 2, C, H, W) is the edge weight and `dt` the time between frames.
        """

    def forward(self, restored: Tensor, target: Tensor, temporal_scale: int) -> Tensor:
        """Return the scalar loss of restored and true frames (B, T, C, H, W).

        `temporal_scale` is the number of output steps per input frame. For fewer than three frames the loss is zero and
        has no gradient. It is computed in float32 at least.
        """
        if restored.shape[1] < 3:
            return restored.new_zeros(())
        with torch.autocast(restored.device.type, enabled=False):
            precise = torch.promote_types(restored.dtype, torch.float32)
            video, truth = restored.to(precise), target.detach().to(precise)
            return self.penalty(video, truth, edge_weight(truth[:, 1:-1], self.alpha), 2 / temporal_scale)


class HeatEquationLoss(HeatLoss):
    """TFM of THERIS: the edge-weighted residual of ``du/dt = D lap(u)`` in a restored sequence.

    ``mean(w |(P[t+1] - P[t-1]) / (2 dt) - D lap(P[t])|^p)`` over interior frames. The paper specifies residual, weight
    and learnable D; p, dt, the zero-flux border and the default values are ours.

    Where the prior holds: in the simulator's scenario `conduction`, a least-squares D of each clip explains 92 % of the
    squared change in time (median of 24 clips; 63 to 97 %), and one D for all clips 82 %. Where it does not: in
    `standard`, where objects and the camera move, it explains 0.00 % in the median and 0.2 % at most.

    What it is worth: at weight 1, its gradient with respect to the output is 0.3 % of the pixel loss's in `conduction`
    and 2.5 % in `standard` (medians over a training), so that the default weight 0.1 hardly matters. `heat_weighting`
    of THERIS sets its share of the gradient; a share of 0.1 lowered PSNR by 0.11 +- 0.06 dB in `conduction`, from 41.51
    dB without the loss, and by 0.07 +- 0.05 dB in `standard`, from 32.84 dB. These are single trainings (small THERIS
    without scans, 400 steps of 4 crops); the intervals are those of 16 test clips, not of seeds.

    For a moving edge the best D is 0. D can drift towards it, and the loss then penalises any change over time: watch
    the logged D, set `least_diffusivity`, or fix D.

    Args:
        diffusivity: initial value of D; 0.25 is the stability bound of an explicit scheme.
        alpha: strength of the edge weight, for values in [0, 1].
        power: exponent p of the residual, 1 or 2.
        learnable: train D (as Softplus of a parameter, so that it stays positive).
        least_diffusivity: lower bound of D, at least 0.
        lr_scale: learning rate of D relative to the network's.
    """

    def __init__(
        self,
        diffusivity: float = 0.1,
        alpha: float = 100.0,
        power: int = 2,
        learnable: bool = True,
        least_diffusivity: float = 0.0,
        lr_scale: float = 0.1,
    ) -> None:
        super().__init__(alpha, power, lr_scale)
        if diffusivity <= least_diffusivity or least_diffusivity < 0:
            raise InputError(f"diffusivity ({diffusivity}) must be above least_diffusivity ({least_diffusivity}) >= 0")
        self.least_diffusivity = least_diffusivity
        raw = torch.tensor(math.log(math.expm1(diffusivity - least_diffusivity)))
        self.raw_diffusivity = nn.Parameter(raw, requires_grad=learnable)

    @property
    def diffusivity(self) -> Tensor:
        """Diffusivity D > 0, a scalar."""
        return self.least_diffusivity + F.softplus(self.raw_diffusivity)

    def penalty(self, video: Tensor, truth: Tensor, weight: Tensor, dt: float) -> Tensor:
        """Return the mean of the weighted residual of the restored frames."""
        return (weight * heat_residual(video, self.diffusivity, dt).abs().pow(self.power)).mean()


class ExcessHeatEquationLoss(HeatLoss):
    """TFM on the residual in excess of the target's: ``mean(w max(|r(P)| - |r(GT)|, 0)^p)`` over interior frames.

    It is zero for the target itself, whatever moves in it, and penalises a restored sequence only where it violates
    the heat equation more than the target does. D is not learned: that of each clip is the weighted least-squares fit
    to its target, 0 at least.

    No gain was found: with a gradient of 0.1 of the pixel loss's, PSNR changed by +0.01 +- 0.07 dB in `conduction` and
    by -0.02 +- 0.03 dB in `standard`, in the same setting as the figures of `HeatEquationLoss`. Even without the loss,
    the trained network's residual in `conduction` was below the target's (3.2e-6 and 4.0e-6 at D = 0.21, both rounded
    to 8 bits), and more than half of the target's own is sensor noise.

    Args:
        alpha: strength of the edge weight, for values in [0, 1].
        power: exponent p of the excess, 1 or 2.
    """

    def __init__(self, alpha: float = 100.0, power: int = 2) -> None:
        super().__init__(alpha, power, lr_scale=1.0)
        self.register_buffer("_diffusivity", torch.zeros(()), persistent=False)

    @property
    def diffusivity(self) -> Tensor:
        """Mean diffusivity of the clips that the loss was last computed for."""
        return self._diffusivity

    def penalty(self, video: Tensor, truth: Tensor, weight: Tensor, dt: float) -> Tensor:
        """Return the mean of the weighted excess of the restored frames' residual over the target's."""
        fitted = fit_diffusivity(truth, weight, dt)
        self._diffusivity = fitted.mean()
        restored, allowed = (heat_residual(frames, fitted, dt).abs() for frames in (video, truth))
        return (weight * (restored - allowed).clamp(min=0).pow(self.power)).mean()


def fit_diffusivity(video: Tensor, weight: Tensor, dt: float) -> Tensor:
    """Return the diffusivity (B, 1, 1, 1, 1), at least 0, that explains most of the change in time of each clip.

    It is the weighted least-squares fit of the change from the frame before to the frame after to the Laplacian.

    Args:
        video: frames (B, T, C, H, W), T >= 3.
        weight: weight (B, T - 2, C, H, W) of each pixel of the interior frames.
        dt: time between frames.
    """
    change, lap = (video[:, 2:] - video[:, :-2]) / (2 * dt), laplacian(video[:, 1:-1])
    every = (1, 2, 3, 4)
    power = (weight * lap.square()).sum(every, keepdim=True)
    tiny = torch.finfo(power.dtype).tiny
    return ((weight * change * lap).sum(every, keepdim=True) / power.clamp(min=tiny)).clamp(min=0)
