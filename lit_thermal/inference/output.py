"""Where restored videos go: a folder of frames with a video to look at, or a video file alone; whole or not at all."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import numpy as np
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.frames import write_frame
from lit_thermal.data.video_file import VIDEO_SUFFIXES, VideoWriter
from lit_thermal.errors import InputError

VIDEO_NAME = "video.mp4"
_OURS = re.compile(r"\d{6,}\.(png|tif)|video\.mp4|\..+\.part")

Write = Callable[[Tensor], None]
"""Takes the next frame, (1, H, W) in [0, 1]."""


def is_video_path(path: Path) -> bool:
    """True where the output is to be a video file and no folder."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def check_output(source: Path, target: Path, overwrite: bool) -> None:
    """Refuse an output that would destroy something, before any work is done.

    Raises:
        InputError: the output is the input, or exists and `overwrite` is off, or holds files of others.
    """
    source, target = source.resolve(), target.resolve()
    if target == source or target in source.parents:
        raise InputError(f"OUTPUT {target} is or holds INPUT {source}: choose another place")
    if is_video_path(target):
        if target.is_dir():
            raise InputError(f"OUTPUT {target} is a folder: name a file or another folder")
        if target.exists() and not overwrite:
            raise InputError(f"OUTPUT {target} exists: choose another name or give --overwrite")
        return
    if target.exists() and not target.is_dir():
        raise InputError(f"OUTPUT {target} is a file: name a folder, or a video ending in .mp4, .avi or .mkv")
    entries = sorted(entry.name for entry in target.iterdir()) if target.exists() else []
    if entries and not overwrite:
        raise InputError(f"OUTPUT {target} is not empty: choose another folder or give --overwrite")
    # A camera numbers its frames too; ours stand beside their video.
    if foreign := [name for name in entries if VIDEO_NAME not in entries or not _OURS.fullmatch(name)]:
        raise InputError(
            f"OUTPUT {target} holds {foreign[0]}, which upscale did not write: --overwrite would lose it, "
            "choose another folder"
        )


@contextmanager
def open_output(
    target: Path,
    *,
    size: tuple[int, int],
    fps: float,
    radiometry: Radiometry,
    display: tuple[float, float] = (0.0, 1.0),
    suffix: str = ".png",
) -> Iterator[Write]:
    """Open a video file or a folder of numbered frames plus `VIDEO_NAME` for writing.

    Everything is written to a hidden name beside `target`, which takes its place at the end. After an error nothing
    is left; what a killed process left is thrown away by the next run.

    Args:
        target: a path with a video's suffix, or a folder.
        size: (height, width) of the frames.
        fps: frames per second of the video.
        radiometry: how frames map to counts.
        display: values that the video shows as black and white; fixed for all frames.
        suffix: of the frames, ".png" or ".tif".

    Raises:
        InputError: the place cannot be written, or is full, or no video of that size can be made.
    """
    target = target.resolve()
    made = [folder for folder in target.parents if not folder.exists()]
    done = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_video_path(target):
            with VideoWriter(target, size, fps) as video:
                yield lambda values: video.write(_shown(values, display))
        else:
            with _open_folder(target, size, fps, radiometry, display, suffix) as write:
                yield write
        done = True
    except (OSError, av.error.FFmpegError) as error:
        raise InputError(f"OUTPUT {target} cannot be written ({error.strerror or error}): choose another") from error
    finally:
        for folder in [] if done else made:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _open_folder(
    target: Path,
    size: tuple[int, int],
    fps: float,
    radiometry: Radiometry,
    display: tuple[float, float],
    suffix: str,
) -> Iterator[Write]:
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    count = 0

    try:
        with VideoWriter(part / VIDEO_NAME, size, fps) as video:

            def write(values: Tensor) -> None:
                nonlocal count
                write_frame(part / f"{count:06d}{suffix}", values, radiometry)
                video.write(_shown(values, display))
                count += 1

            yield write
        _publish(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _shown(values: Tensor, display: tuple[float, float]) -> np.ndarray:
    """(1, H, W) values to (H, W) uint8 for the eye."""
    low, high = display
    return ((values[0] - low) * (255 / (high - low))).round().clamp(0, 255).byte().cpu().numpy()


def _publish(part: Path, target: Path) -> None:
    """Move a finished folder to its place, replacing what an earlier run wrote there."""
    if not target.exists():
        os.replace(part, target)
        return
    for entry in target.iterdir():
        if _OURS.fullmatch(entry.name):
            entry.unlink()
    for entry in sorted(part.iterdir()):
        os.replace(entry, target / entry.name)
