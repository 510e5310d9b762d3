"""Output of restored videos: a folder of frames with a preview video, or a video file; complete or not at all."""

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.frames import FRAME_SUFFIXES, write_frame
from lit_thermal.data.formats.tiff_clip import SUFFIXES as TIFF
from lit_thermal.data.formats.video_file import CONTAINERS, VIDEO_SUFFIXES, VideoWriter
from lit_thermal.errors import InputError, short
from lit_thermal.files import LONGEST, PART, check_name, locked

VIDEO_NAME = "video.mp4"
OLD = ".old"
"""Suffix of the hidden folder to which an earlier result is renamed while the new one takes its place."""
_OURS = re.compile(r"\d{6,}\.(png|tif)|video\.mp4|\..+\.part")
_ROOM = LONGEST - len("..12345678") - len(PART)
"""Largest length in bytes of an output's name, so that the longer names of its hidden files are still valid."""

Write = Callable[[Tensor, int | None], None]
"""Function that writes the next frame, (1, H, W) in [0, 1], with its time stamp if frames have time stamps."""


def is_video_path(path: Path) -> bool:
    """Return whether the output is a video file and not a folder."""
    return path.suffix.lower() in VIDEO_SUFFIXES


@contextmanager
def claimed(source: Path, target: Path, overwrite: bool) -> Iterator[None]:
    """Lock an output for this process while the body runs, and remove the remains of killed runs.

    Raises:
        InputError: another process writes the output, it is the input, it exists and `overwrite` is off, it contains
            files that `upscale` did not write, or it cannot be written.
    """
    # Checked once before a folder is created for the lock, and again with the lock.
    check_output(source, target, overwrite)
    target = target.resolve()
    made = [folder for folder in target.parents if not folder.exists()]
    lock = _beside(target, ".lock")
    done = False
    try:
        with locked(lock, f"OUTPUT {target}"):
            try:
                _clear(target)
                check_output(source, target, overwrite)
                yield
                done = True
            finally:
                with suppress(OSError):
                    lock.unlink()
    finally:
        for folder in [] if done else made:
            with suppress(OSError):
                folder.rmdir()


