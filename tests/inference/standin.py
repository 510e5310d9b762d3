"""A stand-in for a trained model: bicubic enlargement and a linear blend in time, with the attributes of THERIS."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lit_thermal.batch import Batch
from lit_thermal.ops.resize import resize


def stand_for_a_checkpoint(monkeypatch: pytest.MonkeyPatch, model: type | None = None) -> None:
    """Let every `--model` name a stand-in."""
    kind = model or Blend
    monkeypatch.setattr("lit_thermal.weights.find_model", Path)
    monkeypatch.setattr("lit_thermal.weights.recorded_class", lambda path: kind)
    monkeypatch.setattr("lit_thermal.weights.load_model", lambda path: kind())


class Blend(nn.Module):
    scale = 4
    takes_guide = draws = False
    restores_clips = True
    temporal_scales = (2,)
    normalize: str | None = None
    degradation: str | None = None
    window = 4

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []

    def restore(self, batch: Batch) -> Tensor:
        lr, times = batch["lr"], batch["hr_time"][0]
        assert not torch.is_grad_enabled() and lr.dtype == torch.float32 and batch["lr_time"].shape == lr.shape[:2]
        self.lengths.append(lr.shape[1])
        first = times.floor().long().clamp(max=lr.shape[1] - 2)
        share = (times - first).view(1, -1, 1, 1, 1)
        blend = lr[:, first] * (1 - share) + lr[:, first + 1] * share
        size = (self.scale * lr.shape[-2], self.scale * lr.shape[-1])
        return resize(blend, size, a=-0.75, antialias=False, border="replicate").clamp(0, 1)


class Enlarge(nn.Module):
    """Bicubic enlargement of images, with the attributes of a method of images."""

    scale = 4
    takes_guide = draws = restores_clips = False
    normalize: str | None = None
    degradation: str | None = None

    def restore(self, batch: Batch) -> Tensor:
        lr = batch["lr"]
        assert torch.is_inference_mode_enabled() and len(batch["name"]) == len(lr)
        size = (self.scale * lr.shape[-2], self.scale * lr.shape[-1])
        return resize(lr, size, a=-0.75, antialias=False, border="replicate").clamp(0, 1)


class Centrality(Blend):
    """Returns how far each output is from the ends of its window, so that a test sees which one was kept."""

    def restore(self, batch: Batch) -> Tensor:
        times = batch["hr_time"][0]
        depth = torch.minimum(times, times[-1] - times) / 10
        height, width = batch["lr"].shape[-2:]
        return depth.view(1, -1, 1, 1, 1).expand(1, -1, 1, 4 * height, 4 * width)
