"""Motion in a restored video, measured by OpenCV's optical flow (extra `metrics`)."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.metrics.metric import MetricInput, Unavailable

FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)
"""Farneback's parameters: pyramid scale, levels, window, iterations, polynomial neighbourhood and sigma, flags."""


def optical_flow_error(inputs: MetricInput) -> Tensor:
    """Compute tOF, the difference in motion between the restored video and the target, (B, T - 1) in pixels.

    It is the mean length of ``flow(P_{t-1}, P_t) - flow(G_{t-1}, G_t)`` over the pixels, with Farneback's flow of the
    frames as 8-bit gray, for the frames 1 to T - 1.

    Raises:
        Unavailable: OpenCV is not installed.

    Source: Chu et al., "Learning temporal coherence via self-supervision for GAN-based video generation" (TecoGAN),
        2020, whose released code uses this length; Farneback's parameters as in the scripts of BF-STVSR.
    """
    cv2 = _opencv("tof")
    return _over_clips(inputs, lambda ours, true: [_tof(cv2, ours, true, t) for t in range(1, len(true))])


def warping_error(inputs: MetricInput) -> Tensor:
    """Compute the warping error, the flicker along the true motion, (B, T - 1), squared values in [0, 1].

    Frame t of the restored video is warped back to frame t - 1 by the target's flow and compared with it: the mean
    squared difference over the pixels that both frames show, where the forward and backward flow agree
    (``|f + b|^2 < 0.01 (|f|^2 + |b|^2) + 0.5``) and the pixel stays inside the frame; 0 if there are none, as at a cut.
    The target's own value is above 0 if it is noisy. It is measured for the frames 1 to T - 1.

    Raises:
        Unavailable: OpenCV is not installed.

    Source: Lai et al., "Learning blind video temporal consistency", 2018, section 4.2, with Farneback's flow instead of
        a network's.
    """
    cv2 = _opencv("warping_error")

    def errors(ours: Tensor, true: Tensor) -> list[float]:
        return [_warped(cv2, ours, true, t) for t in range(1, len(true))]

    return _over_clips(inputs, errors)


def _tof(cv2: Any, ours: Tensor, true: Tensor, t: int) -> float:
    difference = _flow(cv2, ours[t - 1], ours[t]) - _flow(cv2, true[t - 1], true[t])
    return float(np.sqrt(np.square(difference).sum(axis=-1)).mean())


def _warped(cv2: Any, ours: Tensor, true: Tensor, t: int) -> float:
    forth = torch.from_numpy(_flow(cv2, true[t - 1], true[t])).double()
    back = torch.from_numpy(_flow(cv2, true[t], true[t - 1])).double()
    there, inside = _follow(torch.cat([ours[t][None].double().cpu(), back.permute(2, 0, 1)]), forth)
    returned = there[1:].permute(1, 2, 0)
    closed = (forth + returned).square().sum(-1)
    lengths = forth.square().sum(-1) + returned.square().sum(-1)
    visible = inside & (closed < 0.01 * lengths + 0.5)
    squared = (there[0] - ours[t - 1].double().cpu()).square()[visible]
    return float(squared.mean()) if len(squared) else 0.0


def _follow(maps: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Sample maps (C, H, W) bilinearly where the flow (H, W, 2) leads each pixel, and tell if that lies inside."""
    height, width = flow.shape[:2]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = columns + flow[..., 0], rows + flow[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    grid = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1)
    return F.grid_sample(maps[None], grid[None], align_corners=True, padding_mode="border")[0], inside


def _flow(cv2: Any, before: Tensor, after: Tensor) -> np.ndarray:
    """Flow (H, W, 2), pixels right and down, between frames (H, W); what lies outside [0, 1] is clipped."""
    gray = [(255 * x.float().clamp(0, 1)).round().byte().cpu().numpy() for x in (before, after)]
    return _flow_of_bytes(cv2.calcOpticalFlowFarneback, before.shape, *(x.tobytes() for x in gray))


@lru_cache(maxsize=2 * 18)
def _flow_of_bytes(farneback: Any, shape: tuple[int, int], before: bytes, after: bytes) -> np.ndarray:
    """Compute the flow; the target's flows, which every method is compared with, are cached for the next method."""
    gray = (np.frombuffer(x, np.uint8).reshape(shape) for x in (before, after))
    return farneback(*gray, None, *FARNEBACK)  # type: ignore[no-any-return]


def _over_clips(inputs: MetricInput, measure: Any) -> Tensor:
    """Apply `measure` to the frames (T, H, W) of each clip: (B, T - 1), with NaN for NaN frames."""
    clips: list[Sequence[float]] = []
    for ours, true in zip(inputs.restored[:, :, 0], inputs.target[:, :, 0], strict=True):
        lost = bool(ours.isnan().any())
        clips.append([float("nan")] * (len(true) - 1) if lost else measure(ours, true))
    return torch.tensor(clips, dtype=torch.float32)


def _opencv(metric: str) -> Any:
    try:
        import cv2
    except ImportError as error:
        raise Unavailable(f"{metric} needs OpenCV: pip install 'lit_thermal[metrics]'") from error
    return cv2
