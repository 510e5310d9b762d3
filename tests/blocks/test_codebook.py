import pytest
import torch
from torch.nn import functional as F

from lit_thermal.blocks.codebook import Codebook, ConditionAdaptiveCodebook, StaticCodebook
from lit_thermal.errors import InputError

MEMBERS = Codebook.__subclasses__()
ENTRIES, DIM, WIDTH = 11, 5, 12


def made(member: type[Codebook] = ConditionAdaptiveCodebook, seed: int = 0, **options) -> Codebook:
    torch.manual_seed(seed)
    return member(ENTRIES, DIM, WIDTH, **options)


def moved(**options) -> Codebook:
    """Return an adaptive codebook whose term is as large as the entries."""
    codebook = made(**options)
    with torch.no_grad():
        codebook.U.normal_()
        codebook.V.normal_()
    return codebook


def inputs(batch: int = 2, tokens: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(ENTRIES, DIM, generator=generator)
    ids = torch.randint(ENTRIES, (batch, tokens), generator=generator)
    return ids, table, torch.randn(batch, WIDTH, generator=generator)


@pytest.mark.parametrize("member", MEMBERS)
def test_shape_and_images_by_themselves(member):
    codebook, (ids, table, condition) = made(member), inputs()
    codes = codebook(ids, table[ids], condition)
    assert codes.shape == (2, 7, DIM) and codes.isfinite().all() and codebook.acts in ("decode", "decode_and_embedding")
    assert torch.allclose(codebook(ids[1:], table[ids[1:]], condition[1:]), codes[1:], atol=1e-6)


@pytest.mark.parametrize("member", MEMBERS)
def test_certain_probabilities_are_tokens(member):
    codebook, (ids, table, condition) = made(member), inputs()
    certain = F.one_hot(ids, ENTRIES).float()
    soft = codebook.soft(certain, certain @ table, condition)
    torch.testing.assert_close(soft, codebook(ids, table[ids], condition), rtol=0, atol=1e-6)


@pytest.mark.parametrize("member", MEMBERS)
def test_soft_codes_are_means_and_differentiable(member):
    codebook, (_, table, condition) = made(member), inputs()
    logits = torch.randn(2, 3, ENTRIES, requires_grad=True)
    p = logits.softmax(-1)
    every = torch.arange(ENTRIES).expand(2, -1)
    mean = p @ codebook(every, table[every], condition)
    torch.testing.assert_close(codebook.soft(p, p @ table, condition), mean, rtol=0, atol=1e-5)
    codebook.soft(p, p @ table, condition).square().sum().backward()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("member", MEMBERS)
def test_half_precision_is_close(member):
    codebook, (ids, table, condition) = made(member), inputs()
    with torch.autocast("cpu", torch.bfloat16):
        low = codebook(ids, table[ids], condition)
    assert low.dtype == torch.float32 and torch.allclose(low, codebook(ids, table[ids], condition), atol=1e-2)


@pytest.mark.parametrize("member", MEMBERS)
def test_state_dict_round_trip(member):
    codebook, other, (ids, table, condition) = made(member), made(member, seed=1), inputs()
    other.load_state_dict(codebook.state_dict())
    assert torch.equal(codebook(ids, table[ids], condition), other(ids, table[ids], condition))


def test_the_formula_entry_by_entry():
    codebook, (ids, table, condition) = moved(gate=0.7, rank=3), inputs()
    codes = codebook(ids, table[ids], condition)
    w = {name: value.double() for name, value in codebook.state_dict().items()}
    for image in range(2):
        g = condition[image].double()
        g = (g - g.mean()) / (g.var(unbiased=False) + 1e-5).sqrt()
        hidden = w["factors.2.weight"] @ (g * g.sigmoid()) + w["factors.2.bias"]
        h = w["factors.4.weight"] @ (hidden * hidden.sigmoid()) + w["factors.4.bias"]
        for token, index in enumerate(ids[image].tolist()):
            term = sum(w["U"][index, rank] * h[rank] * w["V"][:, rank] for rank in range(3))
            expected = table[index].double() + torch.tensor(0.7).double().tanh() * term
            torch.testing.assert_close(codes[image, token].double(), expected, rtol=0, atol=1e-5)
    assert (codes - table[ids]).abs().max() > 0.1


def test_a_closed_gate_is_the_static_codebook():
    closed, (ids, table, condition) = moved(gate=0), inputs()
    codes = closed(ids, table[ids], condition)
    assert torch.equal(codes, made(StaticCodebook)(ids, table[ids], condition)) and torch.equal(codes, table[ids])
    codes.square().sum().backward()
    assert closed.gate.grad.abs() > 0 and not closed.U.grad.any() and not closed.V.grad.any()


def test_as_it_starts_every_weight_learns_and_the_codes_change():
    codebook, (ids, table, condition) = made(), inputs()
    target = table[ids] + 0.3 * condition.sign()[:, :1, None]
    optimizer = torch.optim.Adam(codebook.parameters(), lr=0.03)
    start = F.mse_loss(codebook(ids, table[ids], condition), target).item()
    for step in range(60):
        optimizer.zero_grad()
        loss = F.mse_loss(codebook(ids, table[ids], condition), target)
        loss.backward()
        if step == 0:
            for name, parameter in codebook.named_parameters():
                assert parameter.grad.abs().sum() > 0, name
        optimizer.step()
    assert loss < 0.5 * start


def test_gradients_of_codes_and_condition():
    codebook = moved(gate=0.5).double()
    ids, table, condition = inputs(tokens=2)
    codes, condition = table[ids].double().requires_grad_(), condition.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda c, g: codebook(ids, c, g), (codes, condition))


def test_the_published_size():
    with torch.device("meta"):
        codebook = ConditionAdaptiveCodebook(4096, 32, 1536)
    names = codebook.released_names()
    assert {names[name]: tuple(value.shape) for name, value in codebook.state_dict().items()} == {
        "vae.quantize.U": (4096, 8),
        "vae.quantize.V": (32, 8),
        "vae.quantize.lora_gate": (1,),
        "cb_cond.2.weight": (32, 1536),
        "cb_cond.2.bias": (32,),
        "cb_cond.4.weight": (8, 32),
        "cb_cond.4.bias": (8,),
    }
    assert sum(p.numel() for p in codebook.parameters()) == 33_025 + 49_448


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank": 0}, "rank 0 of ConditionAdaptiveCodebook"),
        ({"acts": "everywhere"}, "acts is 'everywhere'; must be one of decode"),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(InputError, match=said):
        made(**options)
