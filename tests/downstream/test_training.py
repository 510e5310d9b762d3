"""Trainings that go on where they were cut."""

import pytest
import torch
from torch import nn

from lit_thermal.downstream.training import draw, read_trained, train, warm_up_then
from lit_thermal.errors import InputError


class Cut(Exception):
    """Stands for a kill."""


def fit(file, steps=12, cut=None, record=None, factor=1.0):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)

    def loss(step):
        if step == cut:
            raise Cut
        return factor * (network(torch.randn(6, 4)) - 1).square().mean()

    rate = warm_up_then("cosine", 3, steps)
    train(network, loss, optimizer, rate, steps=steps, file=file, record=record or {"kind": "toy"}, every=5)
    return network


def test_a_cut_training_ends_as_one_that_was_not(tmp_path):
    whole = fit(tmp_path / "whole.pt")
    with pytest.raises(Cut):
        fit(tmp_path / "cut.pt", cut=8)
    with pytest.raises(InputError, match="cut at step 5 of 12"):
        read_trained(tmp_path / "cut.pt")
    torch.rand(3)
    again = fit(tmp_path / "cut.pt")
    assert not again.training
    for mine, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.pt", "whole.pt"]


def test_a_finished_training_is_read(tmp_path):
    first = fit(tmp_path / "a.pt")
    again = fit(tmp_path / "a.pt", cut=0)
    assert torch.equal(first[0].weight, again[0].weight)
    assert read_trained(tmp_path / "a.pt")["record"]["kind"] == "toy"
    with pytest.raises(InputError, match=r"another training \(other kind\)"):
        fit(tmp_path / "a.pt", record={"kind": "other"})


def test_what_is_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read_trained(tmp_path / "absent.pt")
    torch.save({"weight": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="no checkpoint of a trained"):
        read_trained(tmp_path / "a.pt")
    with pytest.raises(InputError, match="loss is"):
        fit(tmp_path / "b.pt", factor=float("nan"))


def test_each_sample_once_in_a_pass():
    drawn = [draw(7, 3, step, seed=1) for step in range(7)]
    samples = [index for batch in drawn for index in batch]
    passes = [samples[start : start + 7] for start in range(0, 21, 7)]
    assert all(sorted(each) == list(range(7)) for each in passes)
    assert len({tuple(each) for each in passes}) == 3
    assert draw(7, 3, 4, seed=1) == drawn[4]


@pytest.mark.parametrize(("fall", "middle"), [("cosine", 0.505), ("linear", 0.505)])
def test_rate(fall, middle):
    rate = warm_up_then(fall, 10, 110)
    assert rate(0) == pytest.approx(0.1)
    assert rate(10) == pytest.approx(1.0)
    assert rate(60) == pytest.approx(middle)
    assert rate(110) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"step": "4"}, "step is '4' and must be a whole number"),
        ({"record": {"steps": None}}, "record.steps is None"),
        ({"record": [1]}, "record is a list and must be a mapping"),
        ({"record": {"steps": 1, "classes": [3]}}, r"record.classes\[0\] is 3 and must be text"),
    ],
)
def test_an_edited_checkpoint_is_told(tmp_path, changed, says):
    torch.save({"record": {"steps": 4}, "state_dict": {}, "step": 4} | changed, tmp_path / "a.pt")
    with pytest.raises(InputError, match=says):
        read_trained(tmp_path / "a.pt")


def test_a_full_disk_leaves_nothing_of_a_checkpoint(tmp_path, monkeypatch):
    def full(saved, path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1 vs 2")

    monkeypatch.setattr(torch, "save", full)
    network = torch.nn.Linear(1, 1)
    with pytest.raises(InputError, match="cannot be written"):
        train(
            network,
            lambda step: network(torch.ones(1)).sum(),
            torch.optim.SGD(network.parameters(), 0.1),
            lambda step: 1.0,
            steps=1,
            file=tmp_path / "out" / "a.pt",
            record={},
        )
    assert list((tmp_path / "out").iterdir()) == []
