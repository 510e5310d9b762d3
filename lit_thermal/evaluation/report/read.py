"""What runs and sweeps left behind, as a report reads it: rows, each of one run or of one run a seed."""

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lit_thermal.errors import InputError
from lit_thermal.metrics.levels import Level, read_levels
from lit_thermal.sweeping.record import SWEEP, PointRecord, read_sweep

Values = dict[str, dict[str, dict[str, float]]]
"""Data set, metric, image or clip: the number; a metric that is not finite on all of them is left out."""


class NothingFinite(InputError):
    """A run was measured, and none of its numbers is one: its training diverged."""


@dataclass(frozen=True)
class Run:
    """One trained model and what its test measured."""

    folder: Path
    seed: int
    record: Mapping[str, Any]
    """What `metrics.json` holds."""
    values: Values
    """Of the method itself, over all frames of a clip."""
    logged: Sequence[Mapping[str, float]] = ()
    """Lines of the training's log, each with `step` and what was logged then."""
    levels: Mapping[str, Sequence[Level]] = field(default_factory=dict)
    """Name of a table of robustness to what it holds."""
    gallery: Mapping[str, Any] = field(default_factory=dict)
    """What `gallery.json` holds."""
    steps: int | None = None
    """How long it was trained."""

    @property
    def method(self) -> str:
        """Name of the method in the record."""
        return str(self.record["method"])

    @property
    def cost(self) -> Mapping[str, Any]:
        """What it cost; empty where that was not recorded."""
        return self.record.get("cost") or {}


@dataclass(frozen=True)
class Row:
    """One variant of a method: a point of a sweep with all its seeds, or a run."""

    name: str
    runs: tuple[Run, ...]
    """In the order of their seeds; none where all failed."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Of the sweep's point."""
    missing: tuple[str, ...] = ()
    """What should be there and is not: `seed 1 failed`."""


@dataclass(frozen=True)
class Study:
    """Rows that belong in one table."""

    name: str
    rows: tuple[Row, ...]
    stem: str | None = None
    """Of the sweep's file; None for runs that were named one by one."""
    seeds: int = 1
    overrides: tuple[str, ...] = ()
    """What was added to the command of every point of the sweep."""

    @property
    def runs(self) -> list[Run]:
        """All runs of all rows."""
        return [run for row in self.rows for run in row.runs]

    def datasets(self) -> list[str]:
        """Every test set that a run has, in their order."""
        return list(dict.fromkeys(name for run in self.runs for name in run.values))

    def bases(self) -> list[str]:
        """Test sets that are no condition of another: `simulated`, not `simulated_thermal_only` of the same images."""
        images = {
            name: {i for run in self.runs for m in run.values.get(name, {}).values() for i in m}
            for name in self.datasets()
        }
        return [
            name
            for name, own in images.items()
            if not any(name.startswith(f"{other}_") and own == images[other] for other in images)
        ]


def read_studies(paths: Sequence[Path], names: Sequence[str] = ()) -> list[Study]:
    """Read sweeps and runs.

    Args:
        paths: folders of sweeps or of runs. Each sweep is a study of its own; all runs together are one, in which each
            is a row and the first is what the others are held against.
        names: of the runs; their experiments unless given, with the run's folder where two have one experiment.

    Raises:
        InputError: a folder is neither, or nothing in it was measured, or names are not one for each run.
    """
    studies = [_read_sweep(path) for path in paths if (path / SWEEP).is_file()]
    folders = [path for path in paths if not (path / SWEEP).is_file()]
    if names and len(set(names)) != len(folders):
        raise InputError(f"--names gives {len(set(names))} different names for {len(folders)} runs; give each its own")
    if folders:
        shown = list(names) or _names(folders)
        rows = tuple(Row(name, (read_run(path),)) for name, path in zip(shown, folders, strict=True))
        studies.append(Study(" and ".join(shown) if len(shown) < 4 else f"{len(shown)} runs", rows))
    for study in studies:
        if not study.runs:
            raise InputError(f"no point of the sweep {study.name} has finished; wait, or start the sweep again")
    return studies


