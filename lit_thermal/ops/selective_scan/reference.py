"""The selective scan as a plain loop: the reference for the other back ends, and the only one for export.

An export records one loop of any length instead of a copy of the step for each token.

The formulas and the memory layout are those of state-spaces/mamba (`selective_scan_ref`), with two differences. The
loop runs in the dtype of its input, so that gradients can be checked in float64. Tensors are unbound once along time,
because indexing inside the loop makes autograd write a full-size zero gradient at every step (quadratic time).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def step_size(delta: Tensor, delta_bias: Tensor | None, delta_softplus: bool) -> Tensor:
    """Return the step size (batch, D, L) from its raw value: add the bias (D,), then softplus (linear above 20)."""
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    return F.softplus(delta) if delta_softplus else delta


def skip_and_gate(y: Tensor, u: Tensor, D: Tensor | None, z: Tensor | None) -> Tensor:
    """Return ``(y + D u) SiLU(z)``, which follows the recurrence; y, u, z are (batch, D, L), D is (D,)."""
    if D is not None:
        y = y + u * D[:, None]
    return y if z is None else y * F.silu(z)


def groups_of(B: Tensor, C: Tensor) -> int:
    """Return the number of channel groups G: that of a weight that varies over time, or 1 if both are constant."""
    return next((weight.shape[1] for weight in (B, C) if weight.dim() == 4), 1)


def by_group(weight: Tensor, groups: int) -> Tensor:
    """Return B or C as a view that broadcasts against states (batch, G, D/G, L, N).

    Args:
        weight: matrix B or C, (D, N), constant in time, or (batch, G, N, L).
        groups: number of groups G.
    """
    if weight.dim() == 2:
        return weight.unflatten(0, (groups, -1))[None, :, :, None]
    return weight.transpose(2, 3)[:, :, None]


def scan_reference(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Scan (batch, D, L) step by step; B and C are (D, N) or (batch, G, N, L), and all arguments have the same dtype.

    Several tensors of batch * D * L * N elements are in memory at a time.

    Returns:
        Output (batch, D, L) and last state (batch, D, N).
    """
    groups, length = groups_of(B, C), u.shape[2]
    step = step_size(delta, delta_bias, delta_softplus)
    grouped = step.unflatten(1, (groups, -1))[..., None]
    decay = torch.exp(grouped * A.unflatten(0, (groups, -1))[:, :, None])
    drive = grouped * u.unflatten(1, (groups, -1))[..., None] * by_group(B, groups)
    readout = by_group(C, groups)
    state = torch.zeros_like(decay[:, :, :, 0], memory_format=torch.contiguous_format)
    if torch.compiler.is_exporting():
        state, traced = _traced(state, decay, drive, readout.expand(-1, -1, decay.shape[2], length, -1))
        return skip_and_gate(traced.flatten(1, 2), u, D, z), state.flatten(1, 2)
    outputs = []
    for a, x, c in zip(decay.unbind(3), drive.unbind(3), readout.expand(-1, -1, -1, length, -1).unbind(3), strict=True):
        state = a * state + x
        outputs.append((state * c).sum(-1))
    y = torch.stack(outputs, dim=3).flatten(1, 2)
    return skip_and_gate(y, u, D, z), state.flatten(1, 2)


def _traced(state: Tensor, decay: Tensor, drive: Tensor, readout: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last state and the outputs (batch, G, D/G, L) of one loop operator, for (batch, G, D/G, L, N)."""
    from torch._higher_order_ops import scan

    def step(before: Tensor, now: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        a, x, c = now
        after = a * before + x
        return after, (after * c).sum(-1)

    # the loop runs over the first axis
    last, outputs = scan(step, state, tuple(x.movedim(3, 0) for x in (decay, drive, readout)))
    return last, outputs.movedim(0, 3)
