"""Checks of tensors for NaN and infinity, and their removal, without waiting for the device."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor


@torch.no_grad()
def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the norm of each tensor, (N,) in single precision or better; not finite if a value is not.

    The squares of numbers above about 1e19 exceed single precision, so that these count as infinite too. The cost is
    one pass over the values, without waiting for the device. Empty tensors have the norm 0.
    """
    if not tensors:
        return torch.zeros(0)
    real = [torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in tensors]
    kinds = {tensor.dtype for tensor in real}
    wide = reduce(torch.promote_types, kinds, torch.float32)
    # an explicit dtype uses a slower path, which only 16-bit types need
    return torch.stack(torch._foreach_norm(real, 2, wide if kinds & {torch.float16, torch.bfloat16} else None))


def all_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Return whether all values of all tensors are finite, as `norms` defines it: () bool on their device."""
    return norms([tensor for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()]).isfinite().all()


@torch.no_grad()
def keep_if(kept: Tensor, tensors: Sequence[Tensor]) -> None:
    """Set all values of floating-point tensors to 0 in place, unless `kept`, () bool on their device, is true.

    Zero times NaN is NaN, so the bit patterns are multiplied as integers: one keeps them, zero clears them to 0.0. One
    operation handles all tensors of one size of number, without waiting for the device.
    """
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[real.element_size()]
        kinds.setdefault(kind, []).append(real.view(kind))
    for kind, bits in kinds.items():
        torch._foreach_mul_(bits, kept.to(kind))
