"""The selective scan with the compiled CPU kernel (kernel.cpp), as an autograd function over raw pointers."""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .build import kernel
from .reference import groups_of

_SLOTS = 8
"""Number of partial sums over channels for the gradients of B and C, which are added in a fixed order afterwards. It
bounds their memory, and the number of threads of the backward pass for one group of one sample."""


class _Problem(ctypes.Structure):
    """Mirror of the struct `Problem` in kernel.cpp."""

    _sizes = ("batch", "channels", "groups", "states", "length", "slots", "threads", "softplus")
    _sequences = ("u", "delta", "z", "dout")
    _parameters = ("A", "B_lane", "C_lane", "B", "C", "D", "bias", "starts")
    _results = ("out", "du", "ddelta", "dz", "last", "dA", "dB_lane", "dC_lane", "dD", "dbias", "dB", "dC")
    _fields_ = (
        *((name, ctypes.c_int64) for name in _sizes),
        *((name, ctypes.c_void_p) for name in _sequences + _parameters + _results),
    )


def _call(direction: str, dtype: torch.dtype, sizes: dict[str, int], tensors: dict[str, Tensor | None]) -> None:
    """Run the kernel in place on contiguous CPU tensors of one dtype; names are those of `Problem`."""
    pointers = {name: tensor.data_ptr() for name, tensor in tensors.items() if tensor is not None}
    problem = _Problem(**sizes, **pointers, threads=torch.get_num_threads())
    suffix = "double" if dtype == torch.float64 else "float"
    getattr(kernel(), f"selective_scan_{direction}_{suffix}")(ctypes.byref(problem))


def _field(name: str, weight: Tensor) -> str:
    """Return the field of `Problem` for B, C or their gradients; a constant weight (D, N) has a separate field."""
    return f"{name}_lane" if weight.dim() == 2 else name


def _gradient_buffer(weight: Tensor, batch: int, slots: int) -> Tensor:
    """Return a buffer for the gradient of B or C before it is summed over the batch (constant) or over slots."""
    if weight.dim() == 2:
        return weight.new_empty(batch, *weight.shape)
    return weight.new_zeros(*weight.shape[:2], slots, *weight.shape[2:])


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
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
        u, delta, A, B, C = (tensor.contiguous() for tensor in (u, delta, A, B, C))
        D, z, delta_bias = (None if tensor is None else tensor.contiguous() for tensor in (D, z, delta_bias))
        (batch, channels, length), states, groups = u.shape, A.shape[1], groups_of(B, C)
        library = kernel()
        lanes = library.selective_scan_vector_bytes() // u.element_size()
        tiles = -(-channels // groups // lanes)
        blocks = -(-length // library.selective_scan_block())
        sizes = {"batch": batch, "channels": channels, "groups": groups, "states": states, "length": length}
        sizes |= {"slots": min(tiles, _SLOTS), "softplus": int(delta_softplus)}
        starts = u.new_empty(batch, groups, tiles, blocks, states, lanes)
        out, last = torch.empty_like(u), u.new_empty(batch, channels, states)
        inputs = {"u": u, "delta": delta, "A": A, "D": D, "z": z, "bias": delta_bias, "starts": starts}
        inputs |= {_field("B", B): B, _field("C", C): C}
        _call("forward", u.dtype, sizes, {**inputs, "out": out, "last": last})
        ctx.sizes = sizes
        ctx.save_for_backward(u, delta, A, B, C, D, z, delta_bias, starts)
        ctx.mark_non_differentiable(last)
        return out, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, A, B, C, D, z, delta_bias, starts = ctx.saved_tensors
        batch, channels, _ = u.shape
        inputs = {"u": u, "delta": delta, "A": A, "D": D, "z": z, "bias": delta_bias, "starts": starts}
        inputs |= {_field("B", B): B, _field("C", C): C, "dout": dout.contiguous()}
        du, ddelta, dz = torch.empty_like(u), torch.empty_like(u), None if z is None else torch.empty_like(u)
        dA, dD, dbias = u.new_empty(batch, *A.shape), u.new_empty(batch, channels), u.new_empty(batch, channels)
        dB, dC = (_gradient_buffer(weight, batch, ctx.sizes["slots"]) for weight in (B, C))
        outputs = {"du": du, "ddelta": ddelta, "dz": dz, "dA": dA, "dD": dD, "dbias": dbias}
        outputs |= {_field("dB", B): dB, _field("dC", C): dC}
        _call("backward", u.dtype, ctx.sizes, inputs | outputs)
        dB, dC = (buffer.sum(0 if buffer.dim() == 3 else 2) for buffer in (dB, dC))
        dD = None if D is None else dD.sum(0)
        dbias = None if delta_bias is None else dbias.sum(0)
        return du, ddelta, dA.sum(0), dB, dC, dD, dz, dbias, None


def scan_cpp(
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
    """Compute the same as `scan_reference` with the compiled kernel; the last state has no gradient.

    Raises:
        KernelUnavailable: the kernel cannot be compiled or loaded here.
    """
    return _Scan.apply(u, delta, A, B, C, D, z, delta_bias, delta_softplus)
