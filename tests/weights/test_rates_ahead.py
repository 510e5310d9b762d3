"""What the learning rate does in a training that goes on is reported before it does."""

import pytest
import torch
from torch import nn

from lit_thermal.errors import InputError
from lit_thermal.methods.base import SuperResolver
from lit_thermal.weights.schedule import describe_rates, rates_ahead


class Small(SuperResolver):
    """One weight."""

    def __init__(self, lr_scheduler=None) -> None:
        super().__init__(2, torch.optim.Adam, lr_scheduler)
        self.layer = nn.Linear(1, 1)


def cosine(length):
    return lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, length, eta_min=1e-7)


def trained(model: Small, steps: int) -> tuple[dict, list[float]]:
    """Train; the checkpoint of step 6, and the rate of each step from there on."""
    made = model.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    checkpoint, rates = {}, []
    for step in range(steps):
        if step == 6:
            groups = [dict(group) for group in optimizer.param_groups]
            checkpoint = {"global_step": 6, "optimizer_states": [{"param_groups": groups}]}
            checkpoint["lr_schedulers"] = [dict(schedule.state_dict())]
        if step >= 6:
            rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return checkpoint, rates


def test_the_rates_are_those_of_the_training_that_went_on():
    checkpoint, expected = trained(Small(cosine(8)), 16)
    found = rates_ahead(Small(cosine(16)), checkpoint, 16)
    assert list(found) == list(range(6, 16)) and list(found.values()) == pytest.approx(expected, rel=1e-9)
    assert describe_rates(found) == "the learning rate is 0.000147 at step 7, 1e-07 at step 9, 0.000962 at step 16"


def test_nothing_is_reported_where_nothing_changes():
    checkpoint, _ = trained(Small(cosine(8)), 8)
    assert not rates_ahead(Small(cosine(8)), checkpoint, 6) and not rates_ahead(Small(cosine(8)), checkpoint, -1)
    assert not rates_ahead(Small(), checkpoint, 20) and describe_rates({}) == ""


def test_a_schedule_that_ends_says_so():
    def once(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=8)

    checkpoint, _ = trained(Small(once), 8)
    assert len(rates_ahead(Small(once), checkpoint, 8)) == 2
    with pytest.raises(InputError, match=r"the schedule OneCycleLR of the checkpoint ends before step 12 .*--from"):
        rates_ahead(Small(once), checkpoint, 12)
