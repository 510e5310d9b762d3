"""Restoration of a video file or a folder of frames, as a stream from disk to disk."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.clips import open_clip
from lit_thermal.data.formats.file_checks import check_files, check_gray
from lit_thermal.data.formats.fixed_range import clip_in_common_counts, scale_of
from lit_thermal.data.formats.frames import Clip, FolderClip
from lit_thermal.data.formats.normalize import NORMALIZE, Normalize
from lit_thermal.data.formats.radiometry import beyond, display_range, histogram, radiometry_of, to_values
from lit_thermal.data.formats.video_file import VideoClip
from lit_thermal.errors import InputError
from lit_thermal.inference.images import restore_frames
from lit_thermal.inference.output import claimed, open_output
from lit_thermal.inference.pages import is_pages_path, open_pages
from lit_thermal.inference.timing import Timing
from lit_thermal.inference.video import MINIMUM, restore_video
from lit_thermal.ops.outliers import put_back

log = logging.getLogger(__name__)

Progress = Callable[[Iterable[Tensor], int], Iterable[Tensor]]
"""Function that yields the given frames and shows progress; the second argument is their total number."""


def upscale(
    clip: Clip,
    target: Path,
    model: Any,
    *,
    temporal_scale: int,
    tile: int | None = None,
    overlap: int = 16,
    batch: int = 1,
    device: torch.device | str = "cpu",
    fps: float | None = None,
    normalize: Normalize = NORMALIZE,
    progress: Progress | None = None,
) -> int:
    """Restore a clip to a folder of frames of the same bit depth and a video, or to a video file.

    Frames of a video keep their times, and interpolated frames are evenly spaced between them; the model itself assumes
    equally spaced frames. Memory use does not depend on the length of the clip. A 16-bit clip is read twice, first for
    its range.

    A method of images restores each frame on its own.

    Args:
        clip: clip from `open_input`.
        target: folder, or path with the suffix of a video.
        model: method in eval mode on `device`.
        temporal_scale: number of output frames per input frame.
        tile: side of the tiles in input pixels; None restores whole frames.
        overlap: number of input pixels that neighbouring tiles share.
        batch: number of frames or tiles that a method of images restores at once.
        device: device of the model.
        fps: constant frame rate of the video; by default the frames' own times, or 25 for a folder of frames.
        normalize: mapping of 16-bit counts, see `radiometry_of`.
        progress: function that shows the progress.

    Returns:
        Number of written frames, `temporal_scale * (n - 1) + 1`.

    Raises:
        InputError: the input is damaged; then no output is left.
    """
    # The range of 8-bit clips is fixed.
    counted = clip_in_common_counts(clip, normalize)
    counts = histogram(counted if counted.bits == 16 else (), counted.bits)
    radiometry = radiometry_of(counts, normalize, counted, scale_of(counted))
    outside: dict[int, Tensor] = {}
    values = _values(counted, radiometry, outside)
    restored: Iterable[Tensor]
    if model.restores_clips:
        restored = restore_video(
            values, model, temporal_scale=temporal_scale, tile=tile, overlap=overlap, device=device
        )
    else:
        restored = restore_frames(values, model, tile=tile, overlap=overlap, batch=batch, device=device, name=clip.name)
    if progress is not None:
        restored = progress(restored, temporal_scale * (clip.length - 1) + 1)
    timing = Timing.of(clip, temporal_scale, fps)
    height, width = clip.size
    large = (model.scale * height, model.scale * width)
    written = 0
    if is_pages_path(target):
        total = (temporal_scale * (clip.length - 1) + 1) * math.prod(large)
        opened = open_pages(target, pixels=total, radiometry=radiometry)
    else:
        tiff = isinstance(clip, FolderClip) and clip.files[0].suffix.lower() in (".tif", ".tiff")
        opened = open_output(
            target,
            size=large,
            fps=timing.fps,
            radiometry=radiometry,
            display=display_range(counts, radiometry),
            suffix=".tif" if tiff else ".png",
            tick=timing.tick,
            aspect=clip.aspect if isinstance(clip, VideoClip) else Fraction(1),
        )
    with opened as write:
        for frame in _with_outliers(restored, outside, temporal_scale):
            write(frame, timing.stamp(written))
            written += 1
    return written


def _values(clip: Clip, radiometry: Radiometry, outside: dict[int, Tensor]) -> Iterator[Tensor]:
    """Yield the input frames in [0, 1]; values beyond the range that is mapped go to `outside`, by frame number."""
    for number, frame in enumerate(clip):
        if clip.bits == 16 and (lost := beyond(frame, radiometry)).any():
            outside[number] = lost[None, None]
        yield to_values(frame, radiometry)[None]


def _with_outliers(restored: Iterable[Tensor], outside: dict[int, Tensor], temporal_scale: int) -> Iterator[Tensor]:
    """Yield the restored frames with the values of `outside` at their places; entries no longer needed are removed."""
    for index, frame in enumerate(restored):
        # The nearest input frame; the earlier one if two are equally near.
        number = -((temporal_scale - 2 * index) // (2 * temporal_scale))
        if number in outside:
            frame = put_back(frame[None], outside[number])[0]
        outside.pop(number - 1, None)
        yield frame


@contextmanager
def open_input(
    source: Path,
    target: Path,
    overwrite: bool,
    *,
    temporal_scale: int | None = None,
    fps: float | None = None,
    fewest: int = MINIMUM,
) -> Iterator[Clip]:
    """Check the input and lock the output while the body runs; used before a model is loaded.

    Args:
        source: folder of frames or video file.
        target: output as for `upscale`, locked against other processes.
        overwrite: replace the output of an earlier run.
        temporal_scale: number of output frames per input frame.
        fps: constant frame rate of the video.
        fewest: smallest number of frames that the method needs.

    Raises:
        InputError: the input is missing, damaged or too short, or the output exists or cannot be written.
    """
    clip = open_clip(source)
    if clip.length < fewest:
        raise InputError(f"{source} has {clip.length} frames, restoring a video needs at least {fewest}")
    if isinstance(clip, FolderClip):
        check_files({file.name: file for file in clip.files}, lambda _, file: check_gray(file), f"frames of {source}")
    timing = Timing.of(clip, temporal_scale or 1, fps)
    if timing.tick is not None and target.suffix.lower() == ".avi":
        raise InputError(
            f"the frames of {source} are not equally spaced in time, which AVI cannot hold: "
            "let OUTPUT end in .mp4 or .mkv, or give --fps"
        )
    with claimed(source, target, overwrite):
        if timing.remark:
            log.warning("%s: %s", source, timing.remark)
        if isinstance(clip, VideoClip) and clip.aspect != 1:
            log.warning(
                "the pixels of %s are %s times as wide as high: videos keep this aspect ratio, single frames do not",
                source,
                clip.aspect,
            )
        yield clip


def temporal_scale_of(model: Any, given: int | None, allow_untrained: bool) -> int:
    """Return the number of output frames per input frame, after checking that a model can restore them.

    Args:
        model: model of a checkpoint.
        given: requested scale; None means the smallest one that the model was trained for, 1 for a method of images.
        allow_untrained: accept a scale that the model was not trained for.

    Raises:
        InputError: the scale is below 1, the method restores single images, or was not trained for the scale.
    """
    if given is not None and given < 1:
        raise InputError(f"--temporal_scale {given} must be at least 1")
    if not model.restores_clips:
        if given not in (None, 1):
            raise InputError(
                f"the checkpoint holds {type(model).__name__}, which restores each frame on its own and adds none: "
                "leave --temporal_scale out, or use a checkpoint of THERIS"
            )
        return 1
    trained = model.temporal_scales
    scale = min(trained) if given is None else given
    if scale not in trained and not allow_untrained:
        raise InputError(
            f"the model was trained for a temporal scale of {' or '.join(map(str, trained))}, not {scale}: "
            "give one of these, or --allow_untrained_scale to try"
        )
    return scale
