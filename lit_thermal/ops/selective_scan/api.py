"""`selective_scan`: one function, several back ends that give the same numbers."""

import contextlib
import logging
from collections.abc import Callable
from typing import Literal, overload

import torch
from torch import Tensor

from lit_thermal.errors import InputError

from .blocked import scan_blocked
from .build import KernelUnavailable, kernel
from .cpp import scan_cpp
from .mamba import scan_mamba, why_not_mamba
from .reference import scan_reference

_log = logging.getLogger(__name__)
_said: set[str] = set()

_SCANS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "mamba_ssm": scan_mamba,
    "cpp": scan_cpp,
    "torch": scan_blocked,
    "reference": scan_reference,
}
BACKENDS = ("auto", *_SCANS)
"""Names that `selective_scan` takes."""


@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: Literal[False] = False,
    backend: str = "auto",
) -> Tensor: ...
@overload
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    return_last_state: Literal[True],
    backend: str = "auto",
) -> tuple[Tensor, Tensor]: ...
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Selective state-space scan of Mamba (Gu and Dao 2023), with the semantics of state-spaces/mamba.

    With :math:`d = \mathrm{softplus}(\delta + bias)` per step (softplus and bias are optional) and
    :math:`h_{-1} = 0`, per channel and state n

    .. math:: h_t = e^{d_t A} h_{t-1} + d_t B_t u_t, \quad y_t = \sum_n C_t h_t + D u_t, \quad
        out_t = y_t\,\mathrm{SiLU}(z_t).

    It is computed in float32 (float64 if any argument is), also under autocast. Padding at the end with steps of size
    zero (after softplus) does not change the state. Keep A <= 0 and the step >= 0, so that no decay exceeds 1 and
    nothing can overflow.

    Back ends: ``mamba_ssm`` is that package's CUDA kernel; ``cpp`` is a kernel for the CPU that is compiled on
    first use and cached; ``torch`` runs on any device, in blocks along time; ``reference`` is the plain loop, slow and
    memory-hungry, and the only one that can be exported and differentiated twice. ``auto`` uses the first that is
    available (``reference`` during export) and logs its choice.

    Args:
        u: input (batch, D, L).
        delta: step size (batch, D, L), before bias and softplus.
        A: real state matrix (D, N).
        B: input matrix, (D, N) constant in time, or (batch, N, L), or (batch, G, N, L) with D divisible by G: channel d
            reads group ``d // (D / G)``.
        C: read-out matrix, with the shapes of `B`.
        D: skip weight (D,).
        z: gate (batch, D, L).
        delta_bias: bias (D,) of the step size.
        delta_softplus: pass the step through softplus.
        return_last_state: also return the state after the last step.
        backend: one of `BACKENDS`.

    Returns:
        Output (batch, D, L) in the dtype of `u`; with `return_last_state` also the last state (batch, D, N) in the
        dtype of the computation, through which no gradient flows (except in ``reference``).

    Raises:
        InputError: shapes, dtypes or devices do not fit, or the back end is unknown or cannot be used here.
    """
    weights = {"u": u, "delta": delta, "A": A, "B": B, "C": C}
    options = {"D": D, "z": z, "delta_bias": delta_bias}
    given = weights | {name: tensor for name, tensor in options.items() if tensor is not None}
    _check(given)
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in given.values()) else torch.float32
    scan = _SCANS[_choose(backend, u, A, dtype)]
    cast = {name: tensor.to(dtype) for name, tensor in given.items()}
    for name in "BC":
        if cast[name].dim() == 3:
            cast[name] = cast[name][:, None]
    with _no_autocast(u.device.type):
        out, last = scan(*(cast.get(name) for name in (*weights, *options)), delta_softplus)
    out = out.to(u.dtype)
    return (out, last) if return_last_state else out


def _choose(backend: str, u: Tensor, A: Tensor, dtype: torch.dtype) -> str:
    """Return the name of the back end to use for these tensors."""
    device = u.device.type
    if backend == "auto":
        if torch.compiler.is_exporting():
            return "reference"
        chosen = "torch"
        if device == "cuda":
            unfit = why_not_mamba(u, A, dtype)
            if unfit is None:
                chosen = "mamba_ssm"
            else:
                _say(logging.WARNING, f"selective scan: {unfit}, so the GPU uses the torch back end, which is slower")
        elif device == "cpu":
            try:
                kernel()
                chosen = "cpp"
            except KernelUnavailable as error:
                _say(
                    logging.WARNING,
                    f"selective scan: {error}, so the CPU uses the torch back end, which is several times slower",
                )
        _say(logging.INFO, f"selective scan on {device}: back end {chosen}")
        return chosen
    if backend not in _SCANS:
        raise InputError(f"selective_scan has no back end {backend!r}; it has {', '.join(BACKENDS)}")
    reason: str | None = None
    if backend == "mamba_ssm":
        reason = why_not_mamba(u, A, dtype)
    elif backend == "cpp":
        if device != "cpu":
            reason = f"it needs tensors on the CPU, not on {device}"
        else:
            try:
                kernel()
            except KernelUnavailable as error:
                reason = str(error)
    if reason:
        raise InputError(f"selective_scan cannot use back end {backend!r}: {reason}; 'auto' picks an available one")
    return backend


def _say(level: int, message: str) -> None:
    if message not in _said:
        _said.add(message)
        _log.log(level, message)


def _no_autocast(device: str) -> contextlib.AbstractContextManager[object]:
    """Return a context that disables autocast, because half precision overflows in the scan."""
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def _check(given: dict[str, Tensor]) -> None:
    """Check the shapes, dtypes and devices of the arguments.

    Raises:
        InputError: an argument does not fit; the message names it.
    """
    u, A = given["u"], given["A"]
    for name, tensor in given.items():
        if not tensor.is_floating_point():
            raise InputError(f"selective_scan: {name} is {tensor.dtype}; it must be a real floating dtype")
        if tensor.device != u.device:
            raise InputError(f"selective_scan: {name} is on {tensor.device}, u on {u.device}; move them to one device")
    if u.dim() != 3 or u.numel() == 0:
        raise InputError(f"selective_scan: u is {tuple(u.shape)}; it must be (batch, D, L) with no empty axis")
    batch, channels, length = u.shape
    if A.dim() != 2 or A.shape[0] != channels or A.shape[1] == 0:
        raise InputError(f"selective_scan: A is {tuple(A.shape)}; it must be (D, N) with D = {channels} as in u")
    for name, shape in {"delta": u.shape, "z": u.shape, "D": (channels,), "delta_bias": (channels,)}.items():
        if name in given and given[name].shape != shape:
            raise InputError(f"selective_scan: {name} is {tuple(given[name].shape)}; u asks for {tuple(shape)}")
    states, groups = A.shape[1], set()
    for name in "BC":
        weight = given[name]
        fits = weight.shape == (channels, states)
        if weight.dim() in (3, 4):
            fits = (weight.shape[0], *weight.shape[-2:]) == (batch, states, length) and weight.numel() > 0
            groups.add(weight.shape[1] if weight.dim() == 4 else 1)
        if not fits:
            raise InputError(
                f"selective_scan: {name} is {tuple(weight.shape)}; it must be {(channels, states)}, "
                f"{(batch, states, length)} or ({batch}, G, {states}, {length})"
            )
    if len(groups) > 1 or any(channels % g for g in groups):
        raise InputError(
            f"selective_scan: B and C have {' and '.join(map(str, sorted(groups)))} groups; they need one number of "
            f"groups that divides the {channels} channels"
        )
