"""Training of detectors and segmenters: the same weights again, also after an interruption."""

import pytest
import torch
from torch import nn

from lit_thermal.downstream.training import DownstreamTraining, Samples, draw, read_trained, train, warm_up_then
from lit_thermal.errors import InputError


class Cut(Exception):
    """Stands for a kill."""


def fit(file, steps=12, cut=None, kind="toy", factor=1.0, error=Cut, seed=0):
    """Train a small network, or stop with an error in the step `cut`; returns the network and the samples drawn."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    drawn = []

    def read(name):
        drawn.append(name)
        return torch.full((4,), float(name))

    def loss(batch):
        if len(drawn) == 3 * ((cut if cut is not None else -1) + 1):
            raise error
        return factor * (network(torch.stack(batch) + torch.randn(3, 4)) - 1).square().mean()

    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    record = {"kind": kind, "steps": steps, "seed": seed}
    module = DownstreamTraining(network, loss, optimizer, warm_up_then("cosine", 3, steps), record)
    train(module, Samples("01234", read), batch=3, file=file, every=5)
    return network, drawn


def equal(mine, other):
    return all(torch.equal(a, b) for a, b in zip(mine.parameters(), other.parameters(), strict=True))


def test_a_resumed_training_ends_as_one_that_was_not_interrupted(tmp_path):
    whole, drawn = fit(tmp_path / "whole.pt")
    assert len(drawn) == 3 * 12
    with pytest.raises(Cut):
        fit(tmp_path / "cut.pt", cut=8)
    with pytest.raises(InputError, match="stopped at step 5 of 12"):
        read_trained(tmp_path / "cut.pt")
    torch.rand(3)
    again, rest = fit(tmp_path / "cut.pt")
    assert rest == drawn[3 * 5 :]
    assert not again.training
    assert equal(whole, again)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.pt", "whole.pt"]
    first, second = (read_trained(tmp_path / name) for name in ("whole.pt", "cut.pt"))
    assert first.keys() == second.keys() == {"record", "state_dict", "step", "loss"}
    assert first["loss"] == second["loss"]


def test_the_seed_decides(tmp_path):
    first, second, other = (fit(tmp_path / f"{name}.pt", seed=seed)[0] for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert equal(first, second)
    assert not equal(first, other)


def test_ctrl_c_is_an_interrupt(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "a.pt", cut=6, error=KeyboardInterrupt)
    assert torch.load(tmp_path / "a.pt", weights_only=True)["step"] == 5


def test_only_the_progress_bar_is_shown(tmp_path, capfd, recwarn, caplog):
    fit(tmp_path / "a.pt", steps=3)
    output = capfd.readouterr()
    assert output.err == ""
    assert len(output.out.strip().splitlines()) <= 1
    assert "3/3" in output.out
    assert not caplog.records
    assert not [str(warning.message) for warning in recwarn]


def test_a_finished_training_is_read(tmp_path):
    first, _ = fit(tmp_path / "a.pt")
    again, drawn = fit(tmp_path / "a.pt", cut=0)
    assert drawn == []
    assert equal(first, again)
    assert read_trained(tmp_path / "a.pt")["record"]["kind"] == "toy"
    with pytest.raises(InputError, match=r"another training \(kind differs\)"):
        fit(tmp_path / "a.pt", kind="other")


@pytest.mark.parametrize("key", ["loops", "optimizer_states", "lr_schedulers", "pytorch-lightning_version"])
def test_an_unfinished_checkpoint_that_lacks_its_training_state(tmp_path, key):
    with pytest.raises(Cut):
        fit(tmp_path / "a.pt", cut=8)
    saved = torch.load(tmp_path / "a.pt", weights_only=True)
    del saved[key]
    torch.save(saved, tmp_path / "a.pt")
    with pytest.raises(InputError, match=rf"{key}.*remove it and train again"):
        fit(tmp_path / "a.pt")


def test_what_is_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read_trained(tmp_path / "absent.pt")
    torch.save({"weight": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="not a checkpoint of a trained"):
        read_trained(tmp_path / "a.pt")
    with pytest.raises(InputError, match="loss is"):
        fit(tmp_path / "b.pt", factor=float("nan"))
    assert not (tmp_path / "b.pt").exists()


def test_each_sample_once_in_a_pass():
    drawn = [draw(7, 3, step, seed=1) for step in range(7)]
    samples = [index for batch in drawn for index in batch]
    passes = [samples[start : start + 7] for start in range(0, 21, 7)]
    assert all(sorted(each) == list(range(7)) for each in passes)
    assert len({tuple(each) for each in passes}) == 3
    assert draw(7, 3, 4, seed=1) == drawn[4]
    assert draw(7, 7, 0, seed=2) != draw(7, 7, 0, seed=1)


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
def test_an_edited_checkpoint_is_refused(tmp_path, changed, says):
    torch.save({"record": {"steps": 4}, "state_dict": {}, "step": 4} | changed, tmp_path / "a.pt")
    with pytest.raises(InputError, match=says):
        read_trained(tmp_path / "a.pt")


def test_a_full_disk_leaves_nothing_of_a_checkpoint(tmp_path, monkeypatch):
    def full(saved, path):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 1 vs 2")

    monkeypatch.setattr(torch, "save", full)
    for steps in (1, 6):  # at the end, and in between
        with pytest.raises(InputError, match="cannot be written"):
            fit(tmp_path / "out" / "a.pt", steps=steps)
    assert list((tmp_path / "out").iterdir()) == []
