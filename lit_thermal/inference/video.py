"""Restoration of videos of any length: overlapping windows over a stream of frames, one of them in memory."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from lit_thermal.batch import Batch, output_times
from lit_thermal.data.datamodules.windows import handover
from lit_thermal.errors import InputError
from lit_thermal.inference.memory import memory_advice
from lit_thermal.ops.tile import tiled

MINIMUM = 3
"""Smallest number of input frames that can be restored; between two frames, interpolation is degenerate."""


class VideoRestorer(Protocol):
    """Interface of methods that restore videos, such as `lit_thermal.methods.THERIS`."""

    scale: int
    temporal_scales: tuple[int, ...]
    window: int

    def restore(self, batch: Batch) -> Tensor:
        """Return frames (B, T', 1, H, W) in [0, 1] at the times `hr_time` (B, T') from `lr` (B, T, 1, h, w)."""


@torch.inference_mode()
def restore_video(
    frames: Iterable[Tensor],
    model: VideoRestorer,
    *,
    temporal_scale: int,
    tile: int | None = None,
    overlap: int = 16,
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """Restore a stream of n frames to `temporal_scale * (n - 1) + 1` frames, each yielded once, in order.

    Windows of `model.window` frames overlap by two frames. Where two windows restore the same frames, each contributes
    the half that is nearer to its middle. The last window is moved back to end with the stream. Only one window of
    inputs and its outputs is in memory at a time.

    Args:
        frames: frames (1, h, w), float32 in [0, 1], all of the same size.
        model: method that restores the windows.
        temporal_scale: number of output frames per input frame.
        tile: side in input pixels of the tiles into which frames are cut; None restores whole frames.
        overlap: number of input pixels that neighbouring tiles share.
        device: device of the model.

    Yields:
        (1, scale * h, scale * w) float32 in [0, 1] on the CPU.

    Raises:
        InputError: the stream has fewer than 3 frames.
    """
    source = iter(frames)
    window = max(model.window, MINIMUM)
    inputs = list(itertools.islice(source, window))
    if len(inputs) < MINIMUM:
        raise InputError(f"a video needs at least {MINIMUM} frames to be restored, this one has {len(inputs)}")
    start = done = 0  # first input frame of the window; number of yielded output frames
    while True:
        ahead = list(itertools.islice(source, max(1, window - 2)))
        clip = torch.stack(inputs)
        restored = _restore_window(clip, model, temporal_scale, tile, overlap, device)
        first = temporal_scale * start
        stop = first + len(restored)
        if ahead:
            stop = handover(start + len(inputs) - 1, start + len(ahead), temporal_scale)
        yield from restored[done - first : stop - first].cpu()
        done = stop
        if not ahead:
            return
        start += len(ahead)
        inputs = inputs[len(ahead) :] + ahead


def _restore_window(
    clip: Tensor,
    model: VideoRestorer,
    temporal_scale: int,
    tile: int | None,
    overlap: int,
    device: torch.device | str,
) -> Tensor:
    """Restore (T, 1, h, w) to (T', 1, H, W)."""
    times = output_times(len(clip), temporal_scale).float()[None]  # times stay on the CPU, where they can be read
    lr_time = torch.arange(len(clip), dtype=torch.float32)[None]

    def restore(part: Tensor) -> Tensor:
        return model.restore({"lr": part[None], "lr_time": lr_time, "hr_time": times})[0]

    clip = clip.to(device)
    pixels = [min(side, tile or side) for side in clip.shape[-2:]]
    with memory_advice(device, pixels, what="frames"):
        if tile is None:
            return restore(clip).float()
        return tiled(restore, clip, tile=tile, overlap=overlap, scale=model.scale).float()