def check_output(source: Path, target: Path, overwrite: bool) -> None:
    """Refuse an output that would destroy other files, before any work is done.

    Raises:
        InputError: the output is the input, it exists and `overwrite` is off, it contains files that `upscale` did not
            write, or its name is not valid.
    """
    try:
        source, target = source.resolve(), target.resolve()
        if target.name:
            check_name(target.name)
        entries = sorted(entry.name for entry in target.iterdir()) if target.is_dir() else []
        exists, is_mount = target.exists(), target.is_mount()
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a NUL character
        raise _unwritable(target, error) from error
    if target == source or target in source.parents:
        raise InputError(f"OUTPUT {target} is or holds INPUT {source}: choose another place")
    if exists and not (target.is_dir() or target.is_file()):
        raise InputError(f"OUTPUT {target} is neither a file nor a folder: choose another place")
    pages = target.suffix.lower() in TIFF and not target.is_dir()
    if is_video_path(target) or pages:
        if target.suffix.lower() not in (*CONTAINERS, *TIFF):
            raise InputError(f"videos are written as {', '.join(CONTAINERS)}, which OUTPUT {target} is not")
        if target.is_dir():
            raise InputError(f"OUTPUT {target} is a folder: name a file or another folder")
        if exists and not overwrite:
            raise InputError(f"OUTPUT {target} exists: choose another name or give --overwrite")
        return
    if exists and not target.is_dir():
        raise InputError(f"OUTPUT {target} is a file: name a folder, or a video ending in .mp4, .avi or .mkv")
    if target.suffix.lower() in FRAME_SUFFIXES and not exists:
        raise InputError(
            f"OUTPUT {target} is named as an image: name a folder, or a video ending in .mp4, .avi or .mkv"
        )
    if is_mount:
        raise InputError(f"OUTPUT {target} is a mount point and cannot be replaced: name a folder in it")
    if entries and not overwrite:
        raise InputError(f"OUTPUT {target} is not empty: choose another folder or give --overwrite")
    # Numbered frames may come from a camera; those of an earlier output are recognised by their video.
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
    tick: Fraction | None = None,
    aspect: Fraction = Fraction(1),
) -> Iterator[Write]:
    """Open a video file, or a folder of numbered frames with a video `VIDEO_NAME`, for writing.

    All data are written to a hidden path beside `target`, which replaces `target` at the end. After an error, the
    hidden path is removed and an earlier output is unchanged.

    Args:
        target: path with the suffix of a video, or a folder.
        size: height and width of the frames.
        fps: frames per second of the video.
        radiometry: mapping of frames to counts.
        display: values that the video shows as black and white, the same for all frames.
        suffix: suffix of the frames, ".png" or ".tif".
        tick: duration in seconds of one unit of the time stamps; None for a constant frame rate.
        aspect: ratio of width to height of a pixel.

    Raises:
        InputError: the output cannot be written, the disk is full, or a video cannot have that size.
    """
    target = target.resolve()
    made = [folder for folder in target.parents if not folder.exists()]
    of_body: BaseException | None = None
    done = False
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _folder(target) as part, VideoWriter(part or target, size, fps, tick, aspect) as video:
            count = 0

            def write(values: Tensor, stamp: int | None = None) -> None:
                nonlocal count
                try:
                    if part is not None:
                        write_frame(part.parent / f"{count:06d}{suffix}", values, radiometry)
                    video.write(_shown(values, display), stamp)
                except (OSError, av.error.FFmpegError) as error:
                    raise _unwritable(target, error) from error
                count += 1

            try:
                yield write
            except BaseException as error:
                of_body = error
                raise
        done = True
    except (OSError, av.error.FFmpegError, InputError) as error:
        if error is of_body or not (cause := _cause(error)):
            raise
        raise _unwritable(target, cause) from error
    finally:
        for folder in [] if done else made:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _folder(target: Path) -> Iterator[Path | None]:
    """Yield the path of the video in a hidden folder that becomes `target`, or None if the output is a video file."""
    if is_video_path(target):
        yield None
        return
    part = _beside(target, f".{secrets.token_hex(4)}{PART}")
    part.mkdir()
    try:
        yield part / VIDEO_NAME
        _publish(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _shown(values: Tensor, display: tuple[float, float]) -> np.ndarray:
    """Map values (1, H, W) to gray levels (H, W), uint8, for display."""
    low, high = display
    return ((values[0] - low) * (255 / (high - low))).round().clamp(0, 255).byte().cpu().numpy()


def _publish(part: Path, target: Path) -> None:
    """Rename a finished folder to its final name, then remove the output of an earlier run."""
    old = part.with_suffix(OLD)
    with suppress(FileNotFoundError):
        os.rename(target, old)
    try:
        os.rename(part, target)
    except BaseException:
        with suppress(OSError):
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _clear(target: Path) -> None:
    """Remove the remains of killed runs beside an output that this process has locked."""
    if len(os.fsencode(target.name)) > _ROOM:
        return  # hidden names are cut and may belong to another output
    hidden = re.compile(re.escape(f".{target.name}") + r"\.[0-9a-f]{8}(\.part|\.old)")
    for path in sorted(target.parent.iterdir()):
        if not hidden.fullmatch(path.name):
            continue
        if path.suffix == OLD and not target.exists():  # killed between the two moves of `_publish`
            os.rename(path, target)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _beside(target: Path, ending: str) -> Path:
    """Return a hidden path beside `target`, with its name cut if it would be too long."""
    start = os.fsencode(target.name)[:_ROOM].decode(errors="ignore")
    return target.with_name(f".{start}{ending}")


def _cause(error: BaseException) -> BaseException | None:
    """Return the error of the system or of FFmpeg behind a failed write, or None for other errors."""
    if isinstance(error, (OSError, av.error.FFmpegError)):
        return error
    return error.__cause__ if isinstance(error.__cause__, (OSError, av.error.FFmpegError)) else None


def _unwritable(target: Path, error: BaseException) -> InputError:
    return InputError(f"OUTPUT {target} cannot be written ({short(error)}): make room or choose another place")
