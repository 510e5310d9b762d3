"""Surgery keeps exactly what fits by name and shape."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from lit_thermal.errors import InputError
from lit_thermal.weights import transplant
from lit_thermal.weights.surgery import compare


def net(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def test_kept_dropped_new_and_buffers():
    old = net(a=nn.Linear(2, 3), norm=nn.BatchNorm1d(3), b=nn.Linear(3, 4), gone=nn.Linear(4, 4))
    nn.init.constant_(old.norm.running_mean, 7.0)
    new = net(a=nn.Linear(2, 3), norm=nn.BatchNorm1d(3), b=nn.Linear(3, 5), fresh=nn.Conv1d(5, 5, 1))
    before = {name: value.clone() for name, value in new.state_dict().items()}
    result = transplant(new, old.state_dict(), "old.ckpt")

    assert set(result.kept) == {"a.weight", "a.bias", *(f"norm.{n}" for n in nn.BatchNorm1d(3).state_dict())}
    assert set(result.dropped) == {"b.weight", "b.bias", "gone.weight", "gone.bias"}
    assert set(result.new) == {"b.weight", "b.bias", "fresh.weight", "fresh.bias"}
    after = new.state_dict()
    assert all(torch.equal(after[name], old.state_dict()[name]) for name in result.kept)
    assert all(torch.equal(after[name], before[name]) for name in result.new)
    assert torch.equal(after["norm.running_mean"], torch.full((3,), 7.0))
    assert result.dropped["b.weight"] == (4, 3) and result.new["b.weight"] == (5, 3)


def test_the_table_names_the_largest_modules_of_one_fate():
    old = net(body=net(one=net(x=nn.Linear(1, 1), y=nn.Linear(1, 1)), two=nn.Linear(1, 1)))
    new = net(body=net(one=net(x=nn.Linear(1, 1), y=nn.Linear(2, 1)), two=nn.Linear(1, 1), three=old.body.one))
    table = transplant(new, old.state_dict(), "old.ckpt").table().splitlines()
    assert [line.split() for line in table] == [
        ["tensors", "values"],
        ["kept", "5", "5"],
        ["dropped", "1", "1"],
        ["new", "5", "6"],
        ["dropped", "body.one.y.weight", "(1)"],
        ["new", "body.one.y.weight", "(1)"],
        ["new", "body.three", "(4)"],
    ]


def test_the_table_of_another_network_stays_short():
    def layers(width: int) -> nn.ModuleList:
        return nn.ModuleList(nn.Linear(3, width) for _ in range(40))

    old = nn.ModuleList([*layers(4), nn.Linear(1, 5)]).state_dict() | {"0.bias": torch.ones(5)}
    lines = transplant(layers(5), old, "old.ckpt").table().splitlines()
    assert lines[1:6] == [
        "  kept             1           5",
        "  dropped         81         646",
        "  new             79         795",
        "  dropped   0.weight (1)",
        "  dropped   1 (2)",
    ]
    assert [line.strip() for line in lines if "more" in line] == [
        "dropped   31 more modules (62)",
        "new       30 more modules (60)",
    ]
    assert len(lines) == 4 + 2 * 11


def test_everything_fits_or_nothing_does():
    model = nn.Linear(2, 2)
    assert not transplant(model, nn.Linear(2, 2).state_dict(), "x").dropped
    with pytest.raises(InputError, match=r"none of the 2 weights of x\.ckpt fits Linear by name and shape"):
        transplant(model, nn.Linear(3, 3).state_dict(), "x.ckpt")


def test_precision_of_the_model_stays():
    model = nn.Linear(2, 2).bfloat16()
    transplant(model, nn.Linear(2, 2).state_dict(), "x")
    assert model.weight.dtype == torch.bfloat16


def test_compare_is_empty_for_equal_models():
    state = nn.Linear(2, 2).state_dict()
    found = compare(state, state)
    assert not (found.missing or found.unexpected or found.reshaped)
