"""The CUDA kernel of the optional package mamba_ssm (state-spaces/mamba), which is looked up once."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MAX_STATES = 256


@functools.cache
def find_mamba() -> Callable[..., Any] | str:
    """Return `selective_scan_fn` of mamba_ssm, or the reason why it cannot be used.

    Recent releases may be installed without the compiled part, so that is imported separately.
    """
    try:
        import selective_scan_cuda  # noqa: F401
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except Exception as error:  # a build for another torch or CUDA fails in many ways
        return f"mamba_ssm with its selective_scan_cuda does not import ({error})"
    return selective_scan_fn


def why_not_mamba(u: Tensor, A: Tensor, dtype: torch.dtype) -> str | None:
    """Return the reason why the kernel cannot process these tensors in this dtype, or None if it can."""
    if u.device.type != "cuda":
        return f"it needs tensors on CUDA, not on {u.device.type}"
    if dtype != torch.float32:
        return f"it computes in float32, not in {str(dtype).removeprefix('torch.')}"
    if A.shape[1] > MAX_STATES:
        return f"it takes at most {MAX_STATES} states, not {A.shape[1]}"
    found = find_mamba()
    return found if isinstance(found, str) else None


def scan_mamba(
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
    """Compute the same as `scan_reference` with mamba_ssm's CUDA kernel in float32; the last state has no gradient."""
    scan = find_mamba()
    assert callable(scan), scan
    # The kernel itself copies sequences whose last stride is not 1, but not the constants.
    A, B, C = A.contiguous(), B.contiguous(), C.contiguous()
    return scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state=True)
