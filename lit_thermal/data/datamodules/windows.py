"""Windows of frames cut out of clips: random ones for training, all of them for measuring and restoring."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lit_thermal.batch import Radiometry, output_times
from lit_thermal.data.degradations.degradation import Degradation
from lit_thermal.data.formats.frames import Clip
from lit_thermal.data.formats.radiometry import beyond, to_values
from lit_thermal.errors import InputError

MARGIN = 4
"""Margin around a training crop, in LR pixels, that is degraded with it and cut off to avoid border effects."""


@dataclass
class Source:
    """A clip, its mapping to [0, 1], and its counts (T, H, W) if they are kept in memory."""

    clip: Clip
    radiometry: Radiometry
    counts: np.ndarray | None = None

    @property
    def name(self) -> str:
        """Name of the clip, for outputs and tables."""
        return self.clip.name

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.clip.size

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the counts (T, H, W) of frames `start` to `stop - 1`."""
        return self.clip.read(start, stop) if self.counts is None else self.counts[start:stop]

    @property
    def file(self) -> Path | None:
        """The file of the first frame; None if frames are not separate files."""
        files: Sequence[Path] = getattr(self.clip, "files", ())
        return files[0] if files else None


class TrainingWindows(Dataset[dict[str, Any]]):
    """Random windows of `frames` frames and crops of them, flipped, rotated and reversed in time.

    A sample depends only on the seed and its index, not on the worker that makes it; all windows of all clips are
    equally likely. The index grows from epoch to epoch (`TrainingSampler`), so that no two epochs are alike.

    Args:
        sources: clips of at least `frames` frames, with at least `crop * scale` pixels per side.
        frames: number of target frames in a window.
        scale: spatial scale.
        temporal_scale: number of target frames per input frame.
        crop: side of the input crops in pixels.
        degradation: degradation that makes input frames from target frames.
        augment: whether to flip, rotate and reverse samples in time.
        samples: number of samples in an epoch.
        seed: seed of all random draws.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        frames: int,
        scale: int,
        temporal_scale: int,
        crop: int,
        degradation: Degradation,
        augment: bool,
        samples: int,
        seed: int,
    ) -> None:
        side = crop * scale
        for source in sources:
            height, width = source.clip.size
            if min(height, width) < side:
                raise InputError(
                    f"data.crop {crop} at scale {scale} needs frames of at least {side}x{side}, "
                    f"but those of {source.clip.path} are {width}x{height}"
                )
        self.sources = sources
        self.frames, self.scale, self.temporal_scale, self.crop = frames, scale, temporal_scale, crop
        self.degradation, self.augment, self.samples, self.seed = degradation, augment, samples, seed
        # Cumulative number of windows that begin in each clip and those before it.
        self._ends = np.cumsum([source.clip.length - frames + 1 for source in sources])

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample with `lr` (T, 1, crop, crop) and `hr` (T', 1, crop * scale, crop * scale)."""
        rng = np.random.default_rng((self.seed, index))
        window = int(rng.integers(self._ends[-1]))
        place = int(np.searchsorted(self._ends, window, side="right"))
        source = self.sources[place]
        start = window - int(self._ends[place - 1]) if place else window
        counts = source.read(start, start + self.frames)
        if self.augment:
            flips = [slice(None, None, -1 if rng.random() < 0.5 else 1) for _ in range(3)]
            counts = counts[tuple(flips)]
            if rng.random() < 0.5:
                counts = counts.transpose(0, 2, 1)
        hr, lr = self._crop(counts, source.radiometry, rng)
        return {
            "lr": lr,
            "hr": hr,
            **_times(len(lr), self.temporal_scale),
            "radiometry": source.radiometry,
            "name": source.clip.name,
        }

    def _crop(self, counts: np.ndarray, radiometry: Radiometry, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return a random crop of counts (T', H, W) as `hr`, and the `lr` that it degrades to."""
        side, step = self.crop * self.scale, self.scale
        before, window = [], []
        for length in counts.shape[1:]:
            first = int(rng.integers(length - side + 1))
            low = min(MARGIN, first // step) * step
            high = min(MARGIN, (length - first - side) // step) * step
            before.append(low)
            window.append(slice(first - low, first + side + high))
        hr = to_values(np.ascontiguousarray(counts[:, window[0], window[1]]), radiometry)[:, None]
        lr = self.degradation(hr[:: self.temporal_scale], scale=step, seed=int(rng.integers(2**31)))
        y, x = before
        return (
            hr[..., y : y + side, x : x + side].contiguous(),
            lr[..., y // step : y // step + self.crop, x // step : x // step + self.crop].contiguous(),
        )


class TargetWindows(Dataset[dict[str, Any]]):
    """All frames of clips in windows of `frames` target frames, for measuring.

    A window begins on the input frame where the one before ended. The last one is moved back to end with the clip, so
    that windows share frames; `frame` numbers each frame in its clip. An incomplete step at the end of a clip is left
    out, and sides are cut to a multiple of the scale.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        frames: int,
        scale: int,
        temporal_scale: int,
        degradation: Degradation,
        seed: int,
    ) -> None:
        self.sources, self.frames, self.scale, self.temporal_scale = sources, frames, scale, temporal_scale
        self.degradation, self.seed = degradation, seed
        inputs = (frames - 1) // temporal_scale + 1
        self._windows = [
            (source, temporal_scale * start)
            for source in sources
            for start in window_starts((source.clip.length - 1) // temporal_scale + 1, inputs, inputs - 1)
        ]

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample with `lr` (T, 1, h, w) and `hr` (T', 1, scale * h, scale * w)."""
        source, start = self._windows[index]
        height, width = (side - side % self.scale for side in source.clip.size)
        counts = source.read(start, start + self.frames)[:, :height, :width]
        # measured as it is, also where it goes beyond the range that the clip is mapped by
        hr = to_values(np.ascontiguousarray(counts), source.radiometry, clip=False)[:, None]
        # One seed a clip: the fixed pattern of a noisy camera must not change from window to window.
        seed = (zlib.crc32(source.clip.name.encode()) + self.seed) % 2**31
        lr = self.degradation(hr[:: self.temporal_scale].clamp(0, 1), scale=self.scale, seed=seed)
        return {
            "lr": lr,
            "hr": hr,
            **_times(len(lr), self.temporal_scale),
            "frame": torch.arange(start, start + self.frames),
            "radiometry": source.radiometry,
            "name": source.clip.name,
        }


class InputWindows(Dataset[dict[str, Any]]):
    """All frames of clips in overlapping windows of `inputs` frames, as input to restore, without targets.

    If two windows both restore a frame, `frame` has its number in the window where it is farther from the end, and -1
    in the other, so that each frame of a clip belongs to one window only.
    """

    def __init__(self, sources: Sequence[Source], *, inputs: int, temporal_scale: int) -> None:
        self.temporal_scale = temporal_scale
        self._windows: list[tuple[Source, int, int, int, int]] = []
        for source in sources:
            length, done = source.clip.length, 0
            count = min(inputs, length)
            starts = window_starts(length, inputs, max(1, inputs - 2))
            for start, following in zip(starts, [*starts[1:], None], strict=True):
                stop = temporal_scale * (length - 1) + 1
                if following is not None:
                    stop = handover(start + count - 1, following, temporal_scale)
                self._windows.append((source, start, count, done, stop))
                done = stop

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample with `lr` (T, 1, h, w) and `beyond`, the values outside of the mapped range."""
        source, start, count, done, stop = self._windows[index]
        counts = source.read(start, start + count)
        lr, outside = to_values(counts, source.radiometry)[:, None], beyond(counts, source.radiometry)
        times = _times(count, self.temporal_scale)
        first = self.temporal_scale * start
        frame = torch.arange(first, first + len(times["hr_time"]))
        return {
            "lr": lr,
            **({"beyond": outside[:, None]} if outside.any() else {}),
            **times,
            "frame": torch.where((frame >= done) & (frame < stop), frame, -1),
            "radiometry": source.radiometry,
            "name": source.clip.name,
            "source": source.file,
        }


def check_numbers(
    *,
    frames: int,
    scale: int,
    temporal_scale: int,
    crop: int,
    batch_size: int,
    eval_batch_size: int,
    samples_per_epoch: int,
    num_workers: int,
) -> None:
    """Check the numbers from which a DataModule derives its windows.

    Raises:
        InputError: a number is out of range, or two numbers do not fit each other.
    """
    for name, value in {
        "scale": scale,
        "temporal_scale": temporal_scale,
        "crop": crop,
        "batch_size": batch_size,
        "eval_batch_size": eval_batch_size,
    }.items():
        if value < 1:
            raise InputError(f"data.{name} is {value}; it must be at least 1")
    if num_workers < 0:
        raise InputError(f"data.num_workers is {num_workers}; it must be at least 0")
    if (frames - 1) % temporal_scale or (frames - 1) // temporal_scale < 2:
        raise InputError(
            f"data.frames {frames} must be {temporal_scale} * k + 1 with k >= 2 (data.temporal_scale is "
            f"{temporal_scale}), such as {3 * temporal_scale + 1}"
        )
    if samples_per_epoch < batch_size:
        raise InputError(
            f"data.samples_per_epoch {samples_per_epoch} does not fill one batch of data.batch_size {batch_size}, so "
            "that nothing would be trained: raise it"
        )


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Return the starts of windows along `length` frames, `stride` apart; the last window ends with the frames."""
    last = max(0, length - window)
    return [*range(0, last, stride), last]


def handover(end: int, start: int, temporal_scale: int) -> int:
    """Return the first output frame that belongs to the next window, among the frames that both windows restore.

    Args:
        end: last input frame of the first window.
        start: first input frame of the next window.
        temporal_scale: number of output steps per input frame.
    """
    return temporal_scale * (end + start) // 2 + 1


def _times(inputs: int, temporal_scale: int) -> dict[str, Tensor]:
    return {
        "lr_time": torch.arange(inputs, dtype=torch.float32),
        "hr_time": output_times(inputs, temporal_scale).float(),
    }
