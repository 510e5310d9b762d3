"""The selective scan in plain PyTorch, in blocks along time, with a backward pass that recomputes states.

Only the states at block starts are kept, so that memory is a few tensors (batch, D, L) and one block. Decays are only
multiplied, because dividing by a cumulative decay overflows float32 within a few dozen steps. Inside a block, tensors
are (steps, batch, G, N, D/G), with channels last so that reductions over N are vectorised.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .reference import groups_of, skip_and_gate, step_size


def block_rule(lanes: int, length: int, device_type: str) -> tuple[int, int]:
    """Return the number of steps in a block and the number of its parallel chunks, of which it is a multiple.

    On the CPU a block is as large as fits into the cache. One step is one small operation. With few lanes its fixed
    cost dominates; chunks then make the operation larger, at the cost of a second pass over the block. On an
    accelerator every launch counts, so blocks are as large as memory allows and there are about 2 sqrt(block)
    sequential steps.

    Args:
        lanes: number of recurrences, batch * D * N.
        length: sequence length L.
        device_type: type of the device, "cpu", "cuda", ...
    """
    cpu = device_type == "cpu"
    block = max(1, min((2**17 if cpu else 2**26) // lanes, 2048 if cpu else 16_384, length))
    chunks = math.isqrt(block)
    if cpu:
        chunks = 1 if lanes >= 2048 else min(chunks, 4096 // lanes)
    return block - block % chunks, chunks


def recurrence_(decay: Tensor, x: Tensor, start: Tensor, chunks: int, reverse: bool = False) -> Tensor:
    """Solve ``x[t] += decay[t] x[t-1]`` (``x[t+1]`` in reverse) in place and return x.

    Args:
        decay: decays (steps, ...) in [0, 1].
        x: inputs (steps, ...) of the steps, which are overwritten by the solution.
        start: value (...) before the first step (after the last one in reverse).
        chunks: number of chunks that run in parallel, a divisor of the number of steps; 1 runs all steps in sequence.
        reverse: run from the last step to the first.
    """
    order = slice(None, None, -1 if reverse else 1)
    decays = decay.unflatten(0, (chunks, -1)).unbind(1)[order]
    values = x.unflatten(0, (chunks, -1)).unbind(1)[order]
    if chunks == 1:
        previous = start[None]
        for a, value in zip(decays, values, strict=True):
            previous = value.addcmul_(a, previous)
        return x
    products = torch.empty_like(x).unflatten(0, (chunks, -1))  # of the decays since the start of the chunk
    targets = products.unbind(1)[order]
    previous, product = values[0], targets[0].copy_(decays[0])
    for a, value, target in zip(decays[1:], values[1:], targets[1:], strict=True):
        previous, product = value.addcmul_(a, previous), torch.mul(a, product, out=target)
    entering = [start]
    for whole, last in list(zip(product.unbind(0), previous.unbind(0), strict=True))[order][:-1]:
        entering.append(torch.addcmul(last, whole, entering[-1]))
    x.unflatten(0, (chunks, -1)).addcmul_(products, torch.stack(entering[order])[:, None])
    return x


def _channels_last(tensor: Tensor, groups: int) -> Tensor:
    """Reshape (D, N) to (G, N, D/G)."""
    return tensor.unflatten(0, (groups, -1)).transpose(1, 2)


def _cut(tensor: Tensor, begin: int, end: int) -> Tensor:
    """Return steps of (..., L) as (end - begin, ...), with zeros after L, because a step of size zero has no effect."""
    part = tensor[..., begin:end]
    return F.pad(part, (0, end - begin - part.shape[-1])).movedim(-1, 0)


def _sequence(tensor: Tensor, begin: int, end: int, groups: int) -> Tensor:
    """Return steps of (batch, D, L) as (steps, batch, G, 1, D/G)."""
    return _cut(tensor, begin, end).unflatten(2, (groups, 1, -1)).contiguous()


def _weight(tensor: Tensor, begin: int, end: int, groups: int) -> Tensor:
    """Return B or C so that it broadcasts against states: (G, N, D/G) if constant, else (steps, batch, G, N, 1)."""
    if tensor.dim() == 2:
        return _channels_last(tensor, groups)
    return _cut(tensor, begin, end).unsqueeze(-1).contiguous()


def _add_weight_gradient(total: Tensor, part: Tensor, begin: int) -> None:
    """Add `part` (steps, batch, G, N, D/G) to the gradient `total` of B or C, (D, N) or (batch, G, N, L)."""
    if total.dim() == 2:
        total += part.sum((0, 1)).transpose(1, 2).flatten(0, 1)
    else:
        length = min(part.shape[0], total.shape[-1] - begin)
        total[..., begin : begin + length] = part[:length].sum(-1).movedim(0, -1)


def _put(total: Tensor, part: Tensor, begin: int) -> None:
    """Write `part` (steps, batch, G, D/G) to its position in `total` (batch, D, L)."""
    length = min(part.shape[0], total.shape[-1] - begin)
    total[..., begin : begin + length] = part[:length].flatten(2).movedim(0, -1)


class _Scan(torch.autograd.Function):
    """Recurrence and read-out without skip and gate: u and step (batch, D, L) to y (batch, D, L) and the last state."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor, groups: int, block: int, chunks: int
    ) -> tuple[Tensor, Tensor]:
        length = u.shape[2]
        A_last = _channels_last(A, groups).contiguous()
        state = u.new_zeros(u.shape[0], *A_last.shape)
        y, starts = torch.empty_like(u), []
        for begin in range(0, length, block):
            end = begin + -(-min(block, length - begin) // chunks) * chunks
            starts.append(state)
            d = _sequence(step, begin, end, groups)
            drive = d * _sequence(u, begin, end, groups) * _weight(B, begin, end, groups)
            h = recurrence_((d * A_last).exp_(), drive, state, chunks)
            state = h[-1].clone()
            _put(y, h.mul_(_weight(C, begin, end, groups)).sum(-2), begin)
        ctx.rule = groups, block, chunks
        ctx.save_for_backward(u, step, A, B, C, *starts)
        last = state.transpose(2, 3).flatten(1, 2)
        ctx.mark_non_differentiable(last)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        u, step, A, B, C, *starts = ctx.saved_tensors
        groups, block, chunks = ctx.rule
        length = u.shape[2]
        A_last = _channels_last(A, groups).contiguous()
        carry = torch.zeros_like(starts[0])
        du, dstep, dA, dB, dC = (torch.zeros_like(tensor) for tensor in (u, step, A_last, B, C))
        for start, begin in reversed(list(zip(starts, range(0, length, block), strict=True))):
            end = begin + -(-min(block, length - begin) // chunks) * chunks
            d_next = _sequence(step, begin, end + 1, groups)
            d, u_block, dy_block = d_next[:-1], _sequence(u, begin, end, groups), _sequence(dy, begin, end, groups)
            B_block, C_block = _weight(B, begin, end, groups), _weight(C, begin, end, groups)
            decay = (d_next * A_last).exp_()
            x = d * u_block
            h = recurrence_(decay[:-1], x * B_block, start, chunks)
            _add_weight_gradient(dC, h * dy_block, begin)
            dh = recurrence_(decay[1:], dy_block * C_block, carry, chunks, reverse=True)
            carry = dh[0].clone()
            _add_weight_gradient(dB, dh * x, begin)
            dx = (dh * B_block).sum(-2)
            _put(du, dx * d[:, :, :, 0], begin)
            dlog = dh.mul_(decay[:-1])  # gradient to the exponent step * A
            dlog[1:].mul_(h[:-1])
            dlog[0].mul_(start)
            dA += (dlog * d).sum((0, 1))
            _put(dstep, dlog.mul_(A_last).sum(-2).addcmul_(dx, u_block[:, :, :, 0]), begin)
        return du, dstep, dA.transpose(1, 2).flatten(0, 1), dB, dC, None, None, None


def scan_blocked(
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
    """Compute the same as `scan_reference` in blocks; the last state has no gradient."""
    batch, channels, length = u.shape
    block, chunks = block_rule(batch * channels * A.shape[1], length, u.device.type)
    step = step_size(delta, delta_bias, delta_softplus)
    y, last = _Scan.apply(u, step, A, B, C, groups_of(B, C), block, chunks)
    return skip_and_gate(y, u, D, z), last
