"""Runs and sweeps as rows of a report; each row is one run, or one run per seed."""

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_thermal import plain_yaml
from lit_thermal.errors import InputError, reading
from lit_thermal.evaluation.levels import Level, read_levels
from lit_thermal.files import is_plain
from lit_thermal.plain_files import inside, printable, read_json, read_table
from lit_thermal.report.run_record import GALLERY, METRICS
from lit_thermal.shapes import LARGEST, check
from lit_thermal.sweeping.record import SWEEP, PointRecord, read_sweep

Values = dict[str, dict[str, dict[str, float]]]
"""Values by data set, metric, and image or clip; a metric that is not finite everywhere is left out."""


MOST_ROWS = 300
"""Largest number of rows; more could neither be read nor drawn in a few minutes."""
_AGAIN = "run `test` again"


class NothingFinite(InputError):
    """All numbers of a measured run are NaN or infinite: its training diverged."""


@dataclass(frozen=True)
class Run:
    """One trained model and the results of its test."""

    folder: Path
    seed: int
    record: Mapping[str, Any]
    """Content of `metrics.json`."""
    values: Values
    """Values of the method itself, over all frames of a clip."""
    logged: Sequence[Mapping[str, float]] = ()
    """Lines of the training's log, each with `step` and the values logged at that step."""
    levels: Mapping[str, Sequence[Level]] = field(default_factory=dict)
    """Levels by name of the robustness table."""
    gallery: Mapping[str, Any] = field(default_factory=dict)
    """Content of `gallery.json`."""
    steps: int | None = None
    """Training steps; None if they were not recorded."""

    @property
    def method(self) -> str:
        """Name of the method in the record."""
        return str(self.record["method"])

    @property
    def cost(self) -> Mapping[str, Any]:
        """Recorded cost; empty if it was not recorded."""
        return self.record.get("cost") or {}


@dataclass(frozen=True)
class Row:
    """One variant of a method: a point of a sweep with all its seeds, or a run."""

    name: str
    runs: tuple[Run, ...]
    """Runs in the order of their seeds; empty if all failed."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the sweep's point."""
    missing: tuple[str, ...] = ()
    """Missing runs with the reason: `seed 1 failed`."""


@dataclass(frozen=True)
class Study:
    """Rows of one table."""

    name: str
    rows: tuple[Row, ...]
    stem: str | None = None
    """Stem of the sweep's file; None for runs that were given one by one."""
    seeds: int = 1
    overrides: tuple[str, ...] = ()
    """Arguments added to the command of every point of the sweep."""

    @property
    def runs(self) -> list[Run]:
        """All runs of all rows."""
        return [run for row in self.rows for run in row.runs]

    def datasets(self) -> list[str]:
        """Return the test sets of all runs, in their order."""
        return list(dict.fromkeys(name for run in self.runs for name in run.values))

    def bases(self) -> list[str]:
        """Return the test sets that are not conditions of others: `simulated`, not its `simulated_thermal_only`."""
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
        paths: folders of sweeps or of runs. Each sweep is a separate study. All runs together are one study with a row
            per run; the first run is the reference.
        names: names of the runs (default: their experiments, with the run's folder if two share an experiment).

    Raises:
        InputError: a folder is neither a run nor a sweep, nothing in it was measured, or the number of names is not
            the number of runs.
    """
    if len(paths) > MOST_ROWS:
        raise InputError(f"{len(paths)} folders are too many for one page: give at most {MOST_ROWS}")
    sweeps = [path for path in paths if os.path.lexists(path / SWEEP)]
    studies = [_read_sweep(path) for path in sweeps]
    folders = [path for path in paths if path not in sweeps]
    if names and len(set(names)) != len(folders):
        raise InputError(f"--names gives {len(set(names))} different names for {len(folders)} runs; give each its own")
    if folders:
        shown = [printable(name) for name in names] or _names(folders)
        rows = tuple(Row(name, (read_run(path),)) for name, path in zip(shown, folders, strict=True))
        studies.append(Study(" and ".join(shown) if len(shown) < 4 else f"{len(shown)} runs", rows))
    for study in studies:
        if len(study.rows) > MOST_ROWS:
            raise InputError(
                f"the sweep {study.name} has {len(study.rows)} points, and a page at most {MOST_ROWS} rows"
            )
        if not study.runs:
            raise InputError(f"no point of the sweep {study.name} has finished; wait, or start the sweep again")
    return studies


def read_run(folder: Path, seed: int = 0) -> Run:
    """Read one tested run.

    Raises:
        InputError: the folder is missing, or has no measurements that can be read.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give folders of tested runs, or of sweeps")
    if not os.path.lexists(folder / "metrics.json"):
        raise InputError(
            f"{folder} has neither {SWEEP} nor metrics.json, so it is neither a sweep nor a tested run: give the "
            "folder of a `test`, such as runs/<experiment>/<time>-test"
        )
    record = _json(folder, "metrics.json", METRICS)
    config = _yaml(folder, "config.yaml")
    training = _training_folder(folder, config)
    logged = _logged(training)
    tables = [inside(folder, path.name, folder) for path in sorted(folder.glob("robustness*.csv"))]
    return Run(
        folder,
        seed,
        record,
        read_values(folder, record["method"]),
        logged,
        {table.stem: read_levels(table) for table in tables},
        _json(folder, "gallery/gallery.json", GALLERY) if os.path.lexists(folder / "gallery/gallery.json") else {},
        _steps(record, logged, _yaml(training, "config.yaml")),
    )


def read_values(folder: Path, method: str) -> Values:
    """Read the values of a method on each image or clip, over all frames of a clip.

    A metric that is NaN on some images is left out, since a mean over the others would flatter the method.

    Raises:
        InputError: the table of images is missing or cannot be read.
        NothingFinite: no metric is left.
    """
    result: Values = {}
    broken: set[tuple[str, str]] = set()
    for line in _lines(folder):
        key = "image" if "image" in line else "clip"
        if lacking := [column for column in ("dataset", key, "method") if column not in line]:
            raise InputError(f"the table of images in {folder} has no column {lacking[0]!r}; {_AGAIN}")
        if line["method"] != method or line.get("group", "all") != "all":
            continue
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
"""Columns of a table of images that are not metrics."""


def _lines(folder: Path) -> list[dict[str, str]]:
    """Read the table of images, which is a CSV file or, if large, a Parquet file."""
    if os.path.lexists(folder / "metrics.csv"):
        return read_table(inside(folder, "metrics.csv", folder), "a table of images", _AGAIN)
    large = inside(folder, "metrics.parquet", folder)
    if not is_plain(large):
        raise InputError(f"{folder} has a metrics.json and no metrics.csv beside it; run `test` again")
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"{large} needs pyarrow: pip install 'lit_thermal[metrics]'") from error
    with reading(large, "a table of images", _AGAIN):
        lines = parquet.read_table(large).to_pylist()
        return [{k: "" if v is None else str(v) for k, v in line.items()} for line in lines]


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
    """Return the experiment of each run, with the name of the run if several share an experiment."""
    places = [folder.absolute() for folder in folders]
    experiments = [place.parent.name for place in places]
    names = [e if experiments.count(e) == 1 else f"{e} {p.name}" for e, p in zip(experiments, places, strict=True)]
    return [printable(name) for name in names]


