"""Refiners: the diffusion's loss and chain against plain formulas in float64, and what is learnt."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from lit_thermal.errors import InputError
from lit_thermal.generative import token_refiner
from lit_thermal.generative.noise import SeededNoise
from lit_thermal.generative.token_refiner import (
    DiffusionRefiner,
    NoRefiner,
    Refiner,
    amplitudes,
    variational_bound,
)

MEMBERS: list[type[Refiner]] = [NoRefiner, DiffusionRefiner]
DIM, WIDTH = 3, 6


def made(**options) -> DiffusionRefiner:
    """Return a small refiner none of whose parameters is zero."""
    torch.manual_seed(0)
    refiner = DiffusionRefiner(DIM, WIDTH, **{"hidden": 8, "blocks": 2, **options})
    for parameter in refiner.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return refiner


def conditions(count: int = 2, places: int = 4) -> Tensor:
    return torch.randn(count, places, WIDTH, generator=torch.Generator().manual_seed(1))


def betas() -> list[float]:
    """Return those of the cosine schedule, as it is printed."""

    def kept(share: float) -> float:
        return math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(0.999, 1 - kept((t + 1) / 1000) / kept(t / 1000)) for t in range(1000)]


def known(x: Tensor, clean: Tensor, t: int, before: int) -> tuple[Tensor, float, float]:
    """Mean and variance of an earlier state given the later one and the residual, by Bayes, and the noise between.

    The product of two Gaussians: what the residual says of the earlier state, and what the later one says of it.
    """
    steps = betas()
    kept = math.prod(1 - beta for beta in steps[: before + 1])
    left = math.prod(1 - beta for beta in steps[before + 1 : t + 1])
    if before < 0:
        return clean, 0.0, 1 - left
    precision = 1 / (1 - kept) + left / (1 - left)
    mean = (math.sqrt(kept) * clean / (1 - kept) + math.sqrt(left) * x / (1 - left)) / precision
    return mean, 1 / precision, 1 - left


def clean_of(x: Tensor, noise: Tensor, t: int) -> Tensor:
    kept = math.prod(1 - beta for beta in betas()[: t + 1])
    return (x - math.sqrt(1 - kept) * noise) / math.sqrt(kept)


def test_size_of_the_published_one() -> None:
    with torch.device("meta"):
        refiner = DiffusionRefiner(32, 1536)
    count = sum(parameter.numel() for parameter in refiner.denoiser.parameters())
    assert count == 36_573_248 and round(count / 1e6, 1) == 36.6
    assert (refiner.steps, refiner.repeats, refiner.weight) == (10, 4, 2.0)


def test_states_go_from_clean_to_noise() -> None:
    signal, spread = amplitudes(torch.tensor([0, 250, 999]))
    torch.testing.assert_close(signal**2 + spread**2, torch.ones(3, dtype=torch.float64))
    quarter = math.cos((0.251 + 0.008) / 1.008 * math.pi / 2)
    assert signal[0] > 0.9999 and signal[1].item() == pytest.approx(quarter, rel=1e-4) and signal[2] < 1e-4


@pytest.mark.parametrize("t", [0, 1, 2, 500, 998, 999])
def test_bound_is_that_of_the_distributions(t) -> None:
    draws = torch.randn(4, 1, 2, DIM, generator=torch.Generator().manual_seed(t), dtype=torch.float64)
    clean, noise, predicted, share = draws
    signal, spread = (a.item() for a in amplitudes(torch.tensor(t)))
    # near enough for the density at the first state to be no huge number
    predicted = noise + 0.1 * predicted
    x = signal * clean + spread * noise
    mean, variance, between = known(x, clean, t, t - 1)
    guess, _, _ = known(x, clean_of(x, predicted, t), t, t - 1)
    least = variance or known(x, clean, 1, 0)[1]
    own = Normal(
        guess, torch.exp(torch.lerp(x.new_tensor(least).log(), x.new_tensor(between).log(), (share + 1) / 2)).sqrt()
    )
    nats = -own.log_prob(clean) if t == 0 else kl_divergence(Normal(mean, math.sqrt(variance)), own)
    bound = variational_bound(predicted - noise, share, torch.full((1, 2), t))
    torch.testing.assert_close(bound, nats.mean() / math.log(2), rtol=1e-4, atol=1e-6)


def test_bound_is_least_where_the_error_is_as_large_as_the_variance_says() -> None:
    t = torch.full((1, 1), 400)
    share = torch.zeros(1, 1, DIM, dtype=torch.float64, requires_grad=True)
    error = torch.zeros(1, 1, DIM, dtype=torch.float64)
    falling = torch.autograd.grad(variational_bound(error, share, t), share)[0]
    rising = torch.autograd.grad(variational_bound(error + 10, share, t), share)[0]
    assert (falling > 0).all() and (rising < 0).all()


def test_loss_is_noise_and_bound_and_the_bound_trains_the_variance_alone(monkeypatch) -> None:
    refiner, condition = made(), conditions().requires_grad_()
    residual = torch.randn(2, 4, DIM, generator=torch.Generator().manual_seed(2))
    gradients = []
    for _ in range(2):
        refiner.zero_grad()
        torch.manual_seed(3)
        loss = refiner.loss(condition, residual)
        loss.backward()
        gradients.append((loss.item(), refiner.denoiser.out.bias.grad))
        monkeypatch.setattr(token_refiner, "variational_bound", lambda error, share, t: 7 + 0 * share.sum())
    (_, whole), (noise_only, without) = gradients
    torch.testing.assert_close(whole[:DIM], without[:DIM])
    assert (without[DIM:] == 0).all() and (whole[DIM:] != 0).all()
    torch.manual_seed(3)
    t, noise = torch.randint(1000, (8, 4)), torch.randn(8, 4, DIM)
    signal, spread = (a[..., None].float() for a in amplitudes(t))
    x = signal * residual.repeat(4, 1, 1) / 0.6 + spread * noise
    predicted = refiner.denoiser(x, t, refiner.norm(condition).repeat(4, 1, 1))[..., :DIM]
    assert noise_only == pytest.approx((predicted - noise).square().mean().item() + 7, rel=1e-5)
    assert condition.grad.abs().sum() > 0


def test_every_parameter_learns() -> None:
    refiner = made()
    refiner.loss(conditions(), torch.randn(2, 4, DIM)).backward()
    for name, parameter in refiner.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_chain_is_the_plain_one() -> None:
    refiner, condition = made(), conditions()
    normalised = refiner.norm(condition)
    generators = SeededNoise([5, 6]).generators
    x = torch.stack([torch.randn(DIM, 4, generator=g) for g in generators]).mT.double()
    with torch.no_grad():
        for t in range(900, -1, -100):
            output = refiner.denoiser(x.float(), torch.full((2, 4), t), normalised).double()
            predicted, share = output.chunk(2, -1)
            mean, variance, between = known(x, clean_of(x, predicted, t), t, t - 100 if t else -1)
            x = mean
            if t:
                drawn = torch.stack([torch.randn(DIM, 4, generator=g) for g in generators]).mT
                logs = torch.lerp(*(torch.full_like(x, v).log() for v in (variance, between)), (share + 1) / 2)
                x = x + (logs / 2).exp() * drawn
    torch.testing.assert_close(refiner.draw(condition, SeededNoise([5, 6])).double(), 0.6 * x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("member", MEMBERS)
def test_images_and_their_noise_by_themselves(member) -> None:
    refiner, condition = made() if member is DiffusionRefiner else member(DIM, WIDTH), conditions()
    drawn = refiner.draw(condition, SeededNoise([5, 6]))
    loss = refiner.loss(condition, torch.full((2, 4, DIM), 1e3))
    assert loss.shape == () and loss.isfinite()
    if drawn is None:
        assert refiner.weight == 0 == loss
        return
    assert drawn.shape == (2, 4, DIM) and drawn.isfinite().all()
    torch.testing.assert_close(refiner.draw(condition[1:], SeededNoise([6])), drawn[1:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(refiner.draw(condition, SeededNoise([6, 5])), drawn, atol=1e-2)


def test_lower_precision_stays_finite_and_draws_float32() -> None:
    refiner, condition = made(), conditions()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = refiner.loss(condition.bfloat16(), torch.randn(2, 4, DIM))
        drawn = refiner.draw(condition.bfloat16(), SeededNoise([5, 6]))
    assert loss.dtype == drawn.dtype == torch.float32 and loss.isfinite() and drawn.isfinite().all()


def test_learns_what_the_condition_tells_and_how_the_rest_is_spread() -> None:
    torch.manual_seed(0)
    refiner = DiffusionRefiner(2, WIDTH, hidden=48, blocks=1)
    optimizer = torch.optim.AdamW(refiner.parameters(), lr=3e-3)

    def sample(count: int) -> tuple[Tensor, Tensor]:
        condition = torch.randn(count, 32, WIDTH)
        known = 0.6 * condition[..., :1].sign()
        return condition, torch.cat([known, 0.6 * torch.randn_like(known).sign()], -1)

    for _ in range(200):
        loss = refiner.loss(*sample(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    condition, residual = sample(8)
    drawn = refiner.draw(condition, SeededNoise(range(8)))
    assert (drawn[..., 0] - residual[..., 0]).abs().median() < 0.2
    # the second value is one of two that the condition does not tell: both are drawn, and little in between
    free = drawn[..., 1]
    assert 0.3 < (free > 0).float().mean() < 0.7
    assert (free.abs() - 0.6).abs().median() < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "hidden 0 of DiffusionRefiner"),
        ({"blocks": 0}, "blocks 0"),
        ({"steps": 1}, "steps 1"),
        ({"steps": 7}, "steps 7 of DiffusionRefiner: give 2 or more, a divisor of its 1000 states"),
        ({"repeats": 0}, "repeats 0"),
        ({"weight": -1.0}, r"weight -1.0"),
    ],
)
def test_arguments_out_of_range(options, message) -> None:
    with pytest.raises(InputError, match=message):
        DiffusionRefiner(DIM, WIDTH, **options)
