"""Record of a sweep: `sweep.json`, and a folder for each point and seed with `point.json` and the run itself."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lit_thermal.errors import InputError
from lit_thermal.files import write_json
from lit_thermal.plain_files import inside, read_json
from lit_thermal.shapes import Each, Number, OneOf, check

SWEEP, POINT, PROGRESS, LOG = "sweep.json", "point.json", "progress.json", "log.txt"
_SEED = Number(low=0, high=2**64, whole=True)
_SWEEP = {
    "name": str,
    "file": str,
    "text": str,
    "seeds": _SEED,
    "overrides": [str],
    "points": [{"name": str, "parameters": Each(object), "seed": _SEED, "folder": str}],
}
"""Structure of `sweep.json`."""
_POINT = {
    "state": OneOf(("finished", "failed", "missing")),
    "run?": (None, str),
    "seconds?": (None, Number(low=0)),
    "command?": [str],
    "files?": Each(str),
    "returncode?": (None, Number(whole=True)),
}
"""Structure of `point.json`."""
_FOREIGN = "was not written by `sweep`"


@dataclass(frozen=True)
class PointRecord:
    """Result of one point under one seed."""

    name: str
    """Displayed name: the stem of the point's overlay file, or the varied parameters."""
    parameters: dict[str, Any]
    seed: int
    state: str
    """`finished`, `failed`, or `missing` if it has not ended yet."""
    folder: Path
    """Folder of the point and seed."""
    run: Path | None
    """Folder of the run itself, if it finished."""
    seconds: float | None
    command: tuple[str, ...]
    """Words of the command after `python -m lit_thermal`."""


@dataclass(frozen=True)
class SweepRecord:
    """A sweep with its points, both finished and unfinished."""

    name: str
    """Stem of the sweep file."""
    folder: Path
    file: str
    text: str
    seeds: int
    overrides: tuple[str, ...]
    """Words added to the command of every point."""
    points: tuple[PointRecord, ...]


def read_sweep(folder: Path) -> SweepRecord:
    """Read the record of a sweep, which may still be incomplete.

    Raises:
        InputError: the folder does not contain a sweep, or its record is damaged.
    """
    path = inside(folder, SWEEP, folder)
    if not path.exists():
        raise InputError(f"{folder} is no folder of a sweep: it holds no {SWEEP}; run `sweep FILE` first")
    advice = "remove the folder and sweep again"
    given = check(read_json(path, "a record of `sweep`", advice), _SWEEP, f"{path} {_FOREIGN}", advice)
    points = tuple(_read_point(folder, point) for point in given["points"])
    return SweepRecord(
        given["name"], folder, given["file"], given["text"], given["seeds"], tuple(given["overrides"]), points
    )


def write_sweep(record: SweepRecord) -> None:
    """Write `sweep.json`, with names, parameters, seeds and folders of the points."""
    points = [
        {"name": p.name, "parameters": p.parameters, "seed": p.seed, "folder": p.folder.name} for p in record.points
    ]
    content = {key: value for key, value in asdict(record).items() if key not in ("folder", "points")}
    write_json(record.folder / SWEEP, content | {"points": points})


def write_point(record: PointRecord, **more: Any) -> None:
    """Write `point.json`, which marks the point as ended.

    Args:
        record: record of the point.
        more: additional entries to store.
    """
    content = {key: value for key, value in asdict(record).items() if key != "folder"}
    write_json(record.folder / POINT, content | {"run": record.run and record.run.name} | more)


def read_point(folder: Path) -> dict[str, Any]:
    """Return the content of `point.json`; it is empty if the point has not ended.

    Raises:
        InputError: the file is damaged.
    """
    path = inside(folder, POINT, folder)
    if not path.exists():
        return {}
    advice = f"remove {folder} and sweep again"
    content: dict[str, Any] = check(
        read_json(path, "a record of `sweep`", advice), _POINT, f"{path} {_FOREIGN}", advice
    )
    return content


def _read_point(folder: Path, given: dict[str, Any]) -> PointRecord:
    own = _below(folder, given["folder"], SWEEP)
    ended = read_point(own)
    run = _below(own, ended["run"], POINT) if ended.get("run") else None
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


def _below(folder: Path, name: str, record: str) -> Path:
    """Return the path of a folder named in a record, after checking that it is a single name and not a link."""
    if len(Path(name).parts) != 1:
        raise InputError(f"{folder / record} {_FOREIGN}: it names the folder {name[:120]!r}; sweep again")
    return inside(folder, name, folder / record)
