import math

import pytest
import torch

from lit_thermal.blocks.temporal_interpolation import (
    CosineInterpolation,
    LinearInterpolation,
    TemporalInterpolation,
    ThermalDiffusionInterpolation,
)
from lit_thermal.blocks.time_embedding import TimeEmbedding, time_features
from lit_thermal.errors import InputError
from lit_thermal.ops.dct import cosine_basis

SIZES = [3, 4, 5, 8, 16]


def tdim(initial: float = 0.05, **options: object) -> ThermalDiffusionInterpolation:
    return ThermalDiffusionInterpolation(2, 6, initial_kappa=initial, **options).double()


def trained(seed: int = 0, **options: object) -> ThermalDiffusionInterpolation:
    """A kernel whose kappa really varies over frequency, channel and time."""
    torch.manual_seed(seed)
    block = tdim(**options)
    for p in block.parameters():
        torch.nn.init.normal_(p, std=0.7)
    return block


def embedded(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def brute_force(features, tau, energy):
    """The discrete form, written out with sums: transform, damp, inverse transform at real tau."""
    count = features.shape[1]
    out = []
    for i, t in enumerate(tau.tolist()):
        total = torch.zeros_like(features[:, 0])
        for n in range(count):
            c = math.sqrt((1 if n == 0 else 2) / count)
            coefficient = sum(c * math.cos(math.pi * n * (x + 0.5) / count) * features[:, x] for x in range(count))
            damping = torch.exp(-energy[i, n])[None, :, None, None]
            total = total + c * math.cos(math.pi * n * (t + 0.5) / count) * damping * coefficient
        out.append(total)
    return torch.stack(out, dim=1)


@pytest.mark.parametrize("kappa", ["monotone", "free", "shared"])
@pytest.mark.parametrize("anchor", [False, True])
def test_equals_the_written_out_transform(kappa, anchor):
    block = trained(kappa=kappa, anchor_observed=anchor)
    features = torch.randn(2, 5, 2, 3, 4, dtype=torch.float64)
    tau = torch.tensor([0.0, 0.37, 1.5, 4.0], dtype=torch.float64)
    e = embedded(4)
    energy = block.energy(tau, 5, e).expand(-1, -1, 2)
    assert torch.allclose(block(features, tau, e), brute_force(features, tau, energy), atol=1e-12)


@pytest.mark.parametrize("frames", [2, *SIZES])
def test_without_decay_the_inputs_come_back(frames):
    block = CosineInterpolation(1, 6)
    weights = block.weights(torch.arange(frames, dtype=torch.float64), frames, embedded(frames))
    assert torch.allclose(weights[..., 0], torch.eye(frames, dtype=torch.float64), atol=5e-15)


@pytest.mark.parametrize("frames", SIZES)
@pytest.mark.parametrize("kappa", ["monotone", "free", "shared"])
def test_a_constant_sequence_stays_constant(frames, kappa):
    tau = torch.linspace(0, frames - 1, 13, dtype=torch.float64)
    weights = trained(kappa=kappa).weights(tau, frames, embedded(13))
    assert torch.allclose(weights.sum(dim=1), torch.ones(13, weights.shape[-1], dtype=torch.float64), atol=1e-13)


@pytest.mark.parametrize("frames", SIZES)
def test_monotone_damping_never_grows_with_frequency(frames):
    energy = trained().energy(torch.zeros(5, dtype=torch.float64), frames, embedded(5))
    damping = torch.exp(-energy)
    assert (damping > 0).all() and (damping <= 1).all()
    assert (damping.diff(dim=1) <= 0).all()
    assert (energy[:, 0] == 0).all()


def test_constant_kappa_is_the_heat_kernel_in_every_form():
    tau = torch.tensor([0.5], dtype=torch.float64)
    for kappa in ("monotone", "free", "shared"):
        energy = tdim(0.3, kappa=kappa).energy(tau, 6, embedded(1))
        expected = 0.3 * (math.pi * torch.arange(6, dtype=torch.float64) / 6) ** 2
        assert torch.allclose(energy[0, :, 0], expected, atol=1e-7)


def test_strong_decay_gives_the_mean_of_time():
    weights = tdim(1e4).weights(torch.tensor([0.0, 1.2, 3.0], dtype=torch.float64), 4, embedded(3))
    assert torch.allclose(weights, torch.full_like(weights, 0.25), atol=1e-12)


@pytest.mark.parametrize("frames", SIZES)
def test_semigroup_at_the_nodes(frames):
    nodes = torch.arange(frames, dtype=torch.float64)
    e = embedded(frames)
    first, second, both = (tdim(k).weights(nodes, frames, e)[..., 0] for k in (0.2, 0.5, 0.7))
    assert torch.allclose(first @ second, both, atol=1e-7)


def test_linear_in_the_features():
    block, tau, e = trained(), torch.tensor([0.5, 2.0], dtype=torch.float64), embedded(2)
    a, b = torch.randn(2, 1, 4, 2, 3, 3, dtype=torch.float64)
    assert torch.allclose(block(2 * a - 3 * b, tau, e), 2 * block(a, tau, e) - 3 * block(b, tau, e), atol=1e-12)


@pytest.mark.parametrize("frames", SIZES)
def test_time_reversal(frames):
    tau = torch.linspace(0, frames - 1, 7, dtype=torch.float64)
    e = embedded(1).expand(7, -1)
    block = trained()
    forward, backward = block.weights(tau, frames, e), block.weights(frames - 1 - tau, frames, e)
    assert torch.allclose(forward, backward.flip(1), atol=1e-12)


def test_two_frames_are_degenerate_and_refused():
    basis = cosine_basis(torch.tensor([0.5]), 2)
    assert abs(basis[0, 1]) < 1e-15, "the only varying basis function vanishes half-way"
    with pytest.raises(InputError, match="at least 3 input frames and got 2"):
        tdim()(torch.rand(1, 2, 2, 3, 3), torch.tensor([0.5]), embedded(1))


def test_zero_kappa_rings_and_decay_restores_the_maximum_principle():
    tau = torch.linspace(0, 3, 61, dtype=torch.float64)
    step = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    cosine = CosineInterpolation(1, 6).weights(tau, 4, embedded(61))[..., 0] @ step
    assert cosine.max() > 1.1
    half = CosineInterpolation(1, 6).weights(torch.tensor([0.5, 1.5], dtype=torch.float64), 4, embedded(2))[..., 0]
    expected = torch.tensor([[0.441, 0.712, -0.212, 0.059], [-0.104, 0.604, 0.604, -0.104]], dtype=torch.float64)
    assert torch.allclose(half, expected, atol=1e-3)
    damped = tdim(0.2).weights(tau, 4, embedded(61))
    assert damped.min() > -5e-3
    at_outputs = tdim(0.2).weights(torch.arange(7, dtype=torch.float64) / 2, 4, embedded(7))
    assert at_outputs.min() > -1e-3


def test_anchoring_leaves_the_input_frames_undamped():
    block = trained(anchor_observed=True)
    weights = block.weights(torch.arange(4, dtype=torch.float64), 4, embedded(4))
    assert torch.allclose(weights[..., 0], torch.eye(4, dtype=torch.float64), atol=1e-12)


def test_scales_share_the_outputs_at_common_times():
    """With a kappa that does not depend on the scale, x2, x4 and x8 agree where their times agree."""
    block = tdim(0.3)
    features = torch.randn(1, 4, 2, 3, 3, dtype=torch.float64)
    outputs = {s: block(features, torch.arange(3 * s + 1) / s, embedded(3 * s + 1)) for s in (2, 4, 8)}
    assert torch.allclose(outputs[2], outputs[4][:, ::2], atol=1e-12)
    assert torch.allclose(outputs[4], outputs[8][:, ::2], atol=1e-12)


def test_kappa_learns():
    block, tau = tdim(), torch.tensor([0.5, 1.0], dtype=torch.float64)
    block(torch.randn(1, 4, 2, 3, 3, dtype=torch.float64), tau, embedded(2)).square().sum().backward()
    assert block.mlp[-1].bias.grad.abs().sum() > 0


@pytest.mark.parametrize("tau", [[-0.1, 1.0], [0.0, 3.01]])
@pytest.mark.parametrize("member", [LinearInterpolation, CosineInterpolation, ThermalDiffusionInterpolation])
def test_times_out_of_range_are_refused(member, tau):
    with pytest.raises(InputError, match=r"must lie in \[0, 3\]"):
        member(2, 6)(torch.rand(1, 4, 2, 3, 3), torch.tensor(tau), embedded(2).float())


def test_linear_interpolation_blends_neighbours():
    frames = torch.tensor([0.0, 1.0, 4.0]).reshape(1, 3, 1, 1, 1)
    out = LinearInterpolation(1, 6)(frames, torch.tensor([0.0, 0.5, 1.25, 2.0]), embedded(4))
    assert torch.allclose(out.flatten(), torch.tensor([0.0, 0.5, 1.75, 4.0]))


@pytest.mark.parametrize("member", TemporalInterpolation.__subclasses__())
def test_every_member_in_half_precision_and_backward(member):
    torch.manual_seed(0)
    block, theta = member(4, 8), TimeEmbedding(8)
    features = torch.rand(2, 4, 4, 5, 7, requires_grad=True)
    tau = torch.arange(7) / 2
    full = block(features, tau, theta(tau, 4, 2))
    assert full.shape == (2, 7, 4, 5, 7)
    full.sum().backward()
    assert torch.isfinite(features.grad).all()
    with torch.autocast("cpu", torch.bfloat16):
        half = block(features, tau, theta(tau, 4, 2))
    assert (half - full).abs().max() < 0.03
    copy = member(4, 8)
    copy.load_state_dict(block.state_dict())
    assert torch.equal(copy(features, tau, theta(tau, 4, 2)), full)


def test_time_features():
    features = time_features(torch.tensor([0.0, 0.5, 1.0]), 4, 2)
    assert features.shape == (3, 20) and features.dtype == torch.float64
    assert features[:, -2].tolist() == [1, 0, 1]
    assert features[:, -1].tolist() == [0, 0.5, 0]
    assert features[:, 16:18].tolist() == [[0.5, 1.0]] * 3


@pytest.mark.parametrize("frames", [4, 6, 9])
def test_training_reaches_every_knot(frames):
    block = trained()
    tau = torch.linspace(0, frames - 1, 2 * frames - 1, dtype=torch.float64)
    block.weights(tau, frames, embedded(len(tau))).square().sum().backward()
    last = block.mlp[-1].bias.grad.reshape(2, block.knots)
    assert (last.abs() > 0).all(), "a knot that training does not see is read at other lengths"
