"""What holds for each member of the family of temporal interpolations, in whichever file it stands."""

import inspect

import pytest
import torch

from lit_thermal.blocks.temporal_interpolation import TemporalInterpolation
from lit_thermal.blocks.time_embedding import TimeEmbedding
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize

DIM, EMBEDDING = 4, 8
TAU = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])


def members(base=TemporalInterpolation):
    found = [] if inspect.isabstract(base) else [base]
    return found + [member for child in base.__subclasses__() for member in members(child)]


every = pytest.mark.parametrize("member", members(), ids=lambda member: member.__name__)


def made(member, seed=0, trained=False):
    torch.manual_seed(seed)
    block = member(DIM, EMBEDDING)
    if trained:
        for parameter in block.parameters():
            torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim > 1 else None
    return block


def clip(batch=2, count=4, channels=1, size=(10, 12), seed=0):
    """Frames of a smooth scene that changes."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, count, channels, max(size[0] // 3, 1), max(size[1] // 3, 1), generator=g)
    return resize(coarse, size).clamp(0, 1)


def run(block, frames, tau=TAU, features=None, scale=2, rough=False):
    torch.manual_seed(9)
    theta = TimeEmbedding(EMBEDDING)
    features = frames.mean(2, keepdim=True).expand(-1, -1, DIM, -1, -1) if features is None else features
    size = tuple(scale * side for side in frames.shape[-2:])
    weight = next(block.parameters(), theta.expand.weight)
    embedded = theta(tau, frames.shape[1], 2).to(weight)
    enlarged = resize(frames, size)
    with torch.autocast("cpu", torch.bfloat16, enabled=rough):
        return block.interpolate(features, frames, enlarged, tau, embedded)


@every
def test_there_is_a_docstring_and_the_defaults_suffice(member):
    block = made(member)
    assert member.__doc__ and block.dim == DIM and block.least_frames >= 1


@every
@pytest.mark.parametrize("size", [(10, 12), (7, 9), (5, 31), (1, 1)])
def test_shapes_and_gradients_at_any_size(member, size):
    block, frames = made(member, trained=True), clip(size=size)
    features = torch.randn(2, 4, DIM, *size, requires_grad=True)
    mixed, base = run(block, frames, features=features)
    assert mixed.shape == (2, 7, DIM, *size) and base.shape == (2, 7, 1, 2 * size[0], 2 * size[1])
    (mixed.square().sum() + base.square().sum()).backward()
    assert mixed.isfinite().all() and base.isfinite().all() and features.grad.isfinite().all()
    assert features.grad.abs().sum() > 0
    if size == (10, 12):
        for name, parameter in block.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


@every
def test_linear_form_has_the_shape_of_the_features(member):
    block, features = made(member), torch.rand(2, 4, DIM, 5, 7, requires_grad=True)
    theta = TimeEmbedding(EMBEDDING)
    result = block(features, TAU, theta(TAU, 4, 2))
    assert result.shape == (2, 7, DIM, 5, 7)
    result.sum().backward()
    assert features.grad.isfinite().all()
    weights = block.weights(TAU.double(), 4, theta(TAU, 4, 2))
    assert torch.allclose(weights.sum(dim=1), torch.ones(()).to(weights), atol=1e-5)


@every
@pytest.mark.parametrize("frames", [3, 5, 6])
def test_any_number_of_frames(member, frames):
    tau = torch.linspace(0, frames - 1, 6)
    mixed, base = run(made(member), clip(count=frames), tau)
    assert mixed.shape[:2] == base.shape[:2] == (2, 6) and mixed.isfinite().all()


@every
def test_half_precision_is_close(member):
    block, frames = made(member, trained=True), clip()
    exact = run(block, frames)
    rough = run(block, frames, rough=True)
    for one, two in zip(exact, rough, strict=True):
        assert (one - two).abs().max() < 0.06
    assert torch.allclose(exact[1][:, ::2], rough[1][:, ::2], atol=1e-6), "base frames are not rounded"


@every
@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.06), (torch.float64, 1e-3)])
def test_weights_of_any_precision(member, dtype, tolerance):
    block, frames = made(member), clip()
    expected = run(block, frames)
    found = run(block.to(dtype), frames.to(dtype))
    for one, two in zip(expected, found, strict=True):
        assert two.dtype == dtype and (one - two.float()).abs().mean() < tolerance


@every
def test_state_dict_round_trip(member):
    one, two, frames = made(member, trained=True), made(member, seed=1), clip()
    two.load_state_dict(one.state_dict(), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(run(one, frames), run(two, frames), strict=True))


@every
def test_a_constant_sequence_stays_constant(member):
    """Constant in time, not in space."""
    frames = clip(count=1).expand(-1, 4, -1, -1, -1).contiguous()
    features = torch.full((2, 4, DIM, 10, 12), 0.3)
    mixed, base = run(made(member), frames, features=features)
    assert torch.allclose(mixed, torch.tensor(0.3), atol=1e-5)
    assert torch.allclose(base, base[:, :1].expand_as(base), atol=1e-4)


@every
def test_base_images_at_input_frames_are_these(member):
    frames = clip()
    _, base = run(made(member, trained=True), frames)
    assert torch.allclose(base[:, ::2], resize(frames, (20, 24)), atol=1e-6)


@every
@pytest.mark.parametrize("tau", [[0.0], [3.0], [0.0, 3.0], [3.0, 0.25, 0.25]])
def test_times_at_the_ends_alone_and_in_any_order(member, tau):
    block, frames = made(member, trained=True), clip()
    together = run(block, frames, torch.tensor(tau))
    for index, time in enumerate(tau):
        alone = run(block, frames, torch.tensor([time]))
        for one, two in zip(together, alone, strict=True):
            assert torch.allclose(one[:, index : index + 1], two, atol=1e-4)


@every
def test_samples_do_not_mix(member):
    block, frames = made(member, trained=True), clip()
    for together, alone in zip(run(block, frames), run(block, frames[:1]), strict=True):
        assert torch.allclose(together[:1], alone, atol=1e-4)


@every
def test_frames_of_several_channels(member):
    mixed, base = run(made(member), clip(channels=3))
    assert mixed.shape == (2, 7, DIM, 10, 12) and base.shape == (2, 7, 3, 20, 24)


@every
def test_only_input_times(member):
    """Space only: each input frame is restored, and none between them."""
    mixed, base = run(made(member), clip(), torch.arange(4.0))
    assert mixed.shape[1] == 4 and torch.allclose(base, resize(clip(), (20, 24)), atol=1e-6)


@every
def test_too_few_frames_and_times_outside_are_told(member):
    block = made(member)
    with pytest.raises(InputError, match=r"output times must lie in \[0, 3\]"):
        run(block, clip(), torch.tensor([3.2]))
    if block.least_frames > 1:
        with pytest.raises(InputError, match=f"at least {block.least_frames} input frames"):
            run(block, clip(count=block.least_frames - 1), torch.tensor([0.5]))
