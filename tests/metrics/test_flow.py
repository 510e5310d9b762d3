"""Motion of a restored video, on patterns that move by known steps."""

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.metrics.flow import _follow, optical_flow_error, warping_error
from lit_thermal.metrics.metric import MetricInput, Unavailable

pytest.importorskip("cv2")


def moving(step: float, frames: int = 4, phase: float = 0.0) -> Tensor:
    """A smooth texture that moves to the right, (1, T, 1, 48, 64), whole in 8 bit."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    times = [x - step * t + phase for t in range(frames)]
    pictures = [0.5 + 0.2 * torch.sin(0.35 * s) * torch.cos(0.28 * y) + 0.2 * torch.sin(0.21 * (s + y)) for s in times]
    return ((255 * torch.stack(pictures)).round() / 255)[None, :, None]


def metric_input(restored: Tensor, target: Tensor) -> MetricInput:
    return MetricInput(restored, target, [Radiometry()] * len(target))


def test_flows_differ_by_what_the_speeds_differ():
    target = moving(1.0)
    assert optical_flow_error(metric_input(target, target)).tolist() == [[0.0, 0.0, 0.0]]
    # A video that stands still misses the whole motion of one pixel a frame.
    still = target[:, :1].expand_as(target)
    assert optical_flow_error(metric_input(still, target)).mean().item() == pytest.approx(1.0, abs=0.2)
    assert optical_flow_error(metric_input(moving(2.0), target)).mean().item() == pytest.approx(1.0, abs=0.2)


def test_a_map_is_read_where_the_flow_leads():
    maps = torch.arange(12.0).view(1, 3, 4)
    flow = torch.zeros(3, 4, 2)
    flow[..., 0], flow[..., 1] = 0.5, 1.0
    read, inside = _follow(maps, flow)
    torch.testing.assert_close(read[0, :2, :3], torch.tensor([[4.5, 5.5, 6.5], [8.5, 9.5, 10.5]]))
    assert inside.tolist() == [[True, True, True, False]] * 2 + [[False] * 4]


def test_what_moves_with_the_target_does_not_flicker():
    target = moving(1.0)
    own = warping_error(metric_input(target, target))
    assert own.shape == (1, 3) and own.max() < 2e-4
    flicker = target.clone()
    flicker[:, 1::2] += 0.1
    assert warping_error(metric_input(flicker, target)).mean().item() == pytest.approx(0.01, rel=0.15)
    # A constant error does not flicker; standing still does, against a target that moves.
    assert warping_error(metric_input(target - 0.05, target)).max() < 2e-4
    assert warping_error(metric_input(target[:, :1].expand_as(target), target)).min() > 5 * own.max()


def test_without_opencv_and_without_numbers(monkeypatch):
    target = moving(1.0)
    assert optical_flow_error(metric_input(target * torch.nan, target)).isnan().all()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(Unavailable, match=r"tof needs OpenCV: pip install 'lit_thermal\[metrics\]'"):
        optical_flow_error(metric_input(target, target))


def test_a_cut_where_nothing_is_seen_again_is_no_failure(monkeypatch):
    away = np.full((32, 32, 2), 100, dtype=np.float32)
    monkeypatch.setattr("lit_thermal.metrics.flow._flow", lambda *_: away)
    video = torch.rand(1, 3, 1, 32, 32)
    assert warping_error(metric_input(video, video)).tolist() == [[0.0, 0.0]]
