"""Multi-scale residual quantisation is the published one: by a slow float64 reference written from the facts."""

import math
from fractions import Fraction

import pytest
import torch
from torch import distributed, multiprocessing
from torch.nn import functional as F

from lit_thermal.errors import InputError
from lit_thermal.networks import residual_quantizer
from lit_thermal.networks.residual_quantizer import ResidualQuantizer

SCALES = (1, 2, 3, 5)
DIM = 3


def quantizer(seed=0, entries=40, scales=SCALES, kernels=2) -> ResidualQuantizer:
    torch.manual_seed(seed)
    made = ResidualQuantizer(entries, DIM, scales, kernels)
    torch.nn.init.normal_(made.embedding.weight)
    return made.eval()


def latents(batch=2, side=5, seed=1) -> torch.Tensor:
    return torch.randn(batch, DIM, side, side, generator=torch.Generator().manual_seed(seed))


def reduction(before: int, after: int) -> torch.Tensor:
    """Return the matrix (after, before) of means over the areas that pixels cover, whole pixels."""
    matrix = torch.zeros(after, before, dtype=torch.float64)
    for row in range(after):
        first, end = row * before // after, -(-(row + 1) * before // after)
        matrix[row, first:end] = 1 / (end - first)
    return matrix


def enlargement(before: int, after: int, a=-0.75) -> torch.Tensor:
    """Return the matrix (after, before) of cubic convolution, pixel centres at halves, borders repeated."""
    matrix = torch.zeros(after, before, dtype=torch.float64)
    for row in range(after):
        at = (row + 0.5) * before / after - 0.5
        for tap in range(math.floor(at) - 1, math.floor(at) + 3):
            d = abs(at - tap)
            weight = (a + 2) * d**3 - (a + 3) * d**2 + 1 if d <= 1 else a * (d**3 - 5 * d**2 + 8 * d - 4)
            matrix[row, min(max(tap, 0), before - 1)] += weight
    return matrix


class Slow:
    """The three paths of the specification in float64."""

    def __init__(self, made: ResidualQuantizer, kernel_of: list[int]) -> None:
        self.entries = made.embedding.weight.detach().double()
        self.kernels = [(conv.weight.detach().double(), conv.bias.detach().double()) for conv in made.phi]
        self.scales, self.kernel_of, self.side = made.scales, kernel_of, made.scales[-1]

    def map(self, codes, level):
        return codes.mT.reshape(len(codes), DIM, self.scales[level], self.scales[level])

    def phi(self, codes, level):
        matrix = enlargement(self.scales[level], self.side)
        x = matrix @ self.map(codes, level) @ matrix.T
        return 0.5 * x + 0.5 * F.conv2d(x, *self.kernels[self.kernel_of[level]], padding=1)

    def down(self, x, side):
        matrix = reduction(self.side, side)
        return matrix @ x @ matrix.T

    def encode(self, latent):
        ids, residual = [], latent.double()
        for level, side in enumerate(self.scales):
            last = level == len(self.scales) - 1
            query = (residual if last else self.down(residual, side)).flatten(2).mT
            ids.append((query[:, :, None] - self.entries).square().sum(-1).argmin(-1))
            codes = self.entries[ids[-1]]
            residual = residual - (self.map(codes, level) if last else self.phi(codes, level))
        return ids, residual

    def inputs(self, ids):
        total, parts = 0, []
        for level, side in enumerate(self.scales[1:]):
            total = total + self.phi(self.entries[ids[level]], level)
            parts.append(self.down(total, side).flatten(2).mT)
        return torch.cat(parts, 1)

    def compose(self, codes):
        return sum(self.phi(part, level) for level, part in enumerate(codes))


@pytest.fixture
def made() -> ResidualQuantizer:
    return quantizer()


@pytest.fixture
def slow(made) -> Slow:
    return Slow(made, [0, 0, 1, 1])


def test_which_convolution_a_scale_uses():
    assert ResidualQuantizer(2, 1)._kernel == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    for levels, kernels in ((1, 4), (2, 4), (6, 4), (7, 3), (9, 1), (4, 2)):
        ticks = [
            Fraction(1, 3 * kernels) + index * (1 - Fraction(2, 3 * kernels)) / max(1, kernels - 1)
            for index in range(kernels)
        ]
        for level, index in enumerate(ResidualQuantizer(2, 1, range(1, levels + 1), kernels)._kernel):
            distances = [abs(Fraction(level, max(1, levels - 1)) - tick) for tick in ticks]
            assert distances[index] == min(distances) and min(distances) not in distances[index + 1 :]


