import pytest
import torch

from lit_thermal.errors import InputError
from lit_thermal.generative.noise import SeededNoise
from lit_thermal.generative.token_sampler import Greedy, TokenSampler, TopKTopP, guided

SAMPLERS = [Greedy(), TopKTopP(), TopKTopP(k=3), TopKTopP(p=0.6), TopKTopP(k=5, p=0.75, temperature=2.0)]


def logits(*shape, seed=0):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kept(values, k, p, temperature):
    """Probabilities by the rule, one entry after the other."""
    values = [v / temperature for v in values.double().tolist()]
    if k:
        least = sorted(values, reverse=True)[k - 1]
        values = [v if v >= least else None for v in values]
    weights = [0.0 if v is None else torch.tensor(v).exp().item() for v in values]
    total, tail = sum(weights), 0.0
    ascending = sorted(range(len(weights)), key=lambda i: weights[i])
    for i in ascending[:-1]:
        tail += weights[i] / total
        if tail <= 1 - p:
            weights[i] = 0.0
    return torch.tensor([w / sum(weights) for w in weights])


@pytest.mark.parametrize(
    ("k", "p", "temperature"),
    [(0, 1.0, 1.0), (1, 0.75, 1.0), (4, 1.0, 0.5), (0, 0.7, 1.0), (6, 0.8, 2.0), (0, 1e-9, 1)],
)
def test_probabilities_by_the_rule(k, p, temperature):
    values = logits(2, 3, 12)
    got = TopKTopP(k, p, temperature).probabilities(values)
    for image in range(2):
        for token in range(3):
            expected = kept(values[image, token], k, p, temperature)
            assert ((got[image, token] > 0) == (expected > 0)).all()
            torch.testing.assert_close(got[image, token], expected, rtol=1e-5, atol=1e-6)


def test_example_by_hand():
    values = torch.tensor([0.5, 0.05, 0.25, 0.15, 0.05]).log().view(1, 1, 5)
    torch.testing.assert_close(
        TopKTopP(p=0.85).probabilities(values), torch.tensor([[[0.5, 0, 0.25, 0.15, 0]]]) / 0.9, rtol=1e-5, atol=1e-6
    )
    # of the three that top-k leaves, 0.15 / 0.9 is a tail below 1 - 0.8
    torch.testing.assert_close(
        TopKTopP(k=3, p=0.8).probabilities(values), torch.tensor([[[2 / 3, 0, 1 / 3, 0, 0]]]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("sampler", [TopKTopP(k=1, p=0.75), TopKTopP(p=1e-9)])
def test_one_entry_is_greedy(sampler):
    values = logits(3, 50, 40)
    noise = SeededNoise([1, 2, 3])
    assert torch.equal(sampler(values, noise), Greedy()(values, noise))


def test_drawn_as_often_as_likely():
    values = torch.tensor([0.4, 0.0, 0.3, 0.1, 0.2]).log().clamp_min(-1e4)
    drawn = TopKTopP()(values.expand(2, 20000, 5), SeededNoise([0, 1]))
    share = torch.bincount(drawn.flatten(), minlength=5) / 40000
    assert share[1] == 0
    assert (share - torch.tensor([0.4, 0, 0.3, 0.1, 0.2])).abs().max() < 0.01
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_does_not_know_its_batch(sampler: TokenSampler):
    values = logits(3, 30, 20)
    names = ["a", "b", "c"]
    together = sampler(values, SeededNoise.of(names, 7))
    assert together.dtype == torch.int64 and together.shape == (3, 30)
    for index, name in enumerate(names):
        assert torch.equal(sampler(values[index : index + 1], SeededNoise.of([name], 7))[0], together[index])
    assert torch.equal(sampler(values + 5, SeededNoise.of(names, 7)), together)


class Extreme(SeededNoise):
    def __init__(self, value):
        self.value = value

    def __call__(self, like):
        return torch.full_like(like, self.value)


@pytest.mark.parametrize(("value", "expected"), [(-40.0, 1), (40.0, 3)])
def test_ends_of_the_interval_draw_what_stays(value, expected):
    values = torch.tensor([-1.0, 4, -2, 5, -3, -1]).expand(1, 2, 6)
    assert TopKTopP(k=2)(values, Extreme(value)).tolist() == [[expected] * 2]


def test_half_precision_logits_are_drawn_in_single():
    values = logits(1, 4, 9)
    assert TopKTopP().probabilities(values.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("arguments", [{"k": -1}, {"p": 0.0}, {"p": 1.5}, {"temperature": 0.0}, {"p": float("nan")}])
def test_out_of_range(arguments):
    with pytest.raises(InputError, match="TopKTopP"):
        TopKTopP(**arguments)


def test_guidance_grows_with_the_scale():
    positive, negative = logits(2, 4, 6), logits(2, 4, 6, seed=1)
    assert torch.equal(guided(positive, negative, 6.0, 0, 10), positive)
    torch.testing.assert_close(guided(positive, negative, 6.0, 3, 10), 3 * positive - 2 * negative)
    torch.testing.assert_close(guided(positive, negative, 1.0, 9, 10), 2 * positive - negative)
    assert torch.equal(guided(positive, negative, 1.0, 0, 1), positive)
    torch.testing.assert_close(guided(positive, positive, 3.0, 5, 6), positive)
