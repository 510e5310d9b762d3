"""Folders to measure: files that any program restored are paired with their targets, as images or as videos."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lit_thermal.data.formats.clips import describe, find_clips, open_clip
from lit_thermal.data.formats.file_checks import check_files, check_gray
from lit_thermal.data.formats.frames import Clip, FolderClip, list_frames, read_header
from lit_thermal.data.formats.normalize import NORMALIZE, Normalize
from lit_thermal.errors import InputError
from lit_thermal.files import by_stem, check_partners, without_partner
from lit_thermal.measuring.pieces import TARGET, Piece, image_piece, scale_of, tolerance, video_pieces

SCALES = range(2, 33)
"""Scales that may explain why a restored file is smaller than its target."""


@dataclass(frozen=True)
class Folders:
    """Folders to measure.

    Attributes:
        hr: folder of targets.
        predictions: folder of each method, by name.
        lr: folder of inputs, needed for baselines and comparators.
        common: measure only the names that all folders have; otherwise a missing file is an error.
        normalize: mapping of 16-bit counts to [0, 1].
        temporal_scale: number of target frames per input frame of videos, used if there is no input.
    """

    hr: Path
    predictions: Mapping[str, Path]
    lr: Path | None = None
    common: bool = False
    normalize: Normalize = NORMALIZE
    temporal_scale: int = 2


class Matched(NamedTuple):
    """Matched files, and messages about them."""

    pieces: Callable[[], Iterator[Piece]]
    """Function that reads the pieces in order."""
    names: list[str]
    video: bool
    scale: int | None
    """Ratio of the widths of targets and inputs; None without inputs."""
    left_out: str
    """Clause about files that are not measured, or an empty string."""
    cut: str
    """Sentence about targets that are cut to the size of the restored files, or an empty string."""


def match(folders: Folders) -> Matched:
    """Pair files by name and check their headers, and the pixels of files with colour channels.

    A folder with images is measured image by image. A folder with folders of frames, or with video files, is measured
    as videos. Videos are paired by name, and their frames in order.

    Raises:
        InputError: a folder is missing or empty, files have no partner, sizes, bit depths or lengths do not match, or
            an image is in colour.
    """
    video = not _images(folders.hr)
    if video and not _clips(folders.hr):
        raise InputError(f"{folders.hr} holds neither images nor videos as targets; {describe(folders.hr)}")
    kinds = {TARGET: folders.hr} | {f"--pred {name}": path for name, path in folders.predictions.items()}
    kinds |= {"--lr": folders.lr} if folders.lr is not None else {}
    listed = {kind: _clips(path) if video else _images(path) for kind, path in kinds.items()}
    names = list(listed[TARGET])
    anywhere = list(dict.fromkeys(name for files in listed.values() for name in files))
    places = {str(path): listed[kind] for kind, path in kinds.items()}
    if not folders.common:
        check_partners(anywhere, places, "make them the same, or give --common to measure what all have")
    names = [name for name in names if all(name in files for files in listed.values())]
    if not names:
        raise InputError(f"{' and '.join(map(str, kinds.values()))} have no common file names")
    files = [{kind: found[name] for kind, found in listed.items()} for name in names]
    if video:
        clips = {
            n: {kind: open_clip(p, tolerance(kind)) for kind, p in paths.items()}
            for n, paths in zip(names, files, strict=True)
        }
        headers = {(n, kind): (c.length, *c.size, c.bits) for n, cs in clips.items() for kind, c in cs.items()}
    else:
        headers = {(n, k): (1, *read_header(p)) for n, ps in zip(names, files, strict=True) for k, p in ps.items()}
        clips = {}
    sizes = _cut_sizes(headers)
    cut = {n: s for n, s in sizes.items() if s != headers[n, TARGET][1:3]}
    _check(headers, sizes, "frames of" if video else "")
    scales = {
        scale_of(n, headers[n, TARGET][1:3], header[1:3]) for (n, kind), header in headers.items() if kind == "--lr"
    }
    frames = {
        f"{path} of {kind}": (path, tolerance(kind))
        for n, paths in zip(names, files, strict=True)
        for kind, file in paths.items()
        for path in (_frame_files(clips[n][kind]) if video else (file,))
    }
    check_files(frames, lambda _, item: check_gray(*item), "images to measure")
    if len(scales) > 1:
        raise InputError(
            f"the targets are {_listed(list(map(str, sorted(scales))))} times larger than the inputs in {folders.lr}: "
            "all must have the same scale"
        )

    def pieces() -> Iterator[Piece]:
        if video:
            yield from (
                piece
                for name, kinds in clips.items()
                for piece in video_pieces(name, kinds, sizes[name], folders.normalize, folders.temporal_scale)
            )
        else:
            yield from (
                image_piece(name, kinds, sizes[name], folders.normalize)
                for name, kinds in zip(names, files, strict=True)
            )

    changes = [f"{n} of {_sides(headers[n, TARGET][1:3])} to {_sides(size)}" for n, size in cut.items()]
    shortened = (
        f"{len(cut)} targets are cut to the multiples of the scale that were restored: {_listed(changes)}"
        if cut
        else ""
    )
    return Matched(pieces, names, video, next(iter(scales), None), without_partner(anywhere, places), shortened)


def _images(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    return by_stem(list_frames(folder), folder)


def _clips(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    return find_clips(folder)


def _cut_sizes(headers: Mapping[tuple[str, str], tuple[int, int, int, int]]) -> dict[str, tuple[int, int]]:
    """Return the height and width at which each target is measured.

    Methods cut their inputs on the right and at the bottom to multiples of the scale. If all smaller predictions have
    the size that one scale explains, the targets are cut in the same way.
    """
    sizes = {name: header[1:3] for (name, kind), header in headers.items() if kind == TARGET}
    smaller = {
        name: header[1:3]
        for (name, kind), header in headers.items()
        if kind not in (TARGET, "--lr") and header[1:3] != sizes[name]
    }
    for scale in SCALES:
        if all(tuple(side - side % scale for side in sizes[name]) == size for name, size in smaller.items()):
            return sizes | smaller
    return sizes


def _check(
    headers: Mapping[tuple[str, str], tuple[int, int, int, int]], sizes: Mapping[str, tuple[int, int]], unit: str
) -> None:
    """Refuse predictions that differ from their targets in length, size or bit depth; cropped targets are allowed."""
    wrong = [
        f"{name} of {kind.removeprefix('--pred ')} is {_text(header, unit)} and its target {_text(target, unit)}"
        for (name, kind), header in headers.items()
        if kind not in (TARGET, "--lr")
        and header != (target := headers[name, TARGET])
        and header != (target[0], *sizes[name], target[3])
    ]
    depths = [
        f"{name} of --lr is of {header[3]} bit and its target of {headers[name, TARGET][3]}"
        for (name, kind), header in headers.items()
        if kind == "--lr" and header[3] != headers[name, TARGET][3]
    ]
    if wrong or depths:
        raise InputError(
            f"{len(wrong) + len(depths)} files differ from their targets: {_listed([*wrong, *depths], '; ')}"
        )


def _sides(size: Sequence[int]) -> str:
    return f"{size[1]}x{size[0]}"


def _text(header: tuple[int, int, int, int], unit: str) -> str:
    count, height, width, bits = header
    return f"{f'{count} {unit} ' if unit else ''}{width}x{height} of {bits} bit"


def _frame_files(clip: Clip) -> Sequence[Path]:
    return clip.files if isinstance(clip, FolderClip) else ()


def _listed(names: Sequence[str], by: str = ", ") -> str:
    names = list(names)
    return by.join(names[:3]) + (f"{by}and {len(names) - 3} more" if len(names) > 3 else "")
