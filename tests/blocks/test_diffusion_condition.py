import pytest
import torch
from torch.nn import functional as F

from lit_thermal.blocks import structural_condition  # noqa: F401 - a member of the family
from lit_thermal.blocks.diffusion_condition import ConditionEncoder, DiffusionCondition, RawLR
from lit_thermal.errors import InputError

MEMBERS = DiffusionCondition.__subclasses__()
SIZES = [(6, 8), (12, 16), (3, 4), (7, 9), (5, 16), (1, 1)]


def trained(member: type[DiffusionCondition], seed: int = 0) -> DiffusionCondition:
    torch.manual_seed(seed)
    return member()


def inputs(batch: int = 2, size: tuple[int, int] = (6, 8)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.rand(batch, 1, *size, generator=generator) - 1


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("size", SIZES)
def test_any_size_forward_and_backward(member, size):
    block, lr = trained(member), inputs().requires_grad_()
    condition = block(lr, size)
    assert condition.shape == (2, block.channels, *size) and condition.isfinite().all()
    condition.square().sum().backward()
    for tensor in (lr, *block.parameters()):
        assert tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("size", [(6, 8), (7, 9)])
def test_images_are_by_themselves(member, size):
    block, lr = trained(member), inputs(batch=3)
    assert torch.allclose(block(lr[1:2], size), block(lr, size)[1:2], atol=1e-6)


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("size", [(6, 8), (12, 16), (4, 5)])
def test_half_precision_is_close(member, size):
    block, lr = trained(member), inputs()
    exact = block(lr, size)
    with torch.autocast("cpu", torch.bfloat16):
        for x in (lr, lr.bfloat16()):
            rough = block(x, size)
            assert rough.isfinite().all() and (rough - exact).abs().max() < 0.03 * exact.abs().max()


@pytest.mark.parametrize("member", MEMBERS)
def test_state_dict_round_trip(member):
    block, other = trained(member), trained(member, seed=1)
    other.load_state_dict(block.state_dict(), strict=True)
    assert torch.equal(block(inputs(), (6, 8)), other(inputs(), (6, 8)))


def test_raw_pixels():
    lr = inputs()
    assert torch.equal(RawLR()(lr, (6, 8)), torch.cat([lr, lr, lr], dim=1))
    assert torch.equal(RawLR(copies=1)(lr, (12, 24)), lr.repeat_interleave(2, dim=-2).repeat_interleave(3, dim=-1))
    other = RawLR(copies=1)(lr, (9, 10))
    assert torch.allclose(other, F.interpolate(lr, (9, 10), mode="bilinear", antialias=True), atol=1e-6)
    assert other.abs().max() <= 1
    assert not list(RawLR().parameters()) and not RawLR().state_dict()


def test_a_larger_image_goes_into_channels():
    block, lr = RawLR(copies=2, unshuffle=2), inputs(size=(8, 10))
    condition = block(lr, (4, 5))
    assert block.channels == condition.shape[1] == 8
    assert torch.equal(condition, F.pixel_unshuffle(torch.cat([lr, lr], dim=1), 2))
    odd = inputs(size=(7, 9))
    filled = torch.cat([odd, odd[..., -1:, :]], dim=-2)
    filled = torch.cat([filled, filled[..., -1:]], dim=-1)
    assert torch.equal(RawLR(1, 2)(odd, (4, 5)), F.pixel_unshuffle(filled, 2))


def test_what_each_option_is_worth():
    block = ConditionEncoder(channels=5, width=6, depth=3)
    assert block.channels == 5 and block(inputs(), (6, 8)).shape == (2, 5, 6, 8)
    assert len(block.blocks) == 3 and block.first.out_channels == 6


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"width": 0}, {"depth": 0}])
def test_encoder_refuses_what_is_not_positive(wrong):
    with pytest.raises(InputError, match=f"ConditionEncoder's {next(iter(wrong))} is 0 and must be at least 1"):
        ConditionEncoder(**wrong)


@pytest.mark.parametrize("wrong", [{"copies": 0}, {"unshuffle": -1}])
def test_raw_refuses_what_is_not_positive(wrong):
    with pytest.raises(InputError, match=f"RawLR's {next(iter(wrong))} is"):
        RawLR(**wrong)
