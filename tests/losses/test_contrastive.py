import math
import socket

import pytest
import torch
from torch import distributed, multiprocessing, nn

from lit_thermal.errors import InputError
from lit_thermal.losses.contrastive import ContrastiveLoss, NTXent, QueueNTXent, found_share

MEMBERS = ContrastiveLoss.__subclasses__()
COUNTS = [(3, 3), (4, 1), (0, 3), (1, 1), (1, 0), (0, 0)]
"""Pairs on each of two processes."""


def vectors(count: int, width: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z1, z2 = torch.randn(2, count, width, dtype=torch.float64, generator=generator)
    return z1.requires_grad_(), z2.requires_grad_()


def brute_force(z1, z2, temperature):
    """The formula with loops: the positive in the denominator, all but oneself, mean over both directions."""
    z = [v / math.sqrt(float(v @ v)) for v in (*z1.detach(), *z2.detach())]
    count = len(z1)
    total = 0.0
    for i in range(2 * count):
        partner = (i + count) % (2 * count)
        others = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in range(2 * count) if k != i)
        total += -math.log(math.exp(float(z[i] @ z[partner]) / temperature) / others)
    return total / (2 * count)


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_equals_the_written_out_formula(count, temperature):
    z1, z2 = vectors(count)
    loss = NTXent(temperature)(z1, z2)
    assert loss.item() == pytest.approx(brute_force(z1, z2, temperature), rel=1e-12)
    assert torch.autograd.gradcheck(NTXent(temperature), (z1, z2))


def test_known_values():
    same = torch.ones(4, 3)
    assert NTXent(0.5)(same, same).item() == pytest.approx(math.log(7), rel=1e-6)
    apart = torch.eye(4)
    assert NTXent(0.5)(apart, 3 * apart).item() == pytest.approx(math.log(1 + 6 * math.exp(-2)), rel=1e-6)


@pytest.mark.parametrize("member", MEMBERS)
def test_order_of_pairs_and_cameras_does_not_matter(member):
    z1, z2 = vectors(6)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    loss = member()(z1, z2)
    assert torch.allclose(member()(z1[order], z2[order]), loss)
    assert torch.allclose(member()(z2, z1), loss)
    assert not torch.allclose(member()(z1[order], z2), loss)


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_contrast_with_is_a_zero_in_the_graph(member, count):
    z1, z2 = vectors(count)
    loss = member()(z1, z2)
    assert loss.item() == 0 and loss.shape == ()
    loss.backward()
    assert z1.grad.shape == z1.shape and not z1.grad.any() and not z2.grad.any()


@pytest.mark.parametrize("member", MEMBERS)
def test_descends_to_matched_pairs(member):
    z1, z2 = vectors(4)
    optimizer = torch.optim.Adam([z1, z2], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        member()(z1, z2).backward()
        optimizer.step()
    similarity = torch.nn.functional.cosine_similarity(z1[:, None], z2[None], dim=-1)
    assert similarity.argmax(dim=1).tolist() == [0, 1, 2, 3]
    assert similarity.diagonal().min() > 0.95


def test_length_of_vectors_does_not_matter_and_null_vectors_are_finite():
    z1, z2 = vectors(4)
    assert torch.allclose(NTXent()(1e-3 * z1, 1e3 * z2), NTXent()(z1, z2))
    null = torch.zeros(4, 5, requires_grad=True)
    loss = NTXent()(null, z2.float())
    loss.backward()
    assert loss.isfinite() and null.grad.abs().max() < 1e5


@pytest.mark.parametrize("member", MEMBERS)
def test_computed_in_single_precision_under_autocast(member):
    z1, z2 = (z.detach().float() for z in vectors(6))
    with torch.autocast("cpu", torch.bfloat16):
        loss = member()(z1, z2)
        assert member()(z1.bfloat16(), z2.bfloat16()).dtype == torch.float32
    assert torch.equal(loss, member()(z1, z2))


def test_gathering_alone_changes_nothing():
    z1, z2 = vectors(5)
    assert torch.equal(NTXent(gather=True)(z1, z2), NTXent()(z1, z2))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperature_must_be_positive(temperature):
    with pytest.raises(InputError, match="temperature must be positive"):
        NTXent(temperature)


def test_pairs_must_match():
    with pytest.raises(InputError, match=r"pairs of vectors, not \(3, 5\) and \(2, 5\)"):
        NTXent()(torch.rand(3, 5), torch.rand(2, 5))


def projections() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(6, 5, dtype=torch.float64)


def inputs(counts: tuple[int, int]) -> torch.Tensor:
    return torch.randn(sum(counts), 2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(counts)))


def run_process(rank: int, port: int, folder: str) -> None:
    """One of two processes: value and averaged gradient of the loss for its part of each batch."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    results = []
    for counts in COUNTS:
        for gather in (True, False):
            model = nn.parallel.DistributedDataParallel(projections())
            mine = inputs(counts).split(counts)[rank]
            z1, z2 = model(mine).unbind(dim=1)
            loss = NTXent(gather=gather)(z1, z2)
            loss.backward()
            results.append((loss.detach(), model.module.weight.grad))
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_get_value_and_gradient_of_the_whole_batch(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Forked, since a spawned process takes seconds for its imports; beside a GPU, autograd does not survive a fork.
    how = "spawn" if torch.cuda.is_available() else "fork"
    multiprocessing.start_processes(run_process, args=(port, str(tmp_path)), nprocs=2, start_method=how)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for index, counts in enumerate(COUNTS):
        whole, model = inputs(counts), projections()
        expected = NTXent()(*model(whole).unbind(dim=1))
        expected.backward()
        for rank in range(2):
            value, gradient = found[rank][2 * index]
            assert torch.allclose(value, expected.detach(), atol=1e-12), counts
            assert torch.allclose(gradient, model.weight.grad, atol=1e-12), counts
            own_value, _ = found[rank][2 * index + 1]
            own = NTXent()(*projections()(whole.split(counts)[rank]).unbind(dim=1))
            assert torch.allclose(own_value, own.detach(), atol=1e-12), counts


def test_queue_contrasts_with_earlier_pairs_and_is_part_of_the_state():
    z1, z2 = vectors(4)
    loss = QueueNTXent(size=6, width=5)
    first = loss(z1, z2)
    torch.testing.assert_close(first, NTXent()(z1, z2))
    again = loss(*vectors(4, seed=1))
    assert again > NTXent()(*vectors(4, seed=1)) and loss.used.all()
    fresh = QueueNTXent(size=6, width=5)
    fresh.load_state_dict(loss.state_dict())
    torch.testing.assert_close(fresh(z1, z2), loss(z1, z2))
    with pytest.raises(InputError, match="width 5 and gets vectors of 7"):
        loss(*vectors(3, width=7))


def test_share_of_partners_found():
    z = torch.eye(4)
    assert found_share(z, 3 * z) == 1 and found_share(z, z.roll(1, 0)) == 0
    assert found_share(z, z[[0, 1, 3, 2]]) == 0.5
    assert found_share(z[:0], z[:0]).isnan()