def read_run(folder: Path, seed: int = 0) -> Run:
    """Read one run that was tested.

    Raises:
        InputError: there is no such folder, it holds no measurements, or they cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give folders of tested runs, or of sweeps")
    file = folder / "metrics.json"
    if not file.is_file():
        raise InputError(
            f"{folder} holds neither {SWEEP} nor metrics.json: it is no sweep, and no run that was tested; give the "
            "folder of a `test`, such as runs/theris/<time>-test"
        )
    record = _json(file)
    if not isinstance(record.get("method"), str) or not isinstance(record.get("results"), dict):
        raise InputError(f"{file} names no method or results; run `test` again")
    config = _yaml(folder / "config.yaml")
    training = _training_folder(folder, config)
    logged = _logged(training)
    tables = sorted(folder.glob("robustness*.csv"))
    return Run(
        folder,
        seed,
        record,
        read_values(folder, record["method"]),
        logged,
        {table.stem: read_levels(table) for table in tables},
        _json(folder / "gallery" / "gallery.json") if (folder / "gallery" / "gallery.json").is_file() else {},
        _steps(record, logged, _yaml(training / "config.yaml")),
    )


def read_values(folder: Path, method: str) -> Values:
    """Read what a method was measured to on each image or clip, over all frames of a clip.

    A metric that is NaN on some images has no mean; that over the others would flatter the method.

    Raises:
        InputError: there is no table of images, or it cannot be read.
        NothingFinite: no metric is left.
    """
    result: Values = {}
    broken: set[tuple[str, str]] = set()
    for line in _lines(folder):
        if line.get("method") != method or line.get("group", "all") != "all":
            continue
        key = "image" if "image" in line else "clip"
        for metric, text in line.items():
            if metric in _KEYS or not text:
                continue
            number = _number(text)
            if number is None:
                broken.add((line["dataset"], metric))
            else:
                result.setdefault(line["dataset"], {}).setdefault(metric, {})[line[key]] = number
    for dataset, metric in broken:
        result.get(dataset, {}).pop(metric, None)
    result = {dataset: metrics for dataset, metrics in result.items() if metrics}
    if not result and broken:
        raise NothingFinite(f"{method} in {folder} was measured to NaN: its training diverged; leave the run out")
    if not result:
        raise InputError(f"the table of images in {folder} has no number of {method}; run `test` again")
    return result


_KEYS = {"dataset", "image", "clip", "method", "group", "groups", "frames", "down", "right"}
"""Columns of a table of images that are no metrics."""


def _lines(folder: Path) -> list[dict[str, str]]:
    """The table of images, which is a CSV or, where it would be large, Parquet."""
    file = folder / "metrics.csv"
    if file.is_file():
        with file.open(encoding="utf-8", newline="") as text:
            return list(csv.DictReader(text))
    large = folder / "metrics.parquet"
    if not large.is_file():
        raise InputError(f"{folder} has a metrics.json and no metrics.csv beside it; run `test` again")
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"{large} needs pyarrow: pip install 'lit_thermal[metrics]'") from error
    return [{k: "" if v is None else str(v) for k, v in line.items()} for line in parquet.read_table(large).to_pylist()]


def _read_sweep(folder: Path) -> Study:
    record = read_sweep(folder)
    points: dict[str, list[PointRecord]] = {}
    for point in record.points:
        points.setdefault(json.dumps(point.parameters, sort_keys=True), []).append(point)
    rows = []
    for group in points.values():
        runs, missing = [], []
        for point in sorted(group, key=lambda p: p.seed):
            if point.state == "finished" and point.run is not None:
                try:
                    runs.append(read_run(point.run, point.seed))
                except NothingFinite:
                    missing.append(f"seed {point.seed} diverged")
            else:
                missing.append(f"seed {point.seed} {'failed' if point.state == 'failed' else 'has not finished'}")
        rows.append(Row(group[0].name, tuple(runs), group[0].parameters, tuple(missing)))
    return Study(record.name, tuple(rows), Path(record.file).stem, record.seeds, record.overrides)


def _names(folders: Sequence[Path]) -> list[str]:
    """The experiment of each run, and the run too where one experiment has several."""
    places = [folder.absolute() for folder in folders]
    experiments = [place.parent.name for place in places]
    return [e if experiments.count(e) == 1 else f"{e} {p.name}" for e, p in zip(experiments, places, strict=True)]


def _training_folder(folder: Path, config: Mapping[str, Any]) -> Path:
    """Where the weights of a run were trained: the run itself, or that of the checkpoint it tested."""
    checkpoint = config.get("ckpt_path")
    trained = Path(checkpoint).parent.parent if checkpoint else None
    return trained if trained is not None and (trained / "csv").is_dir() else folder


def _logged(folder: Path) -> list[dict[str, float]]:
    """What a training logged, of all its parts where it was resumed; the later part where two have a step."""
    files = sorted(folder.glob("csv/version_*/metrics.csv"), key=lambda f: int(re.sub(r"\D", "", f.parent.name) or 0))
    merged: dict[int, dict[str, float]] = {}
    for file in files:
        with file.open(encoding="utf-8", newline="") as text:
            for line in csv.DictReader(text):
                values = {
                    k: n for k, v in line.items() if k.startswith(("train/", "val/")) and (n := _number(v)) is not None
                }
                if values and (step := _number(line.get("step", ""))) is not None:
                    merged.setdefault(int(step), {"step": step}).update(values)
    return [merged[step] for step in sorted(merged)]


def _steps(record: Mapping[str, Any], logged: Sequence[Mapping[str, float]], config: Mapping[str, Any]) -> int | None:
    """How many steps a model was trained, by the first that says: its record, its configuration, its log."""
    told = (record.get("cost") or {}).get("training_steps")
    planned = (config.get("trainer") or {}).get("max_steps")
    if told:
        return int(told)
    if isinstance(planned, int) and planned > 0:
        return planned
    return int(logged[-1]["step"]) + 1 if logged else None


def _number(text: str | None) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({error}); run `test` again") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} is not what `test` writes; run `test` again")
    return content


def _yaml(file: Path) -> dict[str, Any]:
    """A configuration; nothing where it is missing or was written by hand and is broken."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
