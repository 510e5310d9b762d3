import math

import pytest
import torch
from torch import nn

from lit_thermal.networks.group_norm import WideGroupNorm


def trained(dim: int) -> WideGroupNorm:
    torch.manual_seed(0)
    norm = WideGroupNorm(dim)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize(("dim", "groups"), [(160, 32), (32, 32), (48, 16), (20, 4), (7, 1)])
def test_values_and_groups(dim, groups):
    norm = trained(dim).double()
    x = 3 + torch.randn(2, dim, 5, 3, dtype=torch.float64)
    assert norm.num_groups == groups == math.gcd(32, dim)
    grouped = x.view(2, groups, -1)
    mean, variance = grouped.mean(dim=-1, keepdim=True), grouped.var(dim=-1, unbiased=False, keepdim=True)
    expected = ((grouped - mean) / (variance + 1e-5).sqrt()).view_as(x)
    expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
    assert norm(x).dtype == torch.float64
    assert torch.allclose(norm(x), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_input_is_normed_in_float32(dtype, autocast):
    norm = trained(32)
    # Far from zero: in half precision the variance would be lost.
    x = (100 + torch.randn(2, 32, 16, 16)).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        normed = norm(x)
    assert normed.dtype == dtype
    assert torch.equal(normed, norm(x.float()).to(dtype))


def test_half_precision_module_too():
    norm = trained(32).bfloat16()
    x = (100 + torch.randn(2, 32, 16, 16)).bfloat16()
    wide = WideGroupNorm(32)
    wide.load_state_dict(norm.state_dict())
    assert torch.equal(norm(x), wide(x))


def test_gradient():
    norm = trained(4).double()
    x = torch.randn(1, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))
