"""Finding and opening clips, which are folders of frames, video files, or TIFF files of several pages."""

from pathlib import Path

from lit_thermal.data.formats import cptv_file
from lit_thermal.data.formats.frames import Clip, FolderClip, list_frames
from lit_thermal.data.formats.tiff_clip import SUFFIXES, PagesClip, is_pages
from lit_thermal.data.formats.video_file import VIDEO_SUFFIXES, VideoClip
from lit_thermal.errors import InputError, reading
from lit_thermal.files import by_stem, is_plain, natural_order

CLIP_SUFFIXES = VIDEO_SUFFIXES | {cptv_file.SUFFIX}
"""Suffixes of files that are always clips."""


def is_clip(path: Path) -> bool:
    """Return whether a path is a video, a TIFF of several pages, or a folder that directly holds frames."""
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return bool(list_frames(path))
    return path.suffix.lower() in CLIP_SUFFIXES or is_pages(path)


def find_clips(folder: Path) -> dict[str, Path]:
    """Return the clips directly inside a folder by name, in natural order.

    Raises:
        InputError: two clips have the same name.
    """
    return by_stem(sorted(filter(is_clip, folder.iterdir()), key=natural_order), folder)


def open_clip(path: Path, tolerance: int = 0) -> Clip:
    """Open a folder of frames, a video file or a TIFF of several pages as a clip.

    Args:
        path: path of the folder or file.
        tolerance: largest allowed difference between the channels of a frame in a folder, in 8-bit levels.

    Raises:
        InputError: the path does not exist, is not a clip, or is damaged.
    """
    with reading(path, "a video or a folder of frames"):
        if not path.exists():
            raise InputError(f"{path} does not exist")
        if not path.is_dir():
            if not is_plain(path):
                raise InputError(f"{path} is a pipe or a device: give a folder of frames or a video file")
            if path.suffix.lower() == cptv_file.SUFFIX:
                return cptv_file.CptvClip.open(path)
            if path.suffix.lower() in SUFFIXES:
                return PagesClip.open(path)
            if path.suffix.lower() not in VIDEO_SUFFIXES:
                kinds = ", ".join(sorted(CLIP_SUFFIXES))
                raise InputError(f"{path} is neither a folder of frames nor a video ({kinds})")
            return VideoClip.open(path)
        if not list_frames(path):
            raise InputError(f"{path} holds no frames; {describe(path)}")
        return FolderClip.open(path, tolerance)


def describe(folder: Path) -> str:
    """Return the contents of a folder, in a few words for an error message."""
    entries = sorted(folder.iterdir(), key=natural_order)
    if not entries:
        return "it is empty"
    names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries]
    return f"it holds {', '.join(names[:6])}" + (f" and {len(names) - 6} more" if len(names) > 6 else "")
