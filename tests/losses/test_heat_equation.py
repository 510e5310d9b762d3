import math

import pytest
import torch

from lit_thermal.errors import InputError
from lit_thermal.losses.heat_equation import HeatEquationLoss
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


@pytest.mark.parametrize("member", PixelLoss.__subclasses__())
def test_pixel_losses_are_means(member):
    a, b = torch.rand(1, 3, 1, 4, 4), torch.rand(1, 3, 1, 4, 4)
    loss = member()
    assert torch.allclose(loss(a, b), loss(a.repeat(2, 1, 1, 3, 3), b.repeat(2, 1, 1, 3, 3)))
    assert loss(a, a) <= 1e-3 and loss(a, b) > 0.01


def test_charbonnier_is_close_to_the_mean_absolute_error():
    a, b = torch.rand(2, 1, 3, 1, 8, 8)
    assert Charbonnier()(a, b) == pytest.approx(float(MeanAbsoluteError()(a, b)), abs=1e-3)