def _training_folder(folder: Path, config: Mapping[str, Any]) -> Path:
    """Return the training folder: that of the run itself, or that of the checkpoint which the run tested."""
    checkpoint = config.get("ckpt_path")
    if not isinstance(checkpoint, str) or not checkpoint or "\0" in checkpoint:
        return folder
    trained = Path(checkpoint).parent.parent
    try:
        near = trained.resolve().is_relative_to(folder.resolve().parent) and (trained / "csv").is_dir()
    except (OSError, RuntimeError):
        near = False
    # A config may come from anybody, so paths in it to other places are not followed.
    return trained if near else folder


def _logged(folder: Path) -> list[dict[str, float]]:
    """Read the log of a training, merged over its resumed parts; later parts replace equal steps of earlier ones."""
    files = sorted(folder.glob("csv/version_*/metrics.csv"), key=lambda f: int(re.sub(r"\D", "", f.parent.name) or 0))
    merged: dict[int, dict[str, float]] = {}
    for file in files:
        own = inside(folder, str(file.relative_to(folder)), folder)
        for line in read_table(own, "the log of a training", "remove it"):
            values = {
                k: n for k, v in line.items() if k.startswith(("train/", "val/")) and (n := _number(v)) is not None
            }
            if values and (step := _number(line.get("step", ""))) is not None:
                merged.setdefault(int(step), {"step": step}).update(values)
    return [merged[step] for step in sorted(merged)]


def _steps(record: Mapping[str, Any], logged: Sequence[Mapping[str, float]], config: Mapping[str, Any]) -> int | None:
    """Return the number of training steps from the model's record, else from its config, else from its log."""
    recorded = (record.get("cost") or {}).get("training_steps")
    trainer = config.get("trainer")
    planned = trainer.get("max_steps") if isinstance(trainer, dict) else None
    if recorded:
        return int(recorded)
    if isinstance(planned, int) and 0 < planned < LARGEST:
        return planned
    return int(logged[-1]["step"]) + 1 if logged else None


def _number(text: str | None) -> float | None:
    """Return a finite number of plausible size, or None."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) <= LARGEST else None


def _json(folder: Path, name: str, shape: Any) -> dict[str, Any]:
    file = inside(folder, name, folder)
    found = read_json(file, "what `test` writes", _AGAIN)
    content: dict[str, Any] = check(found, shape, f"{file} is not what `test` writes", _AGAIN)
    return content


def _yaml(folder: Path, name: str) -> dict[str, Any]:
    """Read a config; return an empty one if the file is missing or broken."""
    try:
        content = plain_yaml.read(inside(folder, name, folder))
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}
