import pytest
import torch
from torch.nn import functional as F

from lit_thermal.blocks.projection_head import MLPProjection, ProjectionHead

MEMBERS = ProjectionHead.__subclasses__()


def head(member: type[ProjectionHead] = MLPProjection, dim: int = 6, seed: int = 0) -> ProjectionHead:
    """A head whose statistics and affine parameters are not those of its start."""
    torch.manual_seed(seed)
    block = member(dim)
    for name, value in block.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif value.is_floating_point():
            value.normal_(std=0.5)
    return block


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("shape", [(4, 6, 5, 7), (2, 6, 1, 1), (3, 6, 8, 4)])
def test_any_size_forward_and_backward(member, shape):
    block = head(member)
    features = torch.randn(shape, requires_grad=True)
    vectors = block(features)
    assert vectors.shape == (shape[0], 64)
    vectors.pow(3).sum().backward()
    assert features.grad.isfinite().all() and features.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("count", [0, 1])
def test_batches_without_a_variance_pass_in_training(member, count):
    block = head(member)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    features = torch.randn(count, 6, 3, 3, requires_grad=True)
    vectors = block(features)
    vectors.sum().backward()
    assert vectors.shape == (count, 64) and features.grad.shape == features.shape
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())
    assert torch.equal(block.eval()(features), vectors), "by the running statistics"
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


@pytest.mark.parametrize("member", MEMBERS)
def test_samples_are_independent_in_eval_mode(member):
    block = head(member).eval()
    features = torch.randn(4, 6, 3, 5)
    assert torch.allclose(block(features)[2:3], block(features[2:3]), atol=1e-5)


@pytest.mark.parametrize("member", MEMBERS)
def test_half_precision_is_close(member):
    block = head(member)
    features = torch.randn(8, 6, 3, 5)
    exact = block(features)
    with torch.autocast("cpu", torch.bfloat16):
        rough = block(features)
    assert (rough - exact).abs().mean() < 0.03 * exact.abs().mean()


@pytest.mark.parametrize("member", MEMBERS)
def test_state_dict_round_trip(member):
    block, other = head(member), head(member, seed=1)
    other.load_state_dict(block.state_dict(), strict=True)
    features = torch.randn(3, 6, 2, 2)
    assert torch.equal(block(features), other(features))


def test_parameters_of_the_paper():
    """296,640 parameters and 14 entries a head, with the layer numbers of the released weights."""
    block = MLPProjection(512)
    assert sum(p.numel() for p in block.parameters()) == 296_640
    shapes = {name: tuple(value.shape) for name, value in block.layers.state_dict().items()}
    assert len(shapes) == 14
    assert shapes["2.weight"] == (512, 512) and shapes["2.bias"] == (512,)
    assert shapes["3.running_var"] == (512,) and shapes["3.num_batches_tracked"] == ()
    assert shapes["5.weight"] == (64, 512) and shapes["6.weight"] == (64,)


def test_equals_the_written_out_head():
    block = MLPProjection(6, hidden=5, width=4)
    block.load_state_dict({name: torch.rand_like(v.double()) for name, v in block.state_dict().items()})
    block.double().eval()
    w = {name.removeprefix("layers."): value for name, value in block.state_dict().items()}

    def norm(x, layer):
        mean, var = w[f"{layer}.running_mean"], w[f"{layer}.running_var"]
        return (x - mean) / (var + 1e-5).sqrt() * w[f"{layer}.weight"] + w[f"{layer}.bias"]

    features = torch.randn(3, 6, 4, 5, dtype=torch.float64)
    hidden = F.relu(norm(features.mean(dim=(2, 3)) @ w["2.weight"].T + w["2.bias"], 3))
    assert torch.allclose(block(features), norm(hidden @ w["5.weight"].T + w["5.bias"], 6), atol=1e-12)


def test_batch_statistics_normalise_a_batch_in_training():
    vectors = MLPProjection(6, hidden=16, width=4)(torch.randn(32, 6, 3, 3))
    assert torch.allclose(vectors.mean(dim=0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(vectors.var(dim=0, unbiased=False), torch.ones(4), atol=1e-2)
