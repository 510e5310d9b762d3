"""Plan of a restoration of files: which inputs there are, and which file each result is written to."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lit_thermal.data.formats.clips import CLIP_SUFFIXES, describe, find_clips, is_clip
from lit_thermal.data.formats.frames import FRAME_SUFFIXES, list_frames
from lit_thermal.data.formats.tags import KEEPS_FORMAT, restored_name
from lit_thermal.data.formats.tiff_clip import SUFFIXES as TIFF
from lit_thermal.data.formats.tiff_clip import is_pages
from lit_thermal.data.formats.video_file import CONTAINERS, VIDEO_SUFFIXES
from lit_thermal.errors import InputError
from lit_thermal.files import check_name, natural_order
from lit_thermal.inference.palette import view_name
from lit_thermal.plain_files import read_text

LIST = ".txt"
"""Suffix of a file that lists inputs, one path per line, relative to the folder of the list."""
FLOATS = ".tif"
"""Suffix of results that hold float numbers."""


@dataclass(frozen=True)
class Job:
    """One result.

    Attributes:
        source: input file, or folder of frames.
        target: file to write, or folder for the frames of a clip.
        clip: whether the input is a clip.
    """

    source: Path
    target: Path
    clip: bool


@dataclass(frozen=True)
class Plan:
    """All results of one call.

    Attributes:
        jobs: results to make.
        refused: inputs that cannot be restored, with the reason.
        finished: results of an earlier run, which stay.
    """

    jobs: tuple[Job, ...]
    refused: dict[Path, InputError] = field(default_factory=dict)
    finished: tuple[Job, ...] = ()


def find_inputs(words: Sequence[str | Path], clips: bool) -> Iterator[tuple[Path, bool]]:
    """Yield each input, and whether it is a clip.

    A folder stands for the images and clips in it. For a method of video, a folder of frames is one clip.

    Args:
        words: files, folders and lists of them.
        clips: whether the method restores clips.

    Raises:
        InputError: a path does not exist, or a folder holds nothing to restore.
    """
    for word in words:
        path = Path(word)
        if not os.path.lexists(path):
            raise InputError(f"INPUT {path} does not exist")
        if path.is_dir():
            yield from _inside(path, clips)
        elif path.suffix.lower() == LIST:
            lines = [line.strip() for line in read_text(path, "a list of inputs").splitlines()]
            listed = [path.parent / line for line in lines if line and not line.startswith("#")]
            if not listed:
                raise InputError(f"{path} lists no input: write one path per line")
            yield from ((entry, _is_clip_file(entry)) for entry in listed)
        else:
            yield path, _is_clip_file(path)


def plan(inputs: Sequence[tuple[Path, bool]], output: Path, suffix: str | None, overwrite: bool) -> Plan:
    """Return the results of all inputs; nothing is written.

    The results of several inputs go to the folder `output` under the names of the inputs; that of a single one may be
    `output` itself.

    Args:
        inputs: inputs from `find_inputs`.
        output: folder, or file for a single input.
        suffix: suffix of restored images; None keeps that of the input if it can hold the result.
        overwrite: replace results of earlier runs.

    Raises:
        InputError: the output is the name of a file although there are several inputs.
    """
    single = len(inputs) == 1
    if not single and _is_file_name(output) and not os.path.isdir(output):
        raise InputError(f"OUTPUT {output} is named as a file, but there are {len(inputs)} inputs: name a folder")
    if os.path.exists(output) and not os.path.isdir(output) and not single:
        raise InputError(f"OUTPUT {output} is a file: name a folder")
    jobs, refused, finished = [], {}, []
    for source, clip in inputs:
        try:
            job = Job(source, _target(source, clip, output, suffix, single), clip)
            if not clip:
                check_name(job.target.name)
                _check_place(job)
        except InputError as error:
            refused[source] = error
            continue
        jobs.append(job)
    for names in _collisions(jobs):
        for job in names:
            others = ", ".join(str(other.source) for other in names if other is not job)
            refused[job.source] = InputError(
                f"{job.source} and {others} have the same name, so that both would be written to {job.target}: rename "
                "one, or restore them to different folders"
            )
    jobs = [job for job in jobs if job.source not in refused]
    if not overwrite:
        # a single clip that exists is refused by its own check
        finished = [job for job in jobs if os.path.exists(job.target) and not (single and job.clip)]
        jobs = [job for job in jobs if job not in finished]
    return Plan(tuple(jobs), refused, tuple(finished))


def shard(found: Plan, part: tuple[int, int]) -> Plan:
    """Return every n-th result of a plan, beginning with the i-th, for part (i, n); i counts from 1.

    It is taken before finished results are left out, so that the parts do not depend on each other.
    """
    index, count = part
    everything = sorted((*found.jobs, *found.finished), key=lambda job: natural_order(job.target))
    mine = set(everything[index - 1 :: count])
    kept = tuple(job for job in found.jobs if job in mine)
    return replace(found, jobs=kept, finished=tuple(job for job in found.finished if job in mine))


def spread_name(target: Path) -> Path:
    """Return the file of the map of standard deviations beside a result."""
    return target.with_name(f"{target.stem}_std{FLOATS}")


def _inside(folder: Path, clips: bool) -> Iterator[tuple[Path, bool]]:
    """Yield the inputs in a folder, in natural order."""
    if clips:
        found = [(folder, True)] if is_clip(folder) else [(path, True) for path in find_clips(folder).values()]
    else:
        images = {path: _is_clip_file(path) for path in list_frames(folder)}
        videos = [path for path in folder.iterdir() if path.suffix.lower() in CLIP_SUFFIXES]
        images |= dict.fromkeys((path for path in videos if not path.name.startswith(".")), True)
        found = sorted(images.items(), key=lambda entry: natural_order(entry[0]))
    if not found:
        raise InputError(f"INPUT {folder} holds nothing to restore; {describe(folder)}")
    yield from found


def _is_clip_file(path: Path) -> bool:
    return path.is_dir() or path.suffix.lower() in CLIP_SUFFIXES or is_pages(path)


def _target(source: Path, clip: bool, output: Path, suffix: str | None, single: bool) -> Path:
    """Return the file or folder of a result."""
    if single and (clip or (_is_file_name(output) and not os.path.isdir(output))):
        return output
    if not clip:
        name = restored_name(source.stem, source)
        # float Kelvin of an IRG stay float in a TIFF
        kept = FLOATS if source.suffix.lower() not in (*KEEPS_FORMAT, ".jpg", ".jpeg") else Path(name).suffix
        return output / f"{source.stem}{suffix or kept}"
    kind = source.suffix.lower()
    if kind in TIFF:
        return output / source.name
    if kind in VIDEO_SUFFIXES:
        return output / (source.name if kind in CONTAINERS else f"{source.stem}.mp4")
    return output / (source.name if source.is_dir() else source.stem)


def _is_file_name(path: Path) -> bool:
    return path.suffix.lower() in FRAME_SUFFIXES | VIDEO_SUFFIXES


def _check_place(job: Job) -> None:
    """Refuse a result that would replace its input, or that cannot hold it."""
    if job.target.suffix.lower() not in KEEPS_FORMAT:
        raise InputError(f"OUTPUT {job.target} cannot hold the result: use the suffix {', '.join(KEEPS_FORMAT)}")
    if os.path.realpath(job.target) == os.path.realpath(job.source):
        raise InputError(f"OUTPUT {job.target} is INPUT {job.source}: choose another folder or name")
    beside = job.target.with_suffix(".json")
    if os.path.exists(beside) and os.path.realpath(beside) == os.path.realpath(job.source.with_suffix(".json")):
        raise InputError(f"OUTPUT {job.target} would replace {beside}, which belongs to INPUT: choose another folder")
    if os.path.isdir(job.target):
        raise InputError(f"OUTPUT {job.target} is a folder, but the result of {job.source} is a file: rename one")


def _collisions(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Yield the jobs that would write the same file, each group once; colour views count too."""
    writers: dict[str, list[Job]] = {}
    for job in jobs:
        for path in (job.target, *(() if job.clip else (view_name(job.target), job.target.with_suffix(".json")))):
            # the file system may not distinguish upper and lower case
            writers.setdefault(str(path).casefold(), []).append(job)
    yield from (group for group in writers.values() if len(group) > 1)
