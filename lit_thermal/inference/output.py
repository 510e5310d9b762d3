"""Where restored videos go: a folder of frames with a video to look at, or a video file alone; whole or not at all."""

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
from lit_thermal.data.formats.video_file import CONTAINERS, VIDEO_SUFFIXES, VideoWriter
from lit_thermal.errors import InputError, short
from lit_thermal.files import LONGEST, PART, check_name, locked

VIDEO_NAME = "video.mp4"
OLD = ".old"
"""Suffix of the hidden folder that an earlier result is while the new one takes its place."""
_OURS = re.compile(r"\d{6,}\.(png|tif)|video\.mp4|\..+\.part")
_ROOM = LONGEST - len("..12345678") - len(PART)
"""Bytes of an output's name that fit into the hidden names beside it."""

Write = Callable[[Tensor, int | None], None]
"""Takes the next frame, (1, H, W) in [0, 1], and its time stamp where frames have their own."""


def is_video_path(path: Path) -> bool:
    """True where the output is to be a video file and no folder."""
    return path.suffix.lower() in VIDEO_SUFFIXES


@contextmanager
def claimed(source: Path, target: Path, overwrite: bool) -> Iterator[None]:
    """Hold an output for this process while the body runs, and clear what killed runs left of it.

    Raises:
        InputError: another process is writing it; the output is the input, or exists and `overwrite` is off, or holds
            files of others; it cannot be written.
    """
    # what can be refused at once is refused before a folder is made for the lock
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
    """Refuse an output that would destroy something, before any work is done.

    Raises:
        InputError: the output is the input, or exists and `overwrite` is off, or holds files of others, or no output
            can have its name.
    """
    try:
        source, target = source.resolve(), target.resolve()
        if target.name:
            check_name(target.name)
        entries = sorted(entry.name for entry in target.iterdir()) if target.is_dir() else []
        exists, is_mount = target.exists(), target.is_mount()
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # a link that leads to itself, a NUL character
        raise _unwritable(target, error) from error
    if target == source or target in source.parents:
        raise InputError(f"OUTPUT {target} is or holds INPUT {source}: choose another place")
    if exists and not (target.is_dir() or target.is_file()):
        raise InputError(f"OUTPUT {target} is neither a file nor a folder: choose another place")
    if is_video_path(target):
        if target.suffix.lower() not in CONTAINERS:
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
        raise InputError(f"OUTPUT {target} is a mount point, which cannot be replaced whole: name a folder in it")
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
    tick: Fraction | None = None,
    aspect: Fraction = Fraction(1),
) -> Iterator[Write]:
    """Open a video file or a folder of numbered frames plus `VIDEO_NAME` for writing.

    Everything is written to a hidden name beside `target`, which takes its place at the end. After an error nothing
    is left, and what stood in its place stands there still.

    Args:
        target: a path with a video's suffix, or a folder.
        size: (height, width) of the frames.
        fps: frames per second of the video.
        radiometry: how frames map to counts.
        display: values that the video shows as black and white; fixed for all frames.
        suffix: of the frames, ".png" or ".tif".
        tick: seconds of one unit of the frames' time stamps; none where they follow at `fps`.
        aspect: width of a pixel over its height.

    Raises:
        InputError: the place cannot be written, or is full, or no video of that size can be made.
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
    """Yield where the video of a folder of frames goes, in a hidden folder that becomes `target`; None for a video."""
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
    """(1, H, W) values to (H, W) uint8 for the eye."""
    low, high = display
    return ((values[0] - low) * (255 / (high - low))).round().clamp(0, 255).byte().cpu().numpy()


def _publish(part: Path, target: Path) -> None:
    """Move a finished folder to its place; what an earlier run wrote there goes when the new one is in."""
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
    """Remove what killed runs left beside an output that this process holds."""
    if len(os.fsencode(target.name)) > _ROOM:
        return  # the hidden names are cut, and may be those of another output
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
    """A hidden path beside `target`, which is cut where the name would be too long."""
    start = os.fsencode(target.name)[:_ROOM].decode(errors="ignore")
    return target.with_name(f".{start}{ending}")


def _cause(error: BaseException) -> BaseException | None:
    """What the system or FFmpeg said, where an error tells that a file cannot be written."""
    if isinstance(error, (OSError, av.error.FFmpegError)):
        return error
    return error.__cause__ if isinstance(error.__cause__, (OSError, av.error.FFmpegError)) else None


def _unwritable(target: Path, error: BaseException) -> InputError:
    return InputError(f"OUTPUT {target} cannot be written ({short(error)}): make room or choose another place")
