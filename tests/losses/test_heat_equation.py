import math

import pytest
import torch

from lit_thermal.errors import InputError
from lit_thermal.losses.gradient_ratio import gradient_ratio
from lit_thermal.losses.heat_equation import ExcessHeatEquationLoss, HeatEquationLoss, HeatLoss, fit_diffusivity
from lit_thermal.losses.pixel import Charbonnier, MeanAbsoluteError, PixelLoss
from lit_thermal.ops.heat_equation import edge_weight, heat_residual, laplacian


def cosine_modes(diffusivity: float, frames: int = 9, size: int = 16) -> torch.Tensor:
    """An exact solution of the space-discrete heat equation: cosines on the half-sample grid, decaying."""
    y, x = torch.meshgrid(*[torch.arange(size, dtype=torch.float64)] * 2, indexing="ij")
    video = torch.full((1, frames, 1, size, size), 0.5, dtype=torch.float64)
    for amplitude, (n, m) in [(0.2, (1, 0)), (0.1, (2, 1)), (0.05, (0, 3))]:
        mode = torch.cos(math.pi * n * (y + 0.5) / size) * torch.cos(math.pi * m * (x + 0.5) / size)
        rate = sum(2 - 2 * math.cos(math.pi * k / size) for k in (n, m))
        times = torch.arange(frames, dtype=torch.float64)
        video += amplitude * torch.exp(-diffusivity * rate * times)[None, :, None, None, None] * mode
    return video


def test_cosines_are_eigenvectors_of_the_laplacian_with_zero_flux():
    mode = cosine_modes(0.2)[:, 0] - 0.5
    n = torch.cos(math.pi * (torch.arange(16, dtype=torch.float64) + 0.5) / 16)[:, None].expand(16, 16)
    assert torch.allclose(laplacian(n), -(2 - 2 * math.cos(math.pi / 16)) * n, atol=1e-14)
    assert abs(float(laplacian(mode).sum())) < 1e-12, "no heat is lost through the border"


def test_an_exact_solution_has_almost_no_residual_only_at_its_diffusivity():
    video = cosine_modes(0.2)
    right, low, high = (heat_residual(video, d, dt=1.0).square().mean() for d in (0.2, 0.1, 0.3))
    assert right < 1e-10
    assert low > 1000 * right and high > 1000 * right


def test_least_squares_recovers_the_diffusivity():
    video = cosine_modes(0.2)
    change = (video[:, 2:] - video[:, :-2]) / 2
    lap = laplacian(video[:, 1:-1])
    assert float((change * lap).sum() / lap.square().sum()) == pytest.approx(0.2, abs=1e-3)


@pytest.mark.parametrize("start, sign", [(0.1, -1), (0.3, 1)])
def test_gradient_moves_the_diffusivity_towards_the_truth(start, sign):
    loss = HeatEquationLoss(diffusivity=start)
    video = cosine_modes(0.2)
    loss(video, video, temporal_scale=2).backward()
    assert math.copysign(1, loss.raw_diffusivity.grad) == sign


def test_time_step_follows_the_temporal_scale():
    """The same heat flow sampled twice as finely has the same diffusivity per x2 step."""
    fine = cosine_modes(0.1, frames=17)
    loss = HeatEquationLoss(diffusivity=0.2)
    assert loss(fine[:, ::2], fine[:, ::2], temporal_scale=2) < 1e-8
    assert loss(fine, fine, temporal_scale=4) < 1e-8
    assert loss(fine, fine, temporal_scale=2) > 1e-6


def test_edges_weigh_less():
    flat = torch.full((1, 1, 1, 8, 8), 0.5)
    assert torch.equal(edge_weight(flat, 100.0), torch.ones_like(flat))
    edge = flat.clone()
    edge[..., 4:] = 0.9
    weight = edge_weight(edge, 100.0)
    assert torch.allclose(weight[..., 3], torch.full((8,), math.exp(-100 * 0.2**2)))
    assert (weight[..., :3] == 1).all()


def test_diffusivity_stays_positive_and_above_its_floor():
    loss = HeatEquationLoss(diffusivity=0.1, least_diffusivity=0.02)
    assert loss.diffusivity.item() == pytest.approx(0.1, abs=1e-6)
    with torch.no_grad():
        loss.raw_diffusivity.fill_(-50)
    assert loss.diffusivity.item() == pytest.approx(0.02)
    assert not HeatEquationLoss(learnable=False).raw_diffusivity.requires_grad


def test_fewer_than_three_frames_are_skipped():
    video = torch.rand(1, 2, 1, 4, 4)
    assert HeatEquationLoss()(video, video, 2) == 0


def test_computed_in_single_precision_under_autocast():
    video = cosine_modes(0.2).float()
    loss = HeatEquationLoss()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(video, video, 2), HeatEquationLoss()(video, video, 2))


