"""Restoring one video on disk to another: from a folder of frames or a video file, as a stream."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from lit_thermal.data.clips import open_clip
from lit_thermal.data.frames import Clip, FolderClip
from lit_thermal.data.radiometry import Normalize, display_range, histogram, radiometry_of, to_values
from lit_thermal.errors import InputError
from lit_thermal.inference.output import check_output, open_output
from lit_thermal.inference.video import MINIMUM, VideoRestorer, restore_video

DEFAULT_FPS = 25.0
"""Frame rate of the video where the input is a folder, which has none."""

Progress = Callable[[Iterable[Tensor], int], Iterable[Tensor]]
"""Passes frames on and shows how many of the total are done."""


def upscale(
    clip: Clip,
    target: Path,
    model: VideoRestorer,
    *,
    temporal_scale: int,
    tile: int | None = None,
    overlap: int = 16,
    device: torch.device | str = "cpu",
    fps: float | None = None,
    normalize: Normalize = "minmax",
    progress: Progress | None = None,
) -> int:
    """Restore a clip to a folder of frames of the same depth plus a video, or to a video file.

    Memory does not grow with the length: a 16-bit clip is read twice, first for its range.

    Args:
        clip: what `open_input` gave.
        target: folder, or path with a video's suffix.
        model: the method, in eval mode on `device`.
        temporal_scale: output frames per input frame.
        tile: side of the tiles in input pixels; none restores frames whole.
        overlap: input pixels that neighbouring tiles share.
        device: where the model is.
        fps: of the video; by default `temporal_scale` times the input's, or `DEFAULT_FPS` for a folder.
        normalize: mapping of 16-bit counts, see `radiometry_of`.
        progress: shows the progress.

    Returns:
        How many frames were written: `temporal_scale * (n - 1) + 1`.

    Raises:
        InputError: the input is damaged; nothing is left of the output then.
    """
    # 8-bit clips need no look at their range.
    counts = histogram(clip if clip.bits == 16 else (), clip.bits)
    radiometry = radiometry_of(counts, normalize)
    frames: Iterator[Tensor] = (to_values(frame, radiometry)[None] for frame in clip)
    restored: Iterable[Tensor] = restore_video(
        frames, model, temporal_scale=temporal_scale, tile=tile, overlap=overlap, device=device
    )
    total = temporal_scale * (clip.length - 1) + 1
    if progress is not None:
        restored = progress(restored, total)
    rate = fps or (temporal_scale * clip.fps if clip.fps else DEFAULT_FPS)
    height, width = clip.size
    tiff = isinstance(clip, FolderClip) and clip.files[0].suffix.lower() in (".tif", ".tiff")
    written = 0
    with open_output(
        target,
        size=(model.scale * height, model.scale * width),
        fps=rate,
        radiometry=radiometry,
        display=display_range(counts, radiometry),
        suffix=".tif" if tiff else ".png",
    ) as write:
        for frame in restored:
            write(frame)
            written += 1
    return written


def open_input(source: Path, target: Path, overwrite: bool) -> Clip:
    """Look at the input and the output before a model is loaded.

    Raises:
        InputError: the input is missing, damaged or too short, or the output must not be written.
    """
    clip = open_clip(source)
    if clip.length < MINIMUM:
        raise InputError(f"{source} has {clip.length} frames, restoring a video needs at least {MINIMUM}")
    check_output(source, target, overwrite)
    return clip


def check_model(model: object, temporal_scale: int | None, allow_untrained: bool) -> tuple[VideoRestorer, int]:
    """Check that a model restores videos at a temporal scale; none takes the smallest that it was trained for.

    Raises:
        InputError: the method restores single images, or was not trained for the temporal scale.
    """
    trained = getattr(model, "temporal_scales", None)
    if trained is None or not hasattr(model, "window"):
        raise InputError(f"the checkpoint holds {type(model).__name__}, which restores no video: use one of THERIS")
    if temporal_scale is None:
        temporal_scale = min(trained)
    if temporal_scale < 1:
        raise InputError(f"--temporal_scale {temporal_scale} must be at least 1")
    if temporal_scale not in trained and not allow_untrained:
        raise InputError(
            f"the model was trained for a temporal scale of {' or '.join(map(str, trained))}, not {temporal_scale}: "
            "give one of these, or --allow_untrained_scale to try"
        )
    return model, temporal_scale  # type: ignore[return-value]