def test_token_maps_are_those_of_a_slow_reference(made, slow):
    latent = latents()
    ids, _ = slow.encode(latent)
    assert [index.shape for index in ids] == [(2, side**2) for side in SCALES] and len(torch.cat(ids, 1).unique()) > 10
    for ours, theirs in zip(made.encode(latent), ids, strict=True):
        assert ours.dtype == torch.int64 and torch.equal(ours, theirs)


def test_inputs_and_sum_and_latent_are_those_of_a_slow_reference(made, slow):
    latent = latents()
    ids, residual = slow.encode(latent)
    close = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(made.inputs(ids).double(), slow.inputs(ids), **close)
    torch.testing.assert_close(
        made.compose(made.codes(ids)).double(), slow.compose([slow.entries[i] for i in ids]), **close
    )
    total, parts = None, []
    for level, index in enumerate(ids):
        total, following = made.accumulate(total, level, index)
        parts.append(following)
    assert parts.pop() is None
    torch.testing.assert_close(torch.cat(parts, 1), made.inputs(ids), rtol=0, atol=0)
    # the last scale without phi here, so that the sum is what encoding took from the latent
    torch.testing.assert_close(total.double(), latent.double() - residual, **close)
    assert (total - made.compose(made.codes(ids))).abs().max() > 0.1


def test_codes_stand_for_tokens(made):
    ids = made.encode(latents())
    codes = [part.requires_grad_() for part in made.codes([index.clone() for index in ids])]
    torch.testing.assert_close(made.inputs(codes), made.inputs(ids), rtol=0, atol=0)
    made.inputs(codes).square().sum().backward()
    assert made.embedding.weight.grad.abs().sum() > 0


def test_one_scale_has_no_inputs():
    made = quantizer(scales=(4,))
    ids = made.encode(latents(side=4))
    assert made.inputs(ids).shape == (2, 0, DIM)
    total, following = made.accumulate(None, 0, ids[0])
    assert following is None and torch.equal(total, made.codes(ids)[0].mT.reshape(2, DIM, 4, 4))


def test_the_gradient_of_composing():
    made = quantizer(scales=(1, 3)).double()
    codes = [torch.randn(1, side**2, DIM, dtype=torch.float64, requires_grad=True) for side in (1, 3)]
    assert torch.autograd.gradcheck(lambda *parts: made.compose(parts), codes)


def test_training_quantises_as_encoding_does(made, slow):
    latent = latents()
    total, loss, ids = made(latent)
    for ours, theirs in zip(ids, made.encode(latent), strict=True):
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(total, made.compose(made.codes(ids)), rtol=0, atol=0)
    codes, sums = [slow.entries[index] for index in ids], torch.zeros(2, DIM, 5, 5, dtype=torch.float64)
    expected = 0
    for level in range(len(SCALES)):
        sums = sums + slow.phi(codes[level], level)
        expected += 1.25 * (sums - latent.double()).square().mean() / len(SCALES)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradients_of_training(made):
    latent, slope = latents().requires_grad_(), torch.randn(2, DIM, 5, 5)
    (made(latent)[0] * slope).sum().backward()
    torch.testing.assert_close(latent.grad, slope, rtol=0, atol=0)
    assert made.embedding.weight.grad is None and made.phi[0].weight.grad is None
    latent.grad = None
    made(latent)[1].backward()
    for tensor in (latent, made.embedding.weight, *made.phi.parameters()):
        assert tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0


def test_training_brings_the_sum_nearer_to_the_latent():
    made, latent = quantizer().train(), latents(batch=8)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.02)
    first = None
    for _ in range(40):
        total, loss, _ = made(latent)
        first = F.mse_loss(total, latent) if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert F.mse_loss(total, latent) < 0.5 * first


def test_the_first_batch_makes_the_codebook():
    torch.manual_seed(0)
    made = ResidualQuantizer(30, DIM, SCALES, 2)
    assert made.usage() == 0
    started = made.embedding.weight.detach().clone()
    latent = 5 * latents(batch=4)
    vectors = torch.cat([query.flatten(2).mT.flatten(0, 1) for query, _, _ in made._layers(latent)])
    _, _, ids = made(latent)
    kept = torch.zeros(30, dtype=torch.bool)
    kept[torch.cat(ids, 1).unique()] = True
    weight = made.embedding.weight.detach()
    assert torch.equal(weight[kept], started[kept]) and not kept.all() and made.usage() == 1
    assert (weight[~kept][:, None] == vectors).all(-1).any(-1).all()
    assert len(weight[~kept].unique(dim=0)) == (~kept).sum()