def test_power_one():
    video = cosine_modes(0.2)
    expected = (edge_weight(video[:, 1:-1], 100.0) * heat_residual(video, 0.1, 1.0).abs()).mean()
    assert torch.allclose(HeatEquationLoss(power=1)(video, video, 2), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "options, match",
    [({"diffusivity": 0.0}, "must be above"), ({"power": 3}, "1 or 2"), ({"least_diffusivity": -1}, ">= 0")],
)
def test_bad_arguments(options, match):
    with pytest.raises(InputError, match=match):
        HeatEquationLoss(**options)


@pytest.mark.parametrize("member", HeatLoss.__subclasses__())
def test_every_heat_loss(member):
    loss, target = member(), torch.rand(2, 5, 1, 8, 8)
    video = torch.rand(2, 5, 1, 8, 8, requires_grad=True)
    value = loss(video, target, 2)
    value.backward()
    assert value.shape == () and value > 0 and torch.isfinite(video.grad).all() and video.grad.abs().sum() > 0
    assert loss.diffusivity.shape == () and loss.diffusivity >= 0
    assert loss(video[:, :2], target[:, :2], 2) == 0
    other = member()
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other(video, target, 2), value)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(video, target, 2), value)
    with pytest.raises(InputError, match="1 or 2"):
        member(power=3)


def test_fit_of_each_clip():
    video = torch.cat([cosine_modes(0.2), cosine_modes(0.05), 1 - cosine_modes(0.2).flip(1)])
    weight = torch.ones_like(video[:, 1:-1])
    found = fit_diffusivity(video, weight, dt=1.0)
    assert found.shape == (3, 1, 1, 1, 1)
    # Heat that flows backwards in time has no diffusivity.
    assert found.flatten().tolist() == pytest.approx([0.2, 0.05, 0], abs=1e-3)
    assert fit_diffusivity(torch.ones_like(video), weight, 1.0).abs().max() == 0


@pytest.mark.parametrize("power", [1, 2])
def test_the_excess_is_that_over_the_target(power):
    generator = torch.Generator().manual_seed(0)
    target, video = (torch.rand(1, 5, 1, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    loss = ExcessHeatEquationLoss(power=power)
    assert loss(target, target, 2) == 0, "whatever moves in it"
    weight = edge_weight(target[:, 1:-1], 100.0)
    diffusivity = fit_diffusivity(target, weight, 1.0)
    ours, theirs = (heat_residual(frames, diffusivity, 1.0).abs() for frames in (video, target))
    expected = (weight * torch.where(ours > theirs, ours - theirs, 0.0) ** power).mean()
    torch.testing.assert_close(loss(video, target, 2), expected)
    assert loss.diffusivity == diffusivity.mean()
    # A still sequence violates nothing that the target does not, so it is free where D is 0; the literal form is not.
    backwards = cosine_modes(0.2).flip(1)
    still = backwards.mean(1, keepdim=True).expand_as(backwards)
    assert ExcessHeatEquationLoss()(still, backwards, 2) == 0 < HeatEquationLoss()(still, backwards, 2)


def test_the_excess_is_differentiable():
    target, video = (torch.rand(1, 4, 1, 4, 4, dtype=torch.float64) for _ in range(2))
    loss = ExcessHeatEquationLoss()
    assert torch.autograd.gradcheck(lambda v: loss(v, target, 2), (video.requires_grad_(),))
    assert not list(loss.parameters()) and not loss.state_dict()


def test_ratio_of_gradients():
    output = torch.rand(3, 5, requires_grad=True)
    reference, loss = 2 * output.sum(), output.square().sum()
    ratio = gradient_ratio(reference, loss, output)
    assert not ratio.requires_grad
    assert float(ratio) == pytest.approx(15**0.5 / float(output.detach().norm()))
    assert gradient_ratio(reference, (0 * output).sum(), output) == 0
    assert gradient_ratio(reference, output.new_zeros(()), output) == 0
    (reference + ratio * loss).backward()
    pulls = (torch.full_like(output, 2), output.detach() * 2 * ratio)
    torch.testing.assert_close(output.grad, sum(pulls))
    torch.testing.assert_close(pulls[0].norm(), pulls[1].norm())


@pytest.mark.parametrize("member", PixelLoss.__subclasses__())
def test_pixel_losses_are_means(member):
    a, b = torch.rand(1, 3, 1, 4, 4), torch.rand(1, 3, 1, 4, 4)
    loss = member()
    assert torch.allclose(loss(a, b), loss(a.repeat(2, 1, 1, 3, 3), b.repeat(2, 1, 1, 3, 3)))
    assert loss(a, a) <= 1e-3 and loss(a, b) > 0.01


def test_charbonnier_is_close_to_the_mean_absolute_error():
    a, b = torch.rand(2, 1, 3, 1, 8, 8)
    assert Charbonnier()(a, b) == pytest.approx(float(MeanAbsoluteError()(a, b)), abs=1e-3)
