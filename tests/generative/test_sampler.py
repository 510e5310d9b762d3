"""Samplers: what is asked at which index, the distribution of what is drawn, and whose noise an image gets."""

import pytest
import torch
from torch import Tensor

from lit_thermal.errors import InputError
from lit_thermal.generative.drawing import Drawing
from lit_thermal.generative.noise import SeededNoise
from lit_thermal.generative.sampler import Ancestral, Deterministic, OneStep, Sampler
from lit_thermal.generative.schedule import ResidualShift, Schedule, VariancePreserving

MEMBERS = [Ancestral(), Ancestral(steps=4, eta=0.5), Deterministic(), Deterministic(steps=7), OneStep()]
assert {type(member) for member in MEMBERS} == set(Sampler.__subclasses__())


def latent(batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, 6, 10, generator=torch.Generator().manual_seed(seed))


def noise(batch: int = 2, seed: int = 0) -> SeededNoise:
    return SeededNoise.of([str(i) for i in range(batch)], seed)


def shrink(x: Tensor, t: Tensor) -> Tensor:
    """A denoiser whose answer depends on state and index."""
    return 0.5 * x.tanh() + 0.01 * t.view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("sampler", "indices"),
    [
        (Ancestral(), list(range(15))),
        (Ancestral(steps=5), [0, 3, 6, 9, 12]),
        (Deterministic(steps=2), [0, 7]),
        (OneStep(), [14]),
    ],
)
def test_the_denoiser_is_asked_from_the_last_index_to_the_first(sampler: Sampler, indices: list[int]) -> None:
    y, asked, shown = latent(), [], []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        assert x.shape == y.shape and t.shape == (2,) and t.dtype == torch.int64
        asked.append(t.tolist())
        return shrink(x, t)

    drawn = sampler(denoise, ResidualShift(), y, noise(), lambda t, x0: shown.append((t, x0)))
    assert asked == [[t, t] for t in reversed(indices)] and [t for t, _ in shown] == indices[::-1]
    assert torch.equal(drawn, shown[-1][1])


