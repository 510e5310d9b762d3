"""Norms tell NaN and infinity in every type, and values are set to zero whatever they were."""

import math

import pytest
import torch

from lit_thermal.ops.finite import all_finite, keep_if, norms

TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_is_found_and_mended(dtype, value):
    tensors = [torch.ones(3, 4, dtype=dtype).t(), torch.ones(2, dtype=dtype), torch.zeros(0)]
    assert all_finite(tensors) and norms(tensors).isfinite().tolist() == [True] * 3
    tensors[0][2, 1] = value
    assert not all_finite(tensors) and norms(tensors).isfinite().tolist() == [False, True, True]
    keep_if(torch.tensor(False), tensors)
    assert all(not tensor.any() for tensor in tensors)


@pytest.mark.parametrize("dtype", TYPES)
def test_values_that_are_kept_keep_their_bits(dtype):
    tensor = torch.randn(5, 3, dtype=dtype)
    before = tensor.clone()
    keep_if(torch.tensor(True), [tensor])
    assert torch.equal(tensor, before)


def test_types_may_be_mixed_and_large_numbers_of_half_precision_are_finite():
    assert norms([torch.full((4,), 6e4, dtype=torch.float16), torch.ones(2, dtype=torch.float64)]).isfinite().all()
    assert all_finite([]) and all_finite([torch.tensor([2**40])])
    assert norms([torch.tensor([3.0, 4.0])]).tolist() == [5.0]
