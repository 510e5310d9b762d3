"""Gallery of a study: the same crop of the same scene, restored by every row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from lit_thermal.metrics.catalogue import shown
from lit_thermal.report.drawing import Key, Panel, key
from lit_thermal.report.figures import profile
from lit_thermal.report.gallery_files import SceneFrames, read_scene
from lit_thermal.report.pictures import (
    Scale,
    colored,
    error_scale,
    scale_of,
    unit_of,
    visible,
)
from lit_thermal.report.read import Row, Run
from lit_thermal.report.words import number


@dataclass(frozen=True)
class Picture:
    """One tile: the picture of a row, the input or the target."""

    label: str
    note: str
    """PSNR of the image, or the size."""
    image: str
    """Data URI of all frames, one below the other."""
    error: str | None = None
    """Data URI of the absolute error, likewise."""
    series: int | None = None
    """Index of the row's colour."""
    profile: str | None = None
    """Data URI of one line over time, which runs downwards; None for an image."""
    mean_error: str = ""


@dataclass(frozen=True)
class Scene:
    """One image, or the first window of a clip."""

    name: str
    dataset: str
    size: tuple[int, int]
    """Height and width."""
    frames: int
    shown: int
    """Index of the frame that is shown first."""
    times: tuple[str, ...]
    crop: tuple[int, int, int, int]
    """Left, top, width and height of the detail."""
    pictures: tuple[Picture, ...]
    scale: Scale
    errors: Scale
    line: int
    line_profile: Panel
    guide: str | None = None


def scenes(rows: Sequence[Row], most: int, line: int | None = None) -> list[Scene]:
    """Return the scenes that all rows have pictures of, taken from the test sets in turn.

    Args:
        rows: rows of the study, the reference first. Each shows its first seed with pictures, if any.
        most: largest number of scenes.
        line: image row of the gray-value profiles (default: where the error is largest). Frames with fewer rows show
            their last.

    Raises:
        InputError: a picture is listed and cannot be read.
    """
    shown_runs = {index: run for index, row in enumerate(rows) if (run := _with_gallery(row))}
    if not shown_runs or most < 1:
        return []
    listed = {i: _entries(run) for i, run in shown_runs.items()}
    common = [place for place in next(iter(listed.values())) if all(place in known for known in listed.values())]
    return [
        _scene(place, {i: entries[place] for i, entries in listed.items()}, shown_runs, rows, line, whole=number == 0)
        for number, place in enumerate(_in_turn(common)[:most])
    ]


def _scene(
    place: tuple[str, str],
    entries: Mapping[int, Mapping[str, Any]],
    runs: Mapping[int, Run],
    rows: Sequence[Row],
    line: int | None,
    whole: bool,
) -> Scene:
    """Read and draw one scene; of a clip all frames if `whole`, else one interpolated frame."""
    dataset, name = place
    frames = read_scene(name, entries, {index: runs[index].folder for index in entries}, whole)
    target = frames.target
    wrong = np.abs(frames.simple - target)
    scale = scale_of(target, unit_of(frames.radiometry))
    errors = error_scale(wrong, unit_of(frames.radiometry, error=True))
    crop = _crop(wrong[frames.shown])
    row = _line(wrong[frames.shown], crop) if line is None else min(line, target.shape[-2] - 1)
    names = {index: rows[index].name for index in frames.restored}
    notes = {index: _psnr(runs[index], dataset, name) for index in frames.restored}
    return Scene(
        name,
        dataset,
        (target.shape[-2], target.shape[-1]),
        len(target),
        frames.shown,
        tuple(f"{time:g}" for time in frames.times),
        crop,
        tuple(_tiles(frames, names, notes, scale, errors, row)),
        scale,
        errors,
        row,
        profile(_lines(frames, names, row), scale.unit, f"profile-{dataset}-{name}", f"Values along line {row}"),
        None if frames.guide is None else visible(frames.guide),
    )


def _tiles(
    frames: SceneFrames, names: Mapping[int, str], notes: Mapping[int, str], scale: Scale, errors: Scale, row: int
) -> Iterator[Picture]:
    """Yield the tiles of a scene: LR, bicubic, the restored images and HR; `row` is the line shown over time."""
    target = frames.target

    def tile(label: str, note: str, values: np.ndarray, index: int | None = None, error: bool = True) -> Picture:
        wrong = np.abs(values - target) if error else None
        return Picture(
            label,
            note,
            colored(values, scale),
            None if wrong is None else colored(wrong, errors),
            index,
            colored(values[:, row][:, None], scale) if len(target) > 1 and values.shape == target.shape else None,
            "" if wrong is None else f"{number(float(wrong.mean()), None)} {errors.unit}",
        )

    if frames.lr is not None:
        yield tile("LR", f"{frames.lr.shape[-1]} x {frames.lr.shape[-2]}", frames.lr, error=False)
    if frames.bicubic is not None:
        yield tile("bicubic", "a = \N{MINUS SIGN}0.5", frames.bicubic)
    for index, values in frames.restored.items():
        yield tile(names[index], notes[index], values, index)
    yield tile("HR", f"{target.shape[-1]} x {target.shape[-2]}", target, error=False)


def _lines(frames: SceneFrames, names: Mapping[int, str], row: int) -> dict[str, tuple[np.ndarray, int | None]]:
    """Return the values along one image row of the frame shown first and the index of their colour, by label."""
    at = frames.shown
    lines: dict[str, tuple[np.ndarray, int | None]] = {}
    if frames.bicubic is not None:
        lines["bicubic"] = (frames.bicubic[at, row], None)
    lines |= {names[index]: (values[at, row], index) for index, values in frames.restored.items()}
    lines["HR"] = (frames.target[at, row], None)
    return lines


def profile_keys(scene: Scene) -> list[Key]:
    """Return the legend of a scene's profile."""
    rows = [key(picture.label, picture.series) for picture in scene.pictures if picture.series is not None]
    simple = [Key("bicubic", None, "2 3")] if any(picture.label == "bicubic" for picture in scene.pictures) else []
    return [Key("HR", None, "band"), *simple, *rows]


def _with_gallery(row: Row) -> Run | None:
    return next((run for run in row.runs if run.gallery.get("datasets")), None)


def _entries(run: Run) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(dataset, e["name"]): e for dataset, listed in run.gallery["datasets"].items() for e in listed}


def _in_turn(keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the first scene of each data set, then the second of each, and so on."""
    places: dict[str, int] = {}
    ranked = []
    for place in keys:
        ranked.append((places.get(place[0], 0), place))
        places[place[0]] = places.get(place[0], 0) + 1
    return [place for _, place in sorted(ranked, key=lambda pair: pair[0])]


def _crop(error: np.ndarray, share: float = 0.36) -> tuple[int, int, int, int]:
    """Return left, top, width and height of the square with the largest error."""
    side = max(16, int(share * min(error.shape)) // 8 * 8)
    side = min(side, *error.shape)
    means = F.avg_pool2d(torch.from_numpy(error**2)[None, None], side, stride=4)[0, 0]
    top, left = (4 * int(i) for i in divmod(int(means.argmax()), means.shape[1]))
    return left, top, side, side


def _line(error: np.ndarray, crop: tuple[int, int, int, int]) -> int:
    """Return the image row through the detail with the largest error."""
    _, top, _, height = crop
    return top + int(error[top : top + height].sum(axis=1).argmax())


def _psnr(run: Run, dataset: str, name: str) -> str:
    value = run.values.get(dataset, {}).get("psnr", {}).get(name)
    metric = shown("psnr")
    return "" if value is None else f"{number(value, metric.decimals)} {metric.unit}"
