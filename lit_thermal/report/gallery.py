"""Gallery of a study: the same crop of the same scene, restored by every row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.frames import read_header, read_pixels, reduce_to_gray
from lit_thermal.errors import InputError, reading
from lit_thermal.files import is_plain
from lit_thermal.metrics.catalogue import shown
from lit_thermal.plain_files import inside
from lit_thermal.report.drawing import Key, Panel, key
from lit_thermal.report.figures import profile
from lit_thermal.report.pictures import (
    Scale,
    colored,
    error_scale,
    measured,
    scale_of,
    unit_of,
    visible,
)
from lit_thermal.report.read import Row, Run
from lit_thermal.report.words import number

MOST_PIXELS = 1 << 25
"""Largest number of pixels of a picture that a page can show."""
MOST_FRAMES = 500
"""Largest number of frames of a clip's window."""


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
    first = next(iter(entries))
    entry = entries[first]
    known: dict[str, Any] = entry["radiometry"]
    radiometry = Radiometry(**known)._replace(constants=tuple(known["constants"]))
    times = entry.get("time") or [0.0]
    if len(times) > MOST_FRAMES:
        raise InputError(f"the gallery of {runs[first].folder} lists {len(times)} frames of {name}; {_AGAIN}")
    middle = _middle(times)
    picked = list(range(len(times))) if whole else [middle]

    def frames(index: int, kind: str, which: Sequence[int] = ()) -> np.ndarray | None:
        files = entries[index]["files"].get(kind)
        if not files:
            return None
        wanted = list(which or picked)
        if len(files) <= max(wanted):
            raise InputError(
                f"the gallery of {runs[index].folder} lists {len(files)} pictures of the kind {kind} of {name}, which "
                f"has {len(times)} frames; {_AGAIN}"
            )
        pictures = [measured(_read(runs[index].folder, files[n]), radiometry) for n in wanted]
        sizes = {picture.shape for picture in pictures}
        if kind in _OF_TARGETS:
            sizes |= {known.shape[1:] for known in shapes}
        if len(sizes) > 1:
            raise InputError(f"the pictures of {name} in the gallery of {runs[index].folder} differ in size; {_AGAIN}")
        if not all(np.isfinite(picture).all() for picture in pictures):
            raise InputError(f"{runs[first].folder}: the radiometry of {name} fits no temperature; {_AGAIN}")
        return np.stack(pictures)

    shapes: list[np.ndarray] = []
    target = frames(first, "hr")
    if target is not None:
        shapes.append(target)
    restored = {i: x for i in entries if (x := frames(i, "restored")) is not None}
    if target is None or not restored:
        raise InputError(f"the gallery of {runs[first].folder} has no target or no result of {name}; run `test` again")
    bicubic = frames(first, "bicubic")
    simple = bicubic if bicubic is not None else next(iter(restored.values()))
    scale = scale_of(target, unit_of(radiometry))
    errors = error_scale(np.abs(simple - target), unit_of(radiometry, error=True))
    at = picked.index(middle)
    crop = _crop(np.abs(simple[at] - target[at]))
    row = _line(np.abs(simple[at] - target[at]), crop) if line is None else min(line, target.shape[-2] - 1)

    def picture(label: str, note: str, values: np.ndarray, index: int | None = None, error: bool = True) -> Picture:
        wrong = np.abs(values - target) if error else None
        return Picture(
            label,
            note,
            colored(values, scale),
            None if wrong is None else colored(wrong, errors),
            index,
            colored(values[:, row][:, None], scale) if len(picked) > 1 and values.shape == target.shape else None,
            "" if wrong is None else f"{number(float(wrong.mean()), None)} {errors.unit}",
        )

    tiles = []
    if (lr := frames(first, "lr", _inputs(entry, picked))) is not None:
        tiles.append(picture("LR", f"{lr.shape[-1]} x {lr.shape[-2]}", lr, error=False))
    if bicubic is not None:
        tiles.append(picture("bicubic", "a = \N{MINUS SIGN}0.5", bicubic))
    for index, values in restored.items():
        tiles.append(picture(rows[index].name, _psnr(runs[index], dataset, name), values, index))
    tiles.append(picture("HR", f"{target.shape[-1]} x {target.shape[-2]}", target, error=False))

    lines: dict[str, tuple[np.ndarray, int | None]] = {} if bicubic is None else {"bicubic": (bicubic[at, row], None)}
    lines |= {rows[i].name: (values[at, row], i) for i, values in restored.items()}
    lines["HR"] = (target[at, row], None)
    guide = entry["files"].get("guide")
    return Scene(
        name,
        dataset,
        (target.shape[-2], target.shape[-1]),
        len(picked),
        at,
        tuple(f"{times[n]:g}" for n in picked),
        crop,
        tuple(tiles),
        scale,
        errors,
        row,
        profile(lines, scale.unit, f"profile-{dataset}-{name}", f"Values along line {row}"),
        visible(_read_guide(runs[first].folder, guide[0])) if guide else None,
    )


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


def _middle(times: Sequence[float]) -> int:
    """Return the index of the frame nearest to the middle; an interpolated one if there is any."""
    between = [n for n, time in enumerate(times) if abs(time - round(time)) > 1e-3] or list(range(len(times)))
    return min(between, key=lambda n: (abs(n - (len(times) - 1) / 2), n))


def _inputs(entry: Mapping[str, Any], picked: Sequence[int]) -> list[int]:
    """Return the last input frame at or before each of the frames to show."""
    if not entry.get("time"):
        return [0]
    known = entry.get("lr_time", [])
    return [max(0, sum(t <= entry["time"][n] + 1e-4 for t in known) - 1) for n in picked]


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
    return "" if value is None else f"{number(value, shown('psnr').decimals)} dB"


_AGAIN = "run `test` again"
_OF_TARGETS = ("hr", "restored", "bicubic")
"""Kinds of pictures that all have the target's size."""


def _read(run: Path, name: str) -> np.ndarray:
    """Read a thermal picture of a run's gallery: (H, W) counts."""
    file = _picture(run, name)
    return reduce_to_gray(read_pixels(file), 0, f"{file}")


def _read_guide(run: Path, name: str) -> np.ndarray:
    """Read a visible picture: (H, W, 3) uint8."""
    file = _picture(run, name)
    pixels = read_pixels(file)
    if pixels.dtype != np.uint8:
        raise InputError(f"{file} has 16 bit, but visible pictures have 8; {_AGAIN}")
    colours = pixels if pixels.ndim == 3 else pixels[..., None]
    return colours[..., :3] if colours.shape[-1] >= 3 else colours[..., :1].repeat(3, axis=-1)


def _picture(run: Path, name: str) -> Path:
    """Return the file of a picture after checking that it is a PNG in its gallery and not too large for a page."""
    file = inside(run / "gallery", name, run / "gallery" / "gallery.json")
    if not is_plain(file):
        raise InputError(f"{file} is listed in gallery.json but does not exist; {_AGAIN}")
    if file.suffix.lower() != ".png":
        raise InputError(f"{file} is listed in gallery.json but is not a PNG; {_AGAIN}")
    with reading(file, "a PNG", _AGAIN):
        with file.open("rb") as start:
            if start.read(8) != b"\x89PNG\r\n\x1a\n":
                raise InputError(f"{file} is listed in gallery.json but is not a PNG; {_AGAIN}")
        height, width, _ = read_header(file)
    if not 0 < height * width <= MOST_PIXELS:
        raise InputError(f"{file} is {width}x{height}, and a page shows at most {MOST_PIXELS:,} pixels; {_AGAIN}")
    return file
