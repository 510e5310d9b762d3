"""Images and videos to measure, read piece by piece: restored files of each method with their targets and inputs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.fixed_range import clip_in_common_counts, read_counts
from lit_thermal.data.formats.frames import RESTORED_TOLERANCE, Clip, read_header
from lit_thermal.data.formats.normalize import Normalize
from lit_thermal.data.formats.radiometry import clip_radiometry, to_values
from lit_thermal.data.readers.image_triplets import ImageFiles, ImageTriplet
from lit_thermal.errors import InputError

T = TypeVar("T")
TARGET = "the target"
"""Kind of the target; the other kinds are `--lr`, and `--pred NAME` for each method."""
CHUNK = 16
"""Number of frames of a video that are measured at once, with a neighbour on each side; fewer if they are large."""
_PIXELS_AT_ONCE = 1 << 22
"""Largest number of pixels in a chunk: with a dozen methods, 4 Mpixel each need about 500 MB."""


class Piece(NamedTuple):
    """An image or a chunk of a video's frames to measure, as a batch of size one."""

    name: str
    target: Tensor
    """Target frames (1, T, 1, H, W) in [0, 1]."""
    restored: dict[str, Tensor]
    """Restored frames of each method, in the shape of the target."""
    lr: Tensor | None
    """Input frames (1, X, 1, h, w) around them, not clipped to [0, 1]; None without inputs."""
    times: Tensor
    """Times (1, T) of the target frames, float32, in input frames from the first of `lr` on."""
    frames: Tensor
    """Frame numbers (1, T) in the clip, int64; -1 for frames that are only neighbours."""
    radiometry: Radiometry


def image_piece(name: str, files: Mapping[str, Path], size: tuple[int, int], normalize: Normalize) -> Piece:
    """Read an image.

    Args:
        name: name of the image.
        files: file of the target, of the input, and of each method, by kind.
        size: height and width at which it is measured.
        normalize: mapping of 16-bit counts to [0, 1].
    """
    hr, lr = files[TARGET], files.get("--lr")
    # The range of 16-bit counts is the one that a DataModule of images uses.
    scale = 1 if lr is None else scale_of(name, read_header(hr), read_header(lr))
    sample = ImageFiles.open(
        name, ImageTriplet(hr, lr, None), scale=scale, missing_lr=False, normalize=normalize
    ).read()
    assert sample.hr is not None

    def restored(path: Path) -> np.ndarray:
        counts, scale = read_counts(path, normalize, RESTORED_TOLERANCE)
        known = sample.radiometry
        if "counts" not in (scale.unit, known.unit) and scale.constants != known.constants:
            raise InputError(
                f"{path} and its target {hr} have different temperature scales: give --normalize a fixed range such as "
                "'kelvin 270..330'"
            )
        return counts

    def measured(counts: np.ndarray) -> Tensor:
        # Values are not clipped to the range of the input.
        return to_values(counts[: size[0], : size[1]], sample.radiometry, clip=False)[None, None, None]

    return Piece(
        name,
        measured(sample.hr),
        {kind: measured(restored(path)) for kind, path in by_method(files).items()},
        None if sample.lr is None else to_values(sample.lr, sample.radiometry, clip=False)[None, None, None],
        torch.zeros(1, 1),
        torch.zeros(1, 1, dtype=torch.long),
        sample.radiometry,
    )


def video_pieces(
    name: str, clips: Mapping[str, Clip], size: tuple[int, int], normalize: Normalize, temporal_scale: int
) -> Iterator[Piece]:
    """Read a video piece by piece, with one neighbouring frame on each side.

    Args:
        name: name of the clip.
        clips: clip of the target, of the input, and of each method, by kind.
        size: height and width at which it is measured.
        normalize: mapping of 16-bit counts to [0, 1].
        temporal_scale: number of target frames per input frame if there is no input.
    """
    clips = {kind: clip_in_common_counts(clip, normalize) for kind, clip in clips.items()}
    hr, lr = clips[TARGET], clips.get("--lr")
    step = temporal_scale if lr is None else _temporal_scale(name, hr, lr)
    radiometry = clip_radiometry(hr, normalize)

    def values(clip: Clip, first: int, stop: int) -> Tensor:
        return to_values(clip.read(first, stop), radiometry, clip=False)[None, :, None]

    def measured(clip: Clip, first: int, stop: int) -> Tensor:
        return values(clip, first, stop)[..., : size[0], : size[1]]

    chunk = max(2, min(CHUNK, _PIXELS_AT_ONCE // (hr.size[0] * hr.size[1])))
    for start in range(0, hr.length, chunk):
        first, stop = max(0, start - 1), min(hr.length, start + chunk + 1)
        numbers = torch.arange(first, stop)
        inside = (numbers >= start) & (numbers < start + chunk)
        before = first // step
        yield Piece(
            name,
            measured(hr, first, stop),
            {kind: measured(clip, first, stop) for kind, clip in by_method(clips).items()},
            None if lr is None else values(lr, before, -(-(stop - 1) // step) + 1),
            (numbers / step - before).float()[None],
            torch.where(inside, numbers, -1)[None],
            radiometry,
        )


def _temporal_scale(name: str, hr: Clip, lr: Clip) -> int:
    """Return the number of target frames per input frame."""
    step, rest = divmod(hr.length - 1, max(1, lr.length - 1))
    if step < 1 or rest or (lr.length == 1 and hr.length > 1):
        raise InputError(
            f"{name} has {hr.length} target frames and {lr.length} input frames; there must be a "
            "fixed number of target frames between two input frames, and both must end at the same time"
        )
    return step


def scale_of(name: str, target: Sequence[int], lr: Sequence[int]) -> int:
    """Return the scale between a target and its input from their sizes (height, width, ...).

    Raises:
        InputError: the ratio of the sizes is no whole number, or differs between height and width.
    """
    scale = target[0] // lr[0]
    if scale < 1 or tuple(target[:2]) != (lr[0] * scale, lr[1] * scale):
        raise InputError(
            f"the target of {name} is {target[1]}x{target[0]} and its input {lr[1]}x{lr[0]}, but it must be larger by "
            "the same whole number in both directions"
        )
    return scale


def tolerance(kind: str) -> int:
    """Return the largest difference between colour channels, in levels of 255, at which a file still counts as gray."""
    return RESTORED_TOLERANCE if kind.startswith("--pred ") else 0


def by_method(files: Mapping[str, T]) -> dict[str, T]:
    """Return the entries of methods by the name of the method, without target and input."""
    return {kind.removeprefix("--pred "): file for kind, file in files.items() if kind.startswith("--pred ")}
