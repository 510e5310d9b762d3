"""Files that any program restored, beside their targets: images by name, or videos frame by frame."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.clips import describe, find_clips, open_clip
from lit_thermal.data.formats.file_checks import check_files, check_gray
from lit_thermal.data.formats.frames import RESTORED_TOLERANCE, Clip, FolderClip, list_frames, read_frame, read_header
from lit_thermal.data.formats.normalize import NORMALIZE, Normalize
from lit_thermal.data.formats.radiometry import clip_radiometry, to_values
from lit_thermal.data.readers.image_triplets import ImageFiles, ImageTriplet
from lit_thermal.errors import InputError
from lit_thermal.files import by_stem

T = TypeVar("T")
TARGET = "the target"
CHUNK = 16
"""Frames of a video that are measured at once, with a neighbour on each side; fewer where they are large."""
_PIXELS_AT_ONCE = 1 << 22
"""A dozen methods hold their frames at once: 4 Mpixel each keep that near 500 MB."""


class Piece(NamedTuple):
    """An image, or some frames of a video, as they are measured; a batch of one."""

    name: str
    target: Tensor
    """(1, T, 1, H, W) in [0, 1]."""
    restored: dict[str, Tensor]
    """Method to the same shape."""
    lr: Tensor | None
    """(1, X, 1, h, w): the input frames around, not clipped to [0, 1]."""
    times: Tensor
    """(1, T) float32 times of the target frames, in input frames from the first of `lr` on."""
    frames: Tensor
    """(1, T) int64 numbers in the clip; -1 where a frame is only a neighbour."""
    radiometry: Radiometry


@dataclass(frozen=True)
class Folders:
    """What is measured.

    Attributes:
        hr: folder of targets.
        predictions: method to its folder.
        lr: folder of inputs, for the baselines and for what is restored here.
        common: leave out what some folder lacks, in place of refusing it.
        normalize: mapping of 16 bit to [0, 1].
        temporal_scale: target frames per input frame of videos, where there is no input to tell.
    """

    hr: Path
    predictions: Mapping[str, Path]
    lr: Path | None = None
    common: bool = False
    normalize: Normalize = NORMALIZE
    temporal_scale: int = 2


class Matched(NamedTuple):
    """What was found: the pieces in order when iterated over, and how many names and of what."""

    pieces: Callable[[], Iterator[Piece]]
    names: list[str]
    video: bool
    scale: int | None
    """How many times wider the targets are than the inputs; None without inputs."""
    left_out: str
    """One sentence on what is not measured, or nothing."""
    cut: str
    """One sentence on targets that are cut to the size of what was restored, or nothing."""


def match(folders: Folders) -> Matched:
    """Pair files by name and look at their headers, and where these have colours, at their pixels.

    A folder that holds images itself is one of images; one that holds folders of frames, or video files, is one of
    videos, which pair by their names, and their frames by order.

    Raises:
        InputError: a folder is missing or empty, files have no partner, sizes, depths or lengths do not go
            together, or an image is in colour.
    """
    video = not _images(folders.hr)
    if video and not _clips(folders.hr):
        raise InputError(f"{folders.hr} holds neither images nor videos to measure against; {describe(folders.hr)}")
    kinds = {TARGET: folders.hr} | {f"--pred {name}": path for name, path in folders.predictions.items()}
    kinds |= {"--lr": folders.lr} if folders.lr is not None else {}
    listed = {kind: _clips(path) if video else _images(path) for kind, path in kinds.items()}
    names = list(listed[TARGET])
    lacking = _compared(listed, {kind: str(path) for kind, path in kinds.items()})
    if lacking and not folders.common:
        raise InputError(f"{lacking}; make them the same, or give --common to measure what all have")
    names = [name for name in names if all(name in files for files in listed.values())]
    if not names:
        raise InputError(f"{' and '.join(map(str, kinds.values()))} have no name in common; {lacking}")
    files = [{kind: found[name] for kind, found in listed.items()} for name in names]
    if video:
        clips = {
            n: {kind: open_clip(p, _tolerance(kind)) for kind, p in paths.items()}
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
        _scale_of(n, headers[n, TARGET][1:3], header[1:3]) for (n, kind), header in headers.items() if kind == "--lr"
    }
    frames = {
        f"{path} of {kind}": (path, _tolerance(kind))
        for n, paths in zip(names, files, strict=True)
        for kind, file in paths.items()
        for path in (_frame_files(clips[n][kind]) if video else (file,))
    }
    check_files(frames, lambda _, item: check_gray(*item), "images to measure")
    if len(scales) > 1:
        raise InputError(
            f"the inputs in {folders.lr} are smaller by {_listed(list(map(str, sorted(scales))))}: give one"
        )

    def pieces() -> Iterator[Piece]:
        if video:
            yield from (piece for name, kinds in clips.items() for piece in _frames(name, kinds, folders, sizes[name]))
        else:
            yield from (_image(name, kinds, folders, sizes[name]) for name, kinds in zip(names, files, strict=True))

    told = [f"{n} of {_sides(headers[n, TARGET][1:3])} to {_sides(size)}" for n, size in cut.items()]
    shortened = (
        f"{len(cut)} targets are cut to the multiples of the scale that were restored: {_listed(told)}" if cut else ""
    )
    return Matched(pieces, names, video, next(iter(scales), None), lacking, shortened)


def _images(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    return by_stem(list_frames(folder), folder)


def _clips(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    return find_clips(folder)


def _compared(listed: Mapping[str, Mapping[str, Path]], places: Mapping[str, str]) -> str:
    """What folders lack of the targets, or have beyond them, in one sentence; nothing where they agree."""
    targets = listed[TARGET]
    parts = []
    for kind, files in listed.items():
        missing, extra = ([n for n in a if n not in b] for a, b in ((targets, files), (files, targets)))
        parts += [f"{places[kind]} lacks {len(missing)} of {len(targets)} ({_listed(missing)})"] if missing else []
        parts += [f"{places[kind]} has {len(extra)} without a target ({_listed(extra)})"] if extra else []
    return " and ".join(parts)


def _cut_sizes(headers: Mapping[tuple[str, str], tuple[int, int, int, int]]) -> dict[str, tuple[int, int]]:
    """Height and width that each target is measured at.

    A method restores the multiples of its scale and cuts the rest on the right and below: where predictions have the
    size that this leaves, at one scale for all, the target is cut alike.
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


