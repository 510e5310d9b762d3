"""The CUDA kernel of the optional package mamba_ssm (state-spaces/mamba), looked for once and never required."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MAX_STATES = 256


@functools.cache
def find_mamba() -> Callable[..., Any] | str:
    """`selective_scan_fn` of mamba_ssm, or why it cannot be used.

    Recent releases install without the compiled part, so that is asked for by its own name.
    """
    try:
        import selective_scan_cuda  # noqa: F401
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except Exception as error:  # a build for another torch or CUDA fails in many ways
        return f"mamba_ssm with its selective_scan_cuda does not import ({error})"
    return selective_scan_fn


def why_not_mamba(u: Tensor, A: Tensor, dtype: torch.dtype) -> str | None:
    """The reason why the kernel cannot take these tensors in this dtype, None if it can."""
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
    """As `scan_reference`, by mamba_ssm's kernel; float32 on CUDA only, the last state carries no gradient."""
    scan = find_mamba()
    assert callable(scan), scan
    # The kernel itself copies sequences whose last stride is not 1, but not the constants.
    A, B, C = A.contiguous(), B.contiguous(), C.contiguous()
    return scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state=True)