def test_a_chain_by_hand() -> None:
    schedule, y, draws = ResidualShift(), latent(), noise()
    eta = schedule.b.float().tolist()
    x = y + 2 * eta[14] ** 0.5 * draws(y)
    for t in range(14, 0, -1):
        x0 = shrink(x, torch.tensor([t, t]))
        alpha = eta[t] - eta[t - 1]
        mean, variance = eta[t - 1] / eta[t] * x + alpha / eta[t] * x0, 4 * eta[t - 1] / eta[t] * alpha
        x = mean + variance**0.5 * draws(y)
    expected = shrink(x, torch.tensor([0, 0]))
    torch.testing.assert_close(Ancestral()(shrink, schedule, y, noise()), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("schedule", [ResidualShift(steps=300), VariancePreserving()])
@pytest.mark.parametrize("sampler", [Ancestral(), Ancestral(steps=150, eta=0.7), Deterministic()])
def test_a_gaussian_keeps_its_mean_and_variance(schedule: Schedule, sampler: Sampler) -> None:
    mean, variance, y = 0.4, 0.5, torch.full((1, 1, 100, 200), -0.3)

    def optimal(x: Tensor, t: Tensor) -> Tensor:
        """The expected clean value of a state, where it is Gaussian."""
        a, b, s = (table[t].view(-1, 1, 1, 1).float() for table in (schedule.a, schedule.b, schedule.s))
        return mean + variance * a / (a**2 * variance + s**2) * (x - a * mean - b * y)

    drawn = sampler(optimal, schedule, y, noise(1))
    assert float(drawn.mean()) == pytest.approx(mean, abs=0.03)
    assert float(drawn.var()) == pytest.approx(variance, rel=0.05)


def test_no_eta_is_the_deterministic_chain() -> None:
    for steps in (0, 4):
        a = Ancestral(steps, eta=0.0)(shrink, ResidualShift(), latent(), noise())
        assert torch.equal(a, Deterministic(steps)(shrink, ResidualShift(), latent(), noise()))
    assert not torch.equal(a, Ancestral(steps, eta=0.1)(shrink, ResidualShift(), latent(), noise()))


def test_the_deterministic_chain_runs_from_any_start() -> None:
    schedule, y = ResidualShift(), latent()
    start = schedule.start(y, noise()(y))
    sampler = Deterministic()
    assert torch.equal(sampler.run(shrink, schedule, start, y), sampler(shrink, schedule, y, noise()))


@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize("schedule", [ResidualShift(), VariancePreserving(20, 0.01, 0.6)])
def test_the_inverse_finds_the_start_of_a_constant_denoiser(schedule: Schedule, steps: int) -> None:
    y, constant, states = latent().double(), latent(seed=1).double(), []
    start = schedule.start(y, noise()(y), Deterministic(steps).indices(schedule)[-1])

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        states.append((int(t[0]), x))
        return constant

    sampler = Deterministic(steps)
    sampler.run(denoise, schedule, start, y)
    index, first = states[-1]
    assert index == 0
    states.clear()
    torch.testing.assert_close(sampler.invert(denoise, schedule, first, y), start, atol=1e-9, rtol=0)
    # The state before a step goes with the index after it.
    assert [t for t, _ in states] == sampler.indices(schedule)[1:] and torch.equal(states[0][1], first)


def test_the_inverse_is_near_for_a_denoiser_that_changes_and_nearer_with_finer_steps() -> None:
    y, sampler, misses = latent().double(), Deterministic(), []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return 0.9 * y + 0.1 * x

    for steps in (50, 200, 800):
        schedule, states = ResidualShift(steps, power=1.0), []
        start = schedule.start(y, noise()(y))
        sampler.run(lambda x, t, kept=states: kept.append(x) or denoise(x, t), schedule, start, y)
        misses.append(float((sampler.invert(denoise, schedule, states[-1], y) - start).abs().max()))
    assert misses[0] > 3 * misses[1] > 9 * misses[2] and misses[2] < 0.005 * float(start.abs().max())


@pytest.mark.parametrize("sampler", MEMBERS)
def test_an_image_does_not_depend_on_its_batch(sampler: Sampler) -> None:
    names, y = ["a", "b", "c", "d"], latent(4)

    def restore(order: list[int]) -> Tensor:
        return sampler(shrink, ResidualShift(), y[order], SeededNoise.of([names[i] for i in order], seed=3))

    together = restore([0, 1, 2, 3])
    for order in ([2], [3, 0], [1, 3, 2, 0]):
        assert torch.equal(restore(order), together[order])


@pytest.mark.parametrize("sampler", MEMBERS)
def test_half_precision_goes_through(sampler: Sampler) -> None:
    y = latent()
    exact = sampler(shrink, ResidualShift(), y, noise())
    with torch.autocast("cpu", torch.bfloat16):
        rough = sampler(lambda x, t: shrink(x, t).bfloat16(), ResidualShift(), y.bfloat16(), noise())
    assert (rough.float() - exact).abs().max() < 0.05


def test_noise_belongs_to_the_name_the_seed_and_the_drawing() -> None:
    y = latent(1)

    def draw(name: str, seed: int = 0, sample: int = 0) -> Tensor:
        return SeededNoise.of([name], seed, sample)(y)

    assert torch.equal(draw("a"), draw("a"))
    others = [draw("a"), draw("b"), draw("a", seed=1), draw("a", sample=1), draw("1/a"), draw("a", seed=11, sample=0)]
    for i, one in enumerate(others):
        assert not any(torch.equal(one, other) for other in others[i + 1 :])
    draws = SeededNoise.of(["a"], 0)
    assert torch.equal(draws(y), draw("a")) and not torch.equal(draws(y), draw("a")), "a generator goes on"
    # The same on every machine and in every version: a restored image can be made again.
    assert torch.equal(SeededNoise([5])(y)[0], torch.randn(y.shape[1:], generator=torch.Generator().manual_seed(5)))
    many = SeededNoise.of([str(i) for i in range(64)], 0)(torch.empty(64, 1, 32, 32))
    assert abs(float(many.mean())) < 0.02 and abs(float(many.std()) - 1) < 0.02
    assert draw("\udcff.png").isfinite().all(), "a file name that is no text"


def test_noise_takes_shape_and_type_and_needs_a_seed_for_each_image() -> None:
    assert noise()(latent().bfloat16()).dtype == torch.bfloat16
    assert SeededNoise([])(latent(0)).shape == (0, 3, 6, 10)
    with pytest.raises(ValueError, match="2 seeds for 3 images"):
        noise()(latent(3))


def test_more_steps_than_the_schedule_has_are_one_sentence() -> None:
    schedule = ResidualShift(steps=15)
    for sampler in (Ancestral(steps=16), Deterministic(steps=1000)):
        with pytest.raises(InputError, match="schedule of 15; give the sampler 1 to 15 steps, or 0 for all"):
            sampler.check(schedule)
    for sampler in MEMBERS:
        sampler.check(schedule)


@pytest.mark.parametrize(
    "make",
    [lambda: Ancestral(steps=-1), lambda: Ancestral(eta=1.5), lambda: Deterministic(-1), lambda: Drawing(OneStep, 0)],
)
def test_numbers_out_of_range_are_one_sentence(make) -> None:
    with pytest.raises(InputError, match=r"at least|from 0 to 1"):
        make()


def test_a_drawing_has_a_sampler_of_its_own() -> None:
    drawing = Drawing(lambda: Ancestral(steps=3), samples=4)
    assert isinstance(drawing.sampler, Ancestral) and drawing.sampler.steps == 3 and drawing.samples == 4


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16])
def test_noise_is_that_of_float32_in_a_run_of_another_precision(precision: torch.dtype) -> None:
    y = latent(1)
    expected = SeededNoise.of(["a"], 0)(y)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(precision)
        drawn = SeededNoise.of(["a"], 0)(y)
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(drawn, expected)