SCALES = range(2, 33)
"""Scales that a cut is explained by."""


def _check(
    headers: Mapping[tuple[str, str], tuple[int, int, int, int]], sizes: Mapping[str, tuple[int, int]], unit: str
) -> None:
    """Refuse predictions of other lengths, sizes or depths than their targets'; larger ones are cut as targets are."""
    wrong = [
        f"{name} of {kind.removeprefix('--pred ')} is {_say(header, unit)} and its target {_say(target, unit)}"
        for (name, kind), header in headers.items()
        if kind not in (TARGET, "--lr")
        and header != (target := headers[name, TARGET])
        and header != (target[0], *sizes[name], target[3])
    ]
    depths = [
        f"{name} of --lr is of {header[3]} bit and its target of {headers[name, 'the target'][3]}"
        for (name, kind), header in headers.items()
        if kind == "--lr" and header[3] != headers[name, TARGET][3]
    ]
    if wrong or depths:
        raise InputError(
            f"{len(wrong) + len(depths)} files differ from their targets: {_listed([*wrong, *depths], '; ')}"
        )


def _sides(size: Sequence[int]) -> str:
    return f"{size[1]}x{size[0]}"


def _say(header: tuple[int, int, int, int], unit: str) -> str:
    count, height, width, bits = header
    return f"{f'{count} {unit} ' if unit else ''}{width}x{height} of {bits} bit"


def _scale_of(name: str, target: Sequence[int], lr: Sequence[int]) -> int:
    scale = target[0] // lr[0]
    if scale < 1 or tuple(target[:2]) != (lr[0] * scale, lr[1] * scale):
        raise InputError(
            f"the target of {name} is {target[1]}x{target[0]} and its input {lr[1]}x{lr[0]}, which is no whole number "
            "of times smaller each way"
        )
    return scale


def _image(name: str, files: Mapping[str, Path], folders: Folders, size: tuple[int, int]) -> Piece:
    hr, lr = files[TARGET], files.get("--lr")
    # The range of 16 bit is found as a DataModule of images finds it.
    scale = 1 if lr is None else _scale_of(name, read_header(hr), read_header(lr))
    triplet = ImageTriplet(hr, lr, None)
    sample = ImageFiles.open(name, triplet, scale=scale, missing_lr=False, normalize=folders.normalize).read()
    assert sample.hr is not None

    def measured(counts: np.ndarray) -> Tensor:
        # as it is, also where it goes beyond the range of the input
        return to_values(counts[: size[0], : size[1]], sample.radiometry, clip=False)[None, None, None]

    return Piece(
        name,
        measured(sample.hr),
        {kind: measured(read_frame(path, RESTORED_TOLERANCE)) for kind, path in _named(files).items()},
        None if sample.lr is None else to_values(sample.lr, sample.radiometry, clip=False)[None, None, None],
        torch.zeros(1, 1),
        torch.zeros(1, 1, dtype=torch.long),
        sample.radiometry,
    )


def _frames(name: str, clips: Mapping[str, Clip], folders: Folders, size: tuple[int, int]) -> Iterator[Piece]:
    hr, lr = clips[TARGET], clips.get("--lr")
    step = folders.temporal_scale if lr is None else _step_of(name, hr, lr)
    radiometry = clip_radiometry(hr, folders.normalize)

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
            {kind: measured(clip, first, stop) for kind, clip in _named(clips).items()},
            None if lr is None else values(lr, before, -(-(stop - 1) // step) + 1),
            (numbers / step - before).float()[None],
            torch.where(inside, numbers, -1)[None],
            radiometry,
        )


def _step_of(name: str, hr: Clip, lr: Clip) -> int:
    """Target frames per input frame."""
    step, rest = divmod(hr.length - 1, max(1, lr.length - 1))
    if step < 1 or rest or (lr.length == 1 and hr.length > 1):
        raise InputError(
            f"{name} has {hr.length} target frames and {lr.length} input frames; between two input frames there must "
            "be a fixed number of target frames, and the last ones must meet"
        )
    return step


def _frame_files(clip: Clip) -> Sequence[Path]:
    return clip.files if isinstance(clip, FolderClip) else ()


def _tolerance(kind: str) -> int:
    """By how many levels of 255 the channels of images may differ."""
    return RESTORED_TOLERANCE if kind.startswith("--pred ") else 0


def _named(files: Mapping[str, T]) -> dict[str, T]:
    """Method to what belongs to it."""
    return {kind.removeprefix("--pred "): file for kind, file in files.items() if kind.startswith("--pred ")}


def _listed(names: Sequence[str], by: str = ", ") -> str:
    names = list(names)
    return by.join(names[:3]) + (f"{by}and {len(names) - 3} more" if len(names) > 3 else "")
