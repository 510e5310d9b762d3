"""The loss that penalises a restored thermal video for violating the heat equation."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.ops.heat_equation import edge_weight, heat_residual


class HeatEquationLoss(nn.Module):
    """TFM of THERIS: the edge-weighted residual of ``du/dt = D lap(u)`` in a restored sequence.

    ``mean(w |(P[t+1] - P[t-1]) / (2 dt) - D lap(P[t])|^p)`` over interior frames, with
    ``w = exp(-alpha |grad GT|^2)``. The time step is ``dt = 2 / s`` at temporal scale s, so D is in squared HR pixels
    per output step at s = 2. The paper specifies residual, weight and learnable D; p, dt, the zero-flux border and the
    default values are ours.

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
        super().__init__()
        if diffusivity <= least_diffusivity or least_diffusivity < 0:
            raise InputError(f"diffusivity ({diffusivity}) must be above least_diffusivity ({least_diffusivity}) >= 0")
        if power not in (1, 2):
            raise InputError(f"power must be 1 or 2, not {power}")
        self.alpha = alpha
        self.power = power
        self.least_diffusivity = least_diffusivity
        self.lr_scale = lr_scale
        raw = torch.tensor(math.log(math.expm1(diffusivity - least_diffusivity)))
        self.raw_diffusivity = nn.Parameter(raw, requires_grad=learnable)

    @property
    def diffusivity(self) -> Tensor:
        """Diffusivity D > 0, a scalar."""
        return self.least_diffusivity + F.softplus(self.raw_diffusivity)

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
            residual = heat_residual(video, self.diffusivity, dt=2 / temporal_scale)
            weight = edge_weight(truth[:, 1:-1], self.alpha)
            return (weight * residual.abs().pow(self.power)).mean()
