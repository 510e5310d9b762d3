import pytest
import torch

from lit_thermal.blocks.spectral_mask import (
    ComplexMask,
    IdentityMask,
    LogGainMask,
    NoSpectralMask,
    RadialMask,
    SpectralMask,
    ZeroPhaseMask,
)

MEMBERS = [*SpectralMask.__subclasses__(), LogGainMask]
SIZES = [(8, 8), (7, 9), (5, 12), (1, 3)]


def randomised(mask: SpectralMask) -> SpectralMask:
    torch.manual_seed(0)
    for p in mask.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return mask


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("member", [ZeroPhaseMask, LogGainMask, RadialMask, ComplexMask, IdentityMask])
def test_starts_as_the_identity(member, size):
    frames = torch.randn(2, 3, *size)
    assert torch.allclose(member(3).filter(frames), frames, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("member", [ZeroPhaseMask, LogGainMask, RadialMask])
def test_equals_a_slow_filter_on_the_full_spectrum(member, size):
    mask = randomised(member(3))
    frames = torch.randn(2, 3, *size, dtype=torch.float64)
    height, width = size
    half = mask.gains(height, width).double()
    full = torch.empty(3, height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            full[:, y, x] = half[:, y, x] if x <= width // 2 else half[:, (-y) % height, width - x]
    expected = torch.fft.ifft2(torch.fft.fft2(frames) * full)
    assert expected.imag.abs().max() < 1e-12, "a real mask that is even in both axes keeps images real"
    assert torch.allclose(mask.filter(frames).double(), expected.real, atol=1e-5)


@pytest.mark.parametrize("member", [ZeroPhaseMask, LogGainMask, RadialMask])
def test_keeps_the_mean_level(member):
    mask = randomised(member(3))
    constant = torch.full((1, 3, 6, 5), 0.7)
    assert torch.allclose(mask.filter(constant), constant, atol=1e-6)
    loose = randomised(member(3, dc_fixed=False))
    assert not torch.allclose(loose.filter(constant), constant, atol=1e-3)


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("member", [ZeroPhaseMask, LogGainMask, RadialMask])
def test_commutes_with_flips(member, axis):
    mask, frames = randomised(member(2)), torch.randn(1, 2, 6, 9)
    assert torch.allclose(mask.filter(frames.flip(axis)), mask.filter(frames).flip(axis), atol=1e-5)


def test_gains_are_between_zero_and_two_and_follow_the_resolution():
    mask = randomised(ZeroPhaseMask(2))
    small, large = mask.gains(16, 16), mask.gains(32, 32)
    assert (small > 0).all() and (small < 2).all()
    assert torch.allclose(small[:, 3, 5], large[:, 6, 10], atol=1e-6), "the same frequency has the same gain"


def test_padding_keeps_the_shape_and_removes_the_wrap():
    plain, padded = ZeroPhaseMask(1), ZeroPhaseMask(1, padding=8)
    smoothing = -2 * (torch.linspace(0, 1, 17)[:, None] + torch.linspace(0, 1, 9))
    frames = torch.zeros(1, 1, 11, 30)
    frames[..., 5, 0] = 1
    across = []
    for mask in (plain, padded):
        mask.theta.data.copy_(smoothing)
        filtered = mask.filter(frames).detach()
        assert filtered.shape == frames.shape
        across.append(float(filtered[..., -1].abs().max()))
    assert across[0] > 0.05 and across[1] < 0.02 * across[0], "the left edge shows at the right one only by the wrap"


def test_the_base_is_no_mask_itself():
    with pytest.raises(TypeError, match="abstract"):
        SpectralMask(3)


def test_complex_mask_at_another_size():
    mask = randomised(ComplexMask(2, size=(8, 8)))
    assert mask.filter(torch.randn(1, 2, 11, 7)).shape == (1, 2, 11, 7)


def test_no_mask_returns_its_input():
    x = torch.randn(2, 4, 4, 3)
    block = NoSpectralMask(3)
    assert block(x) is x and not list(block.parameters())


@pytest.mark.parametrize("member", MEMBERS)
def test_every_member(member):
    block = member(4)
    if list(block.parameters()):
        randomised(block)
    x = torch.randn(2, 7, 9, 4, requires_grad=True)
    y = block(x)
    assert y.shape == x.shape
    y.square().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(p.grad is not None for p in block.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        half = block(x)
    assert torch.allclose(half, y, atol=1e-6), "the filter is float32 under autocast"
    copy = member(4)
    copy.load_state_dict(block.state_dict())
    assert torch.equal(copy(x), y)


def test_the_log_gain_can_undo_a_blur_that_needs_more_than_two():
    mask = LogGainMask(1, grid=(5, 3))
    torch.nn.init.constant_(mask.theta, 1.5)
    gains = mask.gains(8, 8)
    assert gains[0, 0, 0] == 1 and torch.allclose(gains[0, 3, 2], torch.tensor(1.5).exp())


def test_without_the_mask_the_rest_of_the_branch_stays():
    whole, without = ZeroPhaseMask(3), IdentityMask(3)
    torch.nn.init.normal_(whole.scale)
    without.load_state_dict({k: v for k, v in whole.state_dict().items() if k != "theta"}, strict=True)
    x = torch.randn(2, 6, 7, 3)
    assert torch.allclose(without(x), whole(x), atol=1e-5) and not torch.allclose(without(x), x, atol=0.1)


@pytest.mark.parametrize("member", [ZeroPhaseMask, LogGainMask, RadialMask, ComplexMask, IdentityMask])
def test_without_a_norm_the_block_is_the_filter(member):
    mask, x = randomised(member(3, norm=False)), torch.randn(2, 6, 7, 3)
    assert not {"norm.weight", "norm.bias", "scale"} & mask.state_dict().keys()
    assert torch.allclose(mask(x), mask.filter(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1), atol=1e-6)
    assert torch.allclose(member(3, norm=False)(x), x, atol=1e-5), "an untrained filter changes nothing"
