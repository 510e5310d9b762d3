"""Restoring a video of any length: overlapping windows over a stream of frames, of which a few are held."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from lit_thermal.batch import Batch, output_times
from lit_thermal.data.datamodules.windows import handover
from lit_thermal.errors import InputError
from lit_thermal.ops.tile import tiled

MINIMUM = 3
"""Fewest input frames that can be restored (k >= 2: between two frames the interpolation is degenerate)."""


class VideoRestorer(Protocol):
    """What restoring a video needs of a method; `lit_thermal.methods.THERIS` has it."""

    scale: int
    temporal_scales: tuple[int, ...]
    window: int

    def restore(self, batch: Batch) -> Tensor:
        """(B, T', 1, H, W) in [0, 1] from `lr` (B, T, 1, h, w) at `hr_time` (B, T')."""


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

    Windows of `model.window` frames overlap by two frames, and of what two windows both restore each gives the half
    that lies nearer to its middle. The last window is moved back to end with the stream. Only one window of inputs
    and its outputs is held, whatever the length.

    Args:
        frames: (1, h, w) float32 in [0, 1], all of one size.
        model: the method.
        temporal_scale: output steps per input frame.
        tile: side of the tiles in input pixels that large frames are cut into; none restores them whole.
        overlap: input pixels that neighbouring tiles share.
        device: where the model is.

    Yields:
        (1, scale * h, scale * w) float32 in [0, 1] on the CPU.

    Raises:
        InputError: the stream has fewer than 3 frames.
    """
    source = iter(frames)
    window = max(model.window, MINIMUM)
    held: list[Tensor] = []
    for frame in source:
        held.append(frame)
        if len(held) == window:
            break
    if len(held) < MINIMUM:
        raise InputError(f"a video needs at least {MINIMUM} frames to be restored, this one has {len(held)}")
    start = done = 0  # the window's first input frame; how many output frames are out
    while True:
        ahead = [frame for _, frame in zip(range(max(1, window - 2)), source, strict=False)]
        clip = torch.stack(held)
        restored = _restore_window(clip, model, temporal_scale, tile, overlap, device)
        first = temporal_scale * start
        stop = first + len(restored)
        if ahead:
            stop = handover(start + len(held) - 1, start + len(ahead), temporal_scale)
        yield from restored[done - first : stop - first].cpu()
        done = stop
        if not ahead:
            return
        start += len(ahead)
        held = held[len(ahead) :] + ahead


def _restore_window(
    clip: Tensor,
    model: VideoRestorer,
    temporal_scale: int,
    tile: int | None,
    overlap: int,
    device: torch.device | str,
) -> Tensor:
    """Restore (T, 1, h, w) to (T', 1, H, W)."""
    times = output_times(len(clip), temporal_scale).float().to(device)[None]
    lr_time = torch.arange(len(clip), dtype=torch.float32, device=device)[None]

    def restore(part: Tensor) -> Tensor:
        return model.restore({"lr": part[None], "lr_time": lr_time, "hr_time": times})[0]

    clip = clip.to(device)
    try:
        if tile is None:
            return restore(clip).float()
        return tiled(restore, clip, tile=tile, overlap=overlap, scale=model.scale).float()
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        height, width = clip.shape[-2:]
        advice = f"give --tile {max(32, min(height, width, tile or 10**6) // 2)}"
        raise InputError(f"frames of {width}x{height} do not fit into the memory of {device}: {advice}") from error
