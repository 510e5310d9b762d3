"""Dead and hot pixels come out of a restoration as they went in."""

import torch

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.frames import to_counts
from lit_thermal.ops.outliers import completed

RANGE = Radiometry(3000.0, 100.0, 16)
RESTORED = torch.full((1, 1, 6, 8), 0.5)


def outside() -> torch.Tensor:
    beyond = torch.zeros(1, 3, 4)
    beyond[0, 1, 2] = (65535 - 3100) / 100
    beyond[0, 2, 0] = -30.0
    return beyond


def test_a_pixel_outside_of_the_range_comes_back_in_its_block():
    counts = to_counts(completed(RESTORED, {"beyond": outside()[None]})[0, 0], RANGE)
    assert (counts[2:4, 4:6] == 65535).all() and (counts[4:6, :2] == 0).all()
    assert (counts == 3050).sum() == 6 * 8 - 8


def test_frames_between_two_take_what_the_nearer_one_has():
    beyond = torch.stack([torch.zeros(1, 3, 4), outside(), torch.zeros(1, 3, 4)])
    times = {"lr_time": torch.arange(3.0)[None] + 4, "hr_time": torch.arange(5.0)[None] / 2 + 4}
    video = completed(RESTORED[:, None].expand(1, 5, 1, 6, 8), {"beyond": beyond[None], **times})
    changed = [bool((frame != 0.5).any()) for frame in video[0]]
    assert changed == [False, False, True, True, False]


def test_nothing_changes_without_it_or_without_the_camera():
    assert completed(RESTORED, {}) is RESTORED
    given = {"beyond": outside()[None], "has_lr": torch.tensor([False])}
    assert torch.equal(completed(RESTORED, given), RESTORED)
