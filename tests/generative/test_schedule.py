"""Schedules against the published tables, Bayes' rule and the papers' formulas, in float64."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from lit_thermal.errors import InputError
from lit_thermal.generative.schedule import ResidualShift, Schedule, VariancePreserving

FEW = {"steps": 20, "beta_start": 0.01, "beta_end": 0.6}
"""Betas that end in noise after 20 steps."""
MEMBERS = [ResidualShift(), VariancePreserving(), VariancePreserving(**FEW)]
PREDICTIONS = ["x0", "residual", "noise", "scaled_noise"]


assert {type(member) for member in MEMBERS} == set(Schedule.__subclasses__())


def latents(batch: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    x0, y, noise = torch.randn(3, batch, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x0.to(dtype), y.to(dtype), noise.to(dtype)


def some(schedule: Schedule) -> Tensor:
    last = schedule.steps - 1
    return torch.tensor([0, 1, last // 2, last])


def test_residual_shift_has_the_released_numbers() -> None:
    schedule = ResidualShift()
    at = [0, 1, 2, 3, 4, 7, 10, 13, 14]
    root = [0.02, 0.117165, 0.176305, 0.233629, 0.291574, 0.475858, 0.680658, 0.908606, 0.99]
    eta = [0.0004, 0.013728, 0.031083, 0.054582, 0.085015, 0.226441, 0.463295, 0.825566, 0.9801]
    torch.testing.assert_close(schedule.s[at] / 2, torch.tensor(root, dtype=torch.float64), atol=5e-7, rtol=0)
    torch.testing.assert_close(schedule.b[at], torch.tensor(eta, dtype=torch.float64), atol=5e-7, rtol=0)
    assert torch.equal(schedule.a, 1 - schedule.b) and schedule.a.dtype == torch.float64
    scaled = schedule.scale_input(torch.ones(1, 1, 1, 1), 14)
    assert 1 / float(scaled) == pytest.approx(2.218197, abs=1e-6)
    pixel = ResidualShift(normalize="pixel").scale_input(torch.ones(1, 1, 1, 1), 14)
    assert 1 / float(pixel) == pytest.approx(3 * 2 * 0.99 + 1, abs=1e-5)
    # The journal version of ResShift: 4 steps from min(0.2 / 2, 0.2, sqrt(0.001)).
    assert float(ResidualShift(steps=4, minimum=0.2).s[0]) == pytest.approx(2 * math.sqrt(0.001))


def test_deterministic_step_has_the_published_coefficients() -> None:
    schedule = ResidualShift()
    eta = schedule.b.tolist()
    unit = torch.eye(3, dtype=torch.float64).view(3, 3, 1, 1, 1)
    for t in range(15):
        # Coefficients of x0, x_t and y: the step of unit vectors.
        k, m, j = (float(schedule.step(x, x0, y, t, t - 1, None, eta=0.0)[0]) for x0, x, y in unit.unbind(1))
        before = eta[t - 1] if t else 0.0
        expected_m = math.sqrt(before / eta[t])
        expected_j = before - math.sqrt(before * eta[t])
        expected_k = 1 - before + math.sqrt(before * eta[t]) - expected_m
        assert (k, m, j) == pytest.approx((expected_k, expected_m, expected_j), abs=1e-12)
    assert (k, m, j) == pytest.approx((0.156171, 0.917784, -0.073955), abs=1e-6)


def test_residual_shift_posterior_is_the_papers() -> None:
    schedule = ResidualShift()
    x0, y, x = latents(14)
    t = torch.arange(1, 15)
    eta, before = schedule.b[1:].view(-1, 1, 1, 1), schedule.b[:-1].view(-1, 1, 1, 1)
    mean, variance = schedule.posterior(x, x0, y, t, t - 1)
    torch.testing.assert_close(mean, before / eta * x + (eta - before) / eta * x0, atol=1e-12, rtol=0)
    torch.testing.assert_close(variance, 4 * before / eta * (eta - before), atol=1e-13, rtol=0)
    mean, variance = schedule.posterior(x, x0, y, 0, -1)
    assert torch.equal(mean, x0) and not variance.any()


@pytest.mark.parametrize("schedule", MEMBERS)
def test_posterior_is_bayes_rule_for_any_jump(schedule: Schedule) -> None:
    """The joint Gaussian of both states, made from the chain step by step, conditioned on the later one."""
    x0, y, x = (float(v.flatten()[0]) for v in latents())
    last = schedule.steps - 1
    for t, previous in [(1, 0), (last, last - 1), (last, 0), (last // 2, last // 4)]:
        # Mean and variance of the state along the chain, and its covariance with the state at `previous`.
        mean, variance, covariance = x0, 0.0, 0.0
        for i in range(t + 1):
            if isinstance(schedule, ResidualShift):
                gain = 1.0
                step = float(schedule.b[i] - (schedule.b[i - 1] if i else 0))
                shift, added = step * (y - x0), step * 4
            else:
                beta = 1 - float((schedule.a[i] / (schedule.a[i - 1] if i else 1)) ** 2)
                gain, shift, added = math.sqrt(1 - beta), 0.0, beta
            mean, variance, covariance = gain * mean + shift, gain**2 * variance + added, gain * covariance
            if i == previous:
                covariance, earlier = variance, (mean, variance)
        one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        state = schedule.add_noise(x0 * one, y * one, 0 * one, t)
        assert (float(state), float(schedule.s[t] ** 2)) == pytest.approx((mean, variance), abs=1e-10)
        found, spread = schedule.posterior(x * one, x0 * one, y * one, t, previous)
        assert float(found) == pytest.approx(earlier[0] + covariance / variance * (x - mean), abs=1e-10)
        assert float(spread) == pytest.approx(earlier[1] - covariance**2 / variance, abs=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_variance_preserving_follows_the_papers_equations(eta: float) -> None:
    schedule = VariancePreserving()
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha = torch.cat([(1 - beta).cumprod(0), torch.ones(1, dtype=torch.float64)])
    x0, y, eps = latents()
    z = eps.flip(0)
    t = torch.tensor([999, 500, 30, 0])
    previous = torch.tensor([998, 200, 0, -1])
    now, before = alpha[t].view(-1, 1, 1, 1), alpha[previous].view(-1, 1, 1, 1)
    x = now.sqrt() * x0 + (1 - now).sqrt() * eps  # eq. 1
    torch.testing.assert_close(schedule.add_noise(x0, y, eps, t), x, atol=1e-12, rtol=0)
    estimate = (x - (1 - now).sqrt() * eps) / now.sqrt()  # eq. 5
    torch.testing.assert_close(schedule.clean(eps, x, y, t, "noise"), estimate, atol=1e-11, rtol=0)
    sigma = eta * ((1 - before) / (1 - now) * (1 - now / before)).sqrt()  # DDIM, eq. 16
    moved = before.sqrt() * x0 + (1 - before - sigma**2).sqrt() * eps + sigma * z  # eq. 4
    torch.testing.assert_close(schedule.step(x, x0, y, t, previous, z, eta), moved, atol=1e-10, rtol=0)
    if eta == 1.0:  # DDPM, eqs. 6 and 7, for single steps
        one = alpha[1:-1].view(-1, 1, 1, 1)[:4], alpha[:-2].view(-1, 1, 1, 1)[:4], beta[1:5].view(-1, 1, 1, 1)
        mean = one[1].sqrt() * one[2] / (1 - one[0]) * x0 + (1 - one[2]).sqrt() * (1 - one[1]) / (1 - one[0]) * x
        t = torch.arange(1, 5)
        found, variance = schedule.posterior(x, x0, y, t, t - 1)
        torch.testing.assert_close(found, mean, atol=1e-10, rtol=0)
        torch.testing.assert_close(variance, (1 - one[1]) / (1 - one[0]) * one[2], atol=1e-13, rtol=0)


@pytest.mark.parametrize("schedule", MEMBERS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_predictions_convert_there_and_back(schedule: Schedule, prediction: str) -> None:
    x0, y, noise = latents()
    t = some(schedule)
    x = schedule.add_noise(x0, y, noise, t)
    output = schedule.target(x0, y, noise, t, prediction)
    torch.testing.assert_close(schedule.clean(output, x, y, t, prediction), x0, atol=1e-10, rtol=0)
    torch.testing.assert_close(schedule.noise_of(x, x0, y, t), noise, atol=1e-10, rtol=0)
    torch.testing.assert_close(schedule.clean_of(x, noise, y, t), x0, atol=1e-10, rtol=0)
    if prediction == "scaled_noise":
        torch.testing.assert_close(output, schedule.noise_scale(t).double() * noise, atol=1e-6, rtol=0)


def test_conversions_of_the_residual_shift_are_the_papers() -> None:
    schedule = ResidualShift()
    x0, y, noise = latents()
    t = some(schedule)
    eta = schedule.b[t].view(-1, 1, 1, 1)
    x = x0 + eta * (y - x0) + 2 * eta.sqrt() * noise
    torch.testing.assert_close(schedule.add_noise(x0, y, noise, t), x, atol=1e-12, rtol=0)
    torch.testing.assert_close(
        schedule.noise_of(x, x0, y, t), (x - (1 - eta) * x0 - eta * y) / (2 * eta.sqrt()), atol=1e-11, rtol=0
    )
    torch.testing.assert_close(schedule.target(x0, y, noise, t, "residual"), y - x0)
    torch.testing.assert_close(schedule.start(y, noise), y + 1.98 * noise, atol=1e-12, rtol=0)
    torch.testing.assert_close(schedule.start(y, noise, 12), y + 2 * 0.829951 * noise, atol=1e-5, rtol=0)


def test_variance_preserving_starts_from_noise_and_leaves_the_input_as_it_is() -> None:
    schedule = VariancePreserving()
    _, y, noise = latents()
    torch.testing.assert_close(schedule.start(y, noise), noise, atol=1e-3, rtol=0)
    torch.testing.assert_close(schedule.start(y, noise, 10), schedule.s[10] * noise)
    assert torch.equal(schedule.scale_input(noise, 3), noise)


@pytest.mark.parametrize("schedule", MEMBERS)
def test_step_has_its_limits(schedule: Schedule) -> None:
    x0, y, noise = latents()
    t = some(schedule).clamp(min=2)
    previous = t // 2
    x = schedule.add_noise(x0, y, noise, t)
    # Without noise a state of the same x0 and noise; with all of it a draw of the posterior; never noise on the clean.
    torch.testing.assert_close(
        schedule.step(x, x0, y, t, previous, None, 0.0), schedule.add_noise(x0, y, noise, previous), atol=1e-10, rtol=0
    )
    mean, variance = schedule.posterior(x, x0, y, t, previous)
    torch.testing.assert_close(
        schedule.step(x, x0, y, t, previous, y, 1.0), mean + variance.sqrt() * y, atol=1e-12, rtol=0
    )
    for eta in (0.0, 1.0):
        torch.testing.assert_close(schedule.step(x, x0, y, t, -1, y, eta), x0, atol=1e-10, rtol=0)


@pytest.mark.parametrize("schedule", MEMBERS)
def test_inverse_undoes_the_deterministic_step(schedule: Schedule) -> None:
    constant, y, x = latents()
    for t in range(1, schedule.steps, max(1, schedule.steps // 20)):
        before = schedule.step(x, constant, y, t, t - 1, None, eta=0.0)
        torch.testing.assert_close(schedule.invert(before, constant, y, t, t - 1), x, atol=1e-9, rtol=0)


@pytest.mark.parametrize("schedule", MEMBERS)
def test_each_sample_has_its_own_index(schedule: Schedule) -> None:
    x0, y, noise = latents()
    t = some(schedule)
    together = schedule.add_noise(x0, y, noise, t)
    for i, index in enumerate(t.tolist()):
        one = slice(i, i + 1)
        assert torch.equal(schedule.add_noise(x0[one], y[one], noise[one], index), together[one])


@pytest.mark.parametrize("schedule", MEMBERS)
def test_half_precision_and_autocast_are_computed_in_float32(schedule: Schedule) -> None:
    exact = latents()
    t = some(schedule)
    for dtype in (torch.float32, torch.bfloat16):
        x0, y, noise = (v.to(dtype) for v in exact)
        with torch.autocast("cpu", torch.bfloat16):
            found = [
                schedule.add_noise(x0, y, noise, t),
                schedule.start(y, noise),
                schedule.clean_of(noise, noise, y, t) * schedule.a[t].view(-1, 1, 1, 1).float(),
                schedule.noise_of(noise, x0, y, t) * schedule.s[t].view(-1, 1, 1, 1).float(),
                schedule.posterior(noise, x0, y, t, t - 1)[0],
                schedule.step(noise, x0, y, t, t - 1, y, 0.5),
                *(schedule.target(x0, y, noise, t, p) for p in PREDICTIONS),
            ]
        x0, y, noise = (v.double() for v in (x0, y, noise))
        true = [
            schedule.add_noise(x0, y, noise, t),
            schedule.start(y, noise),
            schedule.clean_of(noise, noise, y, t) * schedule.a[t].view(-1, 1, 1, 1),
            schedule.noise_of(noise, x0, y, t) * schedule.s[t].view(-1, 1, 1, 1),
            schedule.posterior(noise, x0, y, t, t - 1)[0],
            schedule.step(noise, x0, y, t, t - 1, y, 0.5),
            *(schedule.target(x0, y, noise, t, p) for p in PREDICTIONS),
        ]
        for low, high in zip(found, true, strict=True):
            # The values are those of the rounded tensors to float32, though the tensors are of half precision.
            assert low.dtype == torch.float32
            torch.testing.assert_close(low.double(), high, atol=3e-6, rtol=1e-6)
    assert schedule.noise_scale(t).dtype == torch.float32 and schedule.noise_scale(t).shape == (4, 1, 1, 1)


def test_gradients_reach_what_they_should() -> None:
    schedule = ResidualShift()
    x0, y, noise = latents()
    x0.requires_grad_()
    t = some(schedule)
    schedule.add_noise(x0, y, noise, t).sum().backward()
    torch.testing.assert_close(x0.grad, schedule.a[t].view(-1, 1, 1, 1).expand_as(x0))


def test_casting_a_module_does_not_change_its_schedule() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = ResidualShift()
            self.layer = nn.Linear(1, 1)

    module = Holder()
    with torch.inference_mode():  # a validation before the first training step
        module.schedule.noise_scale(torch.tensor([3]))
    cast = copy.deepcopy(module).to(torch.bfloat16)
    for name in ("a", "b", "s"):
        assert torch.equal(getattr(cast.schedule, name), getattr(ResidualShift(), name))
    assert set(module.state_dict()) == {"layer.weight", "layer.bias"}
    x = torch.zeros(1, 1, 1, 1, requires_grad=True)
    (cast.schedule.scale_input(x, torch.tensor([3])) * x).sum().backward()


def test_fewer_steps_are_spread_over_the_schedule() -> None:
    schedule = ResidualShift()
    assert schedule.respaced(5) == [0, 3, 6, 9, 12]
    assert schedule.respaced(15) == list(range(15)) and schedule.respaced(1) == [0]
    for count in range(1, 16):
        assert schedule.respaced(count) == [int(15 / count * i) for i in range(count)]
    for count in (0, 16):
        with pytest.raises(InputError, match=f"{count} steps .* schedule of 15; give the sampler 1 to 15 steps"):
            schedule.respaced(count)


@pytest.mark.parametrize("schedule", MEMBERS)
def test_noise_grows_and_the_image_fades(schedule: Schedule) -> None:
    assert (schedule.s.diff() > 0).all() and (schedule.a.diff() < 0).all()
    assert len(schedule.a) == len(schedule.b) == len(schedule.s) == schedule.steps


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ResidualShift(steps=1), "at least 2 steps"),
        (lambda: ResidualShift(end=1.0), "0 < end < 1"),
        (lambda: ResidualShift(kappa=float("nan")), "positive kappa"),
        (lambda: ResidualShift(minimum=0.1, kappa=0.5, end=0.01), "larger end"),
        (lambda: ResidualShift(normalize="none"), "latent, pixel"),
        (lambda: VariancePreserving(beta_start=0.1, beta_end=0.01), "beta_start <= beta_end"),
        (lambda: VariancePreserving(steps=15), "leaves 93% of the image"),
        (lambda: ResidualShift().clean(*latents(), 3, "v"), "x0, residual, noise, scaled_noise"),
    ],
)
def test_bad_input_is_one_sentence(make, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make()
