"""Whether tensors are free of NaN and infinity, found and mended without waiting for their device."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor


@torch.no_grad()
def norms(tensors: Sequence[Tensor]) -> Tensor:
    """Return the norm of each tensor, (N,) in single precision or better: NaN or infinite where a value is.

    The squares of numbers above some 1e19 leave single precision, so that these count as infinite too. Costs one pass
    over the values, and waits for nothing. Empty tensors have the norm 0.
    """
    if not tensors:
        return torch.zeros(0)
    real = [torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in tensors]
    kinds = {tensor.dtype for tensor in real}
    wide = reduce(torch.promote_types, kinds, torch.float32)
    # asking for a type takes a slower way, which types of 16 bits alone need
    return torch.stack(torch._foreach_norm(real, 2, wide if kinds & {torch.float16, torch.bfloat16} else None))


def all_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Return whether all values of all tensors are finite, () bool on their device; `norms` says what counts."""
    return norms([tensor for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()]).isfinite().all()


@torch.no_grad()
def keep_if(kept: Tensor, tensors: Sequence[Tensor]) -> None:
    """Set all values of floating-point tensors to 0 in place, unless `kept`, () bool on their device, is true.

    Zero times NaN is NaN, so the bits are multiplied as whole numbers: by one they stay, by zero they are those of 0.
    That is one pass for all tensors of a kind, and waits for nothing.
    """
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[real.element_size()]
        kinds.setdefault(kind, []).append(real.view(kind))
    for kind, bits in kinds.items():
        torch._foreach_mul_(bits, kept.to(kind))
