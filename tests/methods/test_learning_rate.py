"""Learning rates at each step, against the published rule."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch.optim import SGD, Optimizer

from lit_thermal.errors import InputError
from lit_thermal.methods.learning_rate import WarmUpHoldDecay
from lit_thermal.methods.plain_cnn.module import PlainCNN


def groups(*rates: float) -> Optimizer:
    return SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def rates(schedule: WarmUpHoldDecay, steps: int) -> list[list[float]]:
    """Of each group at each step, as the optimizer has them when it takes the step."""
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in schedule.optimizer.param_groups])
        schedule.optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(("steps", "warm_up"), [(11920, 60), (101, 0), (20, 4), (1, 0), (7, 6)])
def test_each_step_has_the_published_rate(steps, warm_up):
    # Rise from 0.005, level for 30 % of what is left, fall to 0.01 at the last step, each by its own line.
    level_ends = warm_up + 0.3 * (steps - 1 - warm_up)
    for step, (large, small) in enumerate(rates(WarmUpHoldDecay(groups(5e-5, 1e-6), steps, warm_up), steps)):
        if step < warm_up:
            expected = 0.005 + 0.995 * step / warm_up
        elif step < level_ends or level_ends == warm_up:
            expected = 1.0
        else:
            expected = 0.01 + 0.99 * (steps - 1 - step) / (steps - 1 - level_ends)
        assert large == pytest.approx(5e-5 * expected, rel=1e-9) and small == pytest.approx(1e-6 * expected, rel=1e-9)


def test_ends_and_corners():
    found = [rate for (rate,) in rates(WarmUpHoldDecay(groups(1.0), 1011, 10), 1020)]
    assert found[0] == 0.005 and found[10] == found[309] == 1.0 and found[311] < 1.0
    assert found[1010] == pytest.approx(0.01) and found[1019] == found[1010], "nothing rises after the end"
    assert all(b <= a for a, b in pairwise(found[10:]))


def test_a_warm_up_longer_than_the_training_is_never_left():
    schedule = WarmUpHoldDecay(groups(1.0), steps=5, warm_up=10)
    assert [schedule.factor(step) for step in (0, 5)] == [0.005, pytest.approx(0.5025)]


def test_it_goes_on_where_it_was():
    whole = rates(WarmUpHoldDecay(groups(1.0), 30, 5), 30)
    first = WarmUpHoldDecay(groups(1.0), 30, 5)
    rates(first, 12)
    second = WarmUpHoldDecay(groups(1.0), 30, 5)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert rates(second, 18) == whole[12:]


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"warm_up": -1}, {"first": -0.1}, {"last": -1}, {"hold": 1.0}])
def test_numbers_out_of_range(wrong):
    with pytest.raises(InputError, match="WarmUpHoldDecay"):
        WarmUpHoldDecay(groups(1.0), **{"steps": 10} | wrong)


def test_a_schedule_that_is_too_short_is_said_in_a_sentence():
    schedule = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-3, total_steps=20, pct_start=0.05)
    with pytest.raises(InputError, match=r"model\.lr_scheduler cannot be built .*larger trainer\.max_steps"):
        PlainCNN(width=4, blocks=1, lr_scheduler=schedule).configure_optimizers()
