import pytest
import torch

from lit_thermal.blocks.fusion import ConcatFusion, Fusion, GatedFusion, MaxFusion, MeanFusion, SumFusion


class SqueezeExcitation(Fusion):
    """A member that a user may write: it weighs channels by the mean over the image, behind a ReLU of few units."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.squeeze = torch.nn.Linear(2 * dim, 2)
        self.excite = torch.nn.Linear(2, dim)

    def forward(self, guide: torch.Tensor, thermal: torch.Tensor) -> torch.Tensor:
        means = torch.cat([guide, thermal], dim=1).mean(dim=(2, 3))
        weight = torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))[..., None, None]
        return thermal + weight * (guide - thermal)


MEMBERS = Fusion.__subclasses__()
PIXELWISE = [MaxFusion, SumFusion, MeanFusion, ConcatFusion, GatedFusion]
SIZES = [(1, 1), (5, 7), (8, 4)]


def trained(member: type[Fusion], dim: int = 3, seed: int = 0) -> Fusion:
    """A member whose parameters, if it has any, are not those of its start."""
    torch.manual_seed(seed)
    block = member(dim)
    for p in block.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return block


def features(batch: int = 2, dim: int = 3, size: tuple[int, int] = (5, 7)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    guide, thermal = torch.randn(2, batch, dim, *size, generator=generator)
    return guide.requires_grad_(), thermal.requires_grad_()


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("size", SIZES)
def test_any_size_forward_and_backward(member, size):
    reached: dict[str, bool] = {}
    for seed in range(10):  # one draw of the weights may leave a ReLU dead
        block = trained(member, seed=seed)
        guide, thermal = features(size=size)
        fused = block(guide, thermal)
        assert fused.shape == guide.shape and fused.isfinite().all()
        fused.square().sum().backward()
        for name, tensor in {"guide": guide, "thermal": thermal, **dict(block.named_parameters())}.items():
            assert tensor.grad.isfinite().all()
            reached[name] = reached.get(name, False) or bool(tensor.grad.any())
    assert all(reached.values()), reached


@pytest.mark.parametrize("member", MEMBERS)
def test_samples_are_fused_by_themselves(member):
    block = trained(member)
    guide, thermal = features(batch=3)
    assert torch.allclose(block(guide[1:2], thermal[1:2]), block(guide, thermal)[1:2], atol=1e-6)


@pytest.mark.parametrize("member", PIXELWISE)
def test_pixels_are_fused_by_themselves(member):
    block = trained(member)
    guide, thermal = features()
    fused = block(guide, thermal)
    assert torch.allclose(block(guide[..., 2:, 3:], thermal[..., 2:, 3:]), fused[..., 2:, 3:], atol=1e-6)


@pytest.mark.parametrize("member", MEMBERS)
def test_no_sample_leaves_parameters_in_the_graph(member):
    block = trained(member)
    guide, thermal = features(batch=0)
    (block(guide, thermal).sum() + thermal.sum()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in block.parameters())


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("which", ["guide", "thermal"])
def test_one_camera_alone(member, which):
    block = trained(member)
    present, _ = features()
    level = block.alone(present, which)
    assert level.shape == present.shape and level.isfinite().all()
    level.square().sum().backward()
    assert present.grad.isfinite().all() and present.grad.abs().sum() > 0
    if member is not ConcatFusion:
        assert torch.equal(level, present)


def test_concat_takes_zeros_for_the_absent_camera():
    block = trained(ConcatFusion).double()
    present = features()[0].double()
    zeros = torch.zeros_like(present)
    assert torch.allclose(block.alone(present, "guide"), block(present, zeros), atol=1e-14)
    assert torch.allclose(block.alone(present, "thermal"), block(zeros, present), atol=1e-14)
    assert not torch.allclose(block.alone(present, "guide"), block.alone(present, "thermal"))


@pytest.mark.parametrize("member", MEMBERS)
def test_half_precision_is_close(member):
    block = trained(member)
    guide, thermal = features()
    exact = block(guide, thermal)
    with torch.autocast("cpu", torch.bfloat16):
        for a, b in [(guide, thermal), (guide.bfloat16(), thermal.bfloat16())]:
            rough = block(a, b)
            assert rough.isfinite().all()
            assert (rough - exact).abs().max() < 0.03 * exact.abs().max()


@pytest.mark.parametrize("member", MEMBERS)
def test_state_dict_round_trip(member):
    block, other = trained(member), trained(member, seed=1)
    guide, thermal = features()
    other.load_state_dict(block.state_dict(), strict=True)
    assert torch.equal(block(guide, thermal), other(guide, thermal))
    assert torch.equal(block.alone(guide, "guide"), other.alone(guide, "guide"))


@pytest.mark.parametrize("member", [MaxFusion, MeanFusion, GatedFusion])
def test_equal_features_stay(member):
    guide, _ = features()
    assert torch.equal(trained(member)(guide, guide), guide)


def test_values():
    guide, thermal = features()
    assert torch.equal(MaxFusion(3)(guide, thermal), torch.where(guide > thermal, guide, thermal))
    assert torch.equal(SumFusion(3)(guide, guide), 2 * guide)
    assert torch.equal(SumFusion(3)(guide, thermal), guide + thermal)
    assert torch.allclose(MeanFusion(3)(guide, thermal), torch.stack([guide, thermal]).mean(dim=0))
    assert all(not list(member(3).parameters()) for member in (MaxFusion, SumFusion, MeanFusion))


def test_gradient_of_the_maximum_goes_to_the_larger_and_is_halved_at_ties():
    guide = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 1, 3).requires_grad_()
    thermal = torch.tensor([2.0, 2.0, 2.0]).view(1, 1, 1, 3).requires_grad_()
    MaxFusion(1)(guide, thermal).sum().backward()
    assert guide.grad.flatten().tolist() == [0, 0.5, 1]
    assert thermal.grad.flatten().tolist() == [1, 0.5, 0]


def test_gate_starts_at_the_mean_and_stays_between_the_two():
    guide, thermal = features()
    assert torch.allclose(GatedFusion(3)(guide, thermal), (guide + thermal) / 2, atol=1e-6)
    fused = trained(GatedFusion)(guide, thermal)
    low, high = torch.minimum(guide, thermal), torch.maximum(guide, thermal)
    assert (fused >= low - 1e-6).all() and (fused <= high + 1e-6).all()
    weight = (fused - thermal) / (guide - thermal)
    assert weight.std(dim=(0, 2, 3)).min() > 0.01 and weight.std(dim=1).min() > 0, "varies over pixels and channels"


def test_gate_can_close_on_either_camera():
    guide, thermal = features()
    block = GatedFusion(3)
    for bias, expected in [(30.0, guide), (-30.0, thermal)]:
        torch.nn.init.constant_(block.gate.bias, bias)
        assert torch.allclose(block(guide, thermal), expected, atol=1e-6)
