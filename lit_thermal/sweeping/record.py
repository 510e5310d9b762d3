"""What a sweep leaves: `sweep.json`, and for each point and seed a folder with `point.json` and the run itself."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lit_thermal.errors import InputError

SWEEP, POINT, PROGRESS, LOG = "sweep.json", "point.json", "progress.json", "log.txt"


@dataclass(frozen=True)
class PointRecord:
    """How one point ended under one seed."""

    name: str
    """As it is shown: the stem of its overlay file, or what varies."""
    parameters: dict[str, Any]
    seed: int
    state: str
    """`finished`, `failed`, or `missing` where it has not ended yet."""
    folder: Path
    """Of the point and seed."""
    run: Path | None
    """The run's own folder, where it finished."""
    seconds: float | None
    command: tuple[str, ...]
    """Words after `python -m lit_thermal`."""


@dataclass(frozen=True)
class SweepRecord:
    """A sweep and its points, finished or not."""

    name: str
    """The stem of its file."""
    folder: Path
    file: str
    text: str
    seeds: int
    overrides: tuple[str, ...]
    """Words that were added to the command of every point."""
    points: tuple[PointRecord, ...]


def read_sweep(folder: Path) -> SweepRecord:
    """Read what a sweep left so far.

    Raises:
        InputError: the folder holds no sweep, or its record is broken.
    """
    path = folder / SWEEP
    if not path.is_file():
        raise InputError(f"{folder} is no folder of a sweep: it holds no {SWEEP}; run `sweep FILE` first")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        points = tuple(_read_point(folder, point) for point in given["points"])
        return SweepRecord(
            given["name"], folder, given["file"], given["text"], given["seeds"], tuple(given["overrides"]), points
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not what `sweep` writes ({error}); remove the folder and sweep again") from error


def write_sweep(record: SweepRecord) -> None:
    """Write `sweep.json`; of the points their names, parameters, seeds and folders."""
    points = [
        {"name": p.name, "parameters": p.parameters, "seed": p.seed, "folder": p.folder.name} for p in record.points
    ]
    content = {key: value for key, value in asdict(record).items() if key not in ("folder", "points")}
    write_json(record.folder / SWEEP, content | {"points": points})


def write_point(record: PointRecord, **more: Any) -> None:
    """Write `point.json`, which says that the point has ended.

    Args:
        record: of the point.
        more: what to keep besides.
    """
    content = {key: value for key, value in asdict(record).items() if key != "folder"}
    write_json(record.folder / POINT, content | {"run": record.run and record.run.name} | more)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file so that a reader finds the old or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(aside, path)


def read_point(folder: Path) -> dict[str, Any]:
    """Read `point.json`; nothing where the point has not ended.

    Raises:
        InputError: it is broken.
    """
    path = folder / POINT
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise InputError(f"{path} is not what `sweep` writes ({error}); remove {folder} and sweep again") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not what `sweep` writes; remove {folder} and sweep again")
    return content


def _read_point(folder: Path, given: dict[str, Any]) -> PointRecord:
    own = folder / given["folder"]
    ended = read_point(own)
    run = own / ended["run"] if ended.get("run") else None
    return PointRecord(
        given["name"],
        given["parameters"],
        given["seed"],
        ended.get("state", "missing"),
        own,
        run,
        ended.get("seconds"),
        tuple(ended.get("command", ())),
    )