def test_an_entry_that_is_idle_for_long_starts_anew(monkeypatch):
    monkeypatch.setattr(residual_quantizer, "IDLE_STEPS", 3)
    made, latent = quantizer(entries=12).train(), latents()
    made.idle.zero_()
    with torch.no_grad():
        made.embedding.weight[7] = 100
    weight = made.embedding.weight.detach().clone()
    for _ in range(2):
        _, _, ids = made(latent)
        assert torch.equal(made.embedding.weight, weight)
    assert made.idle[7] == 2 and made.usage() == 1
    made.eval()(latent)
    assert made.idle[7] == 2
    made.train()(latent)
    used = torch.cat(ids, 1).unique()
    assert torch.equal(made.embedding.weight[used], weight[used])
    assert made.embedding.weight[7].abs().max() < 10 and made.idle[7] == 0


def test_more_idle_entries_than_vectors():
    made = ResidualQuantizer(50, DIM, (1, 2), 1)
    made(latents(batch=1, side=2))
    assert made.usage() == 1 and made.embedding.weight.isfinite().all()


def test_state_dict_round_trip(made):
    other = quantizer(seed=5)
    made.idle[3] = 4
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.idle, made.idle)
    for ours, theirs in zip(other.encode(latents()), made.encode(latents()), strict=True):
        assert torch.equal(ours, theirs)


@torch.no_grad()
def test_autocast_changes_nothing(made):
    latent = latents()
    ids, total, inputs = made.encode(latent), made(latent)[0], made.inputs(made.encode(latent))
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(made.encode(latent), ids, strict=True))
        for now, before in (
            (made(latent)[0], total),
            (made.inputs(ids), inputs),
            (made.compose(made.codes(ids)), total),
        ):
            assert now.dtype == torch.float32 and torch.equal(now, before)


@torch.no_grad()
def test_a_half_precision_module(made):
    half, ids = quantizer().to(torch.bfloat16), made.encode(latents())
    for low, full in (
        (half.inputs(ids), made.inputs(ids)),
        (half.compose(half.codes(ids)), made.compose(made.codes(ids))),
    ):
        assert low.dtype == torch.float32 and (low - full).std() < 0.02 * full.std()
    assert half(latents().bfloat16())[0].isfinite().all()


def test_what_is_not_finite_shows(made):
    latent = latents()
    latent[0, 1, 2, 2] = torch.nan
    with torch.no_grad():
        assert made(latent)[0][0, 1, 2, 2].isnan() and made(latent)[0][1].isfinite().all()


def run_process(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    made = quantizer(entries=60).train()
    made.idle.zero_()
    made.idle[50:] = residual_quantizer.IDLE_STEPS
    torch.manual_seed(rank)
    _, _, ids = made(latents(batch=1 + rank, seed=rank))
    torch.save((made.embedding.weight.detach(), made.idle, torch.cat(ids, 1).unique()), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_processes_keep_one_codebook(tmp_path):
    from socket import socket

    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # forked, since a spawned process takes seconds to import what this one has
    multiprocessing.start_processes(run_process, args=(port, str(tmp_path)), nprocs=2, start_method="fork")
    (weight, idle, used), (other, other_idle, other_used) = (
        torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    assert torch.equal(weight, other) and torch.equal(idle, other_idle)
    both = torch.cat([used, other_used]).unique()
    assert len(both) > max(len(used), len(other_used)) and not idle[both].any()
    assert torch.equal(weight[both], quantizer(entries=60).embedding.weight[both])


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"scales": ()}, r"scales \[\] of the tokenizer"),
        ({"scales": (1, 3, 3)}, r"scales \[1, 3, 3\] of the tokenizer: .* increasing"),
        ({"scales": (0, 1)}, "increasing"),
        ({"entries": 0}, "entries 0 of the tokenizer: give 1 or more"),
        ({"dim": 0}, "dim 0"),
        ({"kernels": -1}, "kernels -1"),
    ],
)
def test_bad_sizes(sizes, said):
    with pytest.raises(InputError, match=said):
        ResidualQuantizer(**sizes)
