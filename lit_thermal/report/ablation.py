"""Comparison of our ablation with the published one: values, differences to the reference row, and verdicts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lit_thermal.errors import InputError
from lit_thermal.evaluation.published import Number, Table
from lit_thermal.evaluation.statistics import Interval, difference_over_seeds
from lit_thermal.metrics.metric import Metric
from lit_thermal.report.read import Row, Run, Study
from lit_thermal.report.words import letters

Verdict = Literal["agrees", "disagrees", "undecided", "not printed", "not measured", "reference"]
OF_TRAINING = " training"
"""Suffix of published data sets that consist of training images; ours are always test images."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval over seeds and images, and their numbers."""

    interval: Interval
    """Infinite if there is only one seed and one image, which have no spread."""
    seeds: int
    images: int


@dataclass(frozen=True)
class Cell:
    """Our result and the published one for one row and one metric."""

    ours: Estimate | None
    difference: Estimate | None
    """Our value minus that of the reference row; None for the reference itself."""
    printed: Number | None
    """Published value; None if the paper does not have the row."""
    printed_difference: float | None
    verdict: Verdict
    by_protocol: float | None = None
    """Our value under the paper's protocol, or None; it has no interval, because some protocols pool images."""


@dataclass(frozen=True)
class Line:
    """A row of the paper, or a row of ours that the paper lacks."""

    name: str
    row: Row | None
    """Our row; None if the sweep does not have it."""
    cells: Mapping[str, Cell]
    """Cells by metric."""
    reference: bool = False


@dataclass(frozen=True)
class Ablation:
    """One of our test sets, alone or next to one data set of a published table."""

    dataset: str
    """Our test set."""
    metrics: tuple[str, ...]
    lines: tuple[Line, ...]
    table: Table | None = None
    printed_dataset: str | None = None
    reference: str | None = None
    """Name of the row that the others are compared with."""

    def verdicts(self) -> list[Verdict]:
        """All verdicts that are based on an interval."""
        decided = ("agrees", "disagrees", "undecided")
        return [cell.verdict for line in self.lines for cell in line.cells.values() if cell.verdict in decided]


def verdict(difference: Interval | None, printed: float | None) -> Verdict:
    """Compare our difference to the reference row with the published one.

    Args:
        difference: our value minus that of the reference, with its interval; None if one of them was not measured.
        printed: the published difference; None if one of the two values is not printed.

    Returns:
        `agrees` if our interval excludes 0 on the same side as the published difference, `disagrees` if it excludes 0
        on the other side or the published difference is 0, and `undecided` if the interval contains 0 or is unknown.
    """
    if printed is None:
        return "not printed"
    if difference is None:
        return "not measured"
    if not (difference.low > 0 or difference.high < 0):
        return "undecided"
    side = 1 if difference.low > 0 else -1
    return "agrees" if side * printed > 0 else "disagrees"


def mean_of(row: Row, dataset: str, metric: str) -> Estimate | None:
    """Return the mean of a row over its seeds and their common images; None if it was not measured."""
    runs = _measured(row, dataset, metric)
    ours = [run.values[dataset][metric] for run in runs]
    return _estimate(ours, [dict.fromkeys(values, 0.0) for values in ours])


def difference_of(row: Row, reference: Row, dataset: str, metric: str) -> Estimate | None:
    """Return the mean difference of two rows over the seeds and images that both have; None if they share none.

    Runs with the same seed are paired. Runs that are not part of a sweep all count as seed 0.
    """
    ours, theirs = ({run.seed: run for run in _measured(r, dataset, metric)} for r in (row, reference))
    seeds = sorted(ours.keys() & theirs.keys())
    return _estimate(*([runs[seed].values[dataset][metric] for seed in seeds] for runs in (ours, theirs)))


def compare(study: Study, dataset: str, reference: str | None = None, metrics: Sequence[str] = ()) -> Ablation:
    """Compare the rows of a study with its reference row, without published numbers.

    Args:
        study: study with the rows.
        dataset: one of our test sets.
        reference: name of the reference row (default: the first measured row).
        metrics: metrics to compare (default: all metrics of the rows).

    Raises:
        InputError: there is no row of that name.
    """
    base = find_reference(study, reference)
    shown = tuple(metrics) or tuple(dict.fromkeys(m for run in study.runs for m in run.values.get(dataset, {})))
    lines = []
    for row in study.rows:
        cells = {}
        for metric in shown:
            difference = None if row is base else difference_of(row, base, dataset, metric)
            cells[metric] = Cell(mean_of(row, dataset, metric), difference, None, None, "not printed")
        lines.append(Line(row.name, row, cells, row is base))
    return Ablation(dataset, shown, tuple(lines), reference=base.name)


def compare_with(study: Study, table: Table, dataset: str, printed_dataset: str) -> Ablation:
    """Compare the rows of a sweep with a published table.

    The reference is that of the paper. Rows that the paper lacks come last.

    Args:
        study: study with the sweep's rows.
        table: published table.
        dataset: one of our test sets.
        printed_dataset: data set of the paper to compare it with.
    """
    metrics = comparable(table, printed_dataset)
    pairs = [(row.name, find(study, row.point)) for row in table.rows]
    known = [ours for _, ours in pairs if ours is not None]
    base = next((ours for name, ours in pairs if name == table.reference), None)
    lines = []
    for name, ours in [*pairs, *((row.name, row) for row in study.rows if row not in known)]:
        cells = {}
        for metric in (m.name for m in metrics):
            printed = None if (name, ours) not in pairs else table.row(name).values[printed_dataset].get(metric)
            gap = _printed_gap(table, printed_dataset, metric, printed)
            is_reference = name == table.reference
            both = ours is not None and base is not None and not is_reference
            difference = difference_of(ours, base, dataset, metric) if both else None  # type: ignore[arg-type]
            interval = None if difference is None else difference.interval
            decided: Verdict = "reference" if is_reference else verdict(interval, gap)
            mine = None if ours is None else mean_of(ours, dataset, metric)
            same = _by_protocol(ours, dataset, table.protocol.same_as, metric)
            cells[metric] = Cell(mine, difference, printed, gap, decided, same)
        lines.append(Line(name, ours, cells, name == table.reference))
    names = tuple(metric.name for metric in metrics)
    return Ablation(dataset, names, tuple(lines), table, printed_dataset, table.reference)


def comparable(table: Table, printed_dataset: str) -> list[Metric]:
    """Return the metrics of a published data set that have a better direction."""
    names = table.columns[printed_dataset]
    return [metric for metric in table.metrics if metric.name in names and metric.direction is not None]


def ablations(study: Study, tables: Sequence[Table], reference: str | None = None) -> list[Ablation]:
    """Compare our test sets with every published table of a sweep; without tables, compare our rows alone.

    A table for a test condition is compared with our test sets under this condition, any other table with our unchanged
    test sets. Published numbers on training images are omitted. One of our test sets with the name of a published data
    set is compared only with that data set.

    Raises:
        InputError: the reference row does not exist.
    """
    found = []
    for table in tables:
        datasets = [f"{base}_{table.condition}" if table.condition else base for base in study.bases()]
        for dataset in datasets:
            if dataset in study.datasets():
                found += [compare_with(study, table, dataset, printed) for printed in _printed_for(dataset, table)]
    if found:
        return found
    return [compare(study, dataset, reference) for dataset in study.bases()]


def find_reference(study: Study, name: str | None) -> Row:
    """Return the reference row for the comparisons: the named row, else the first measured one.

    Raises:
        InputError: the row does not exist or was not measured.
    """
    measured = [row for row in study.rows if row.runs]
    if name is None:
        return measured[0]
    found = next((row for row in measured if row.name == name), None)
    if found is None:
        raise InputError(f"there is no row {name!r} in {study.name}; it has {', '.join(row.name for row in measured)}")
    return found


def find(study: Study, point: Mapping[str, Any] | None) -> Row | None:
    """Return the row of a sweep with the given parameters: numbers match by value, overlays by file name and folder."""
    return next((row for row in study.rows if point and _same(row.parameters, point)), None)


def _same(ours: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    return all(key in ours and _plain(ours[key]) == _plain(value) for key, value in point.items())


def _plain(value: Any) -> Any:
    """Return a parameter for comparison: `0`, `0.0` and `"0"` become equal, and so do all paths to one overlay file."""
    if isinstance(value, (bool, list, dict)) or value is None:
        return str(value).lower()
    try:
        return float(value)
    except ValueError:
        text = str(value)
        return "/".join(text.split("/")[-2:]) if text.endswith(".yaml") else text


def _printed_for(dataset: str, table: Table) -> list[str]:
    names = [name for name in table.datasets if not name.endswith(OF_TRAINING) and comparable(table, name)]
    own = [name for name in names if letters(name) == letters(dataset)]
    return own or names


def _printed_gap(table: Table, dataset: str, metric: str, printed: Number | None) -> float | None:
    if table.reference is None or printed is None or printed.value is None:
        return None
    base = table.row(table.reference).values[dataset].get(metric)
    return None if base is None or base.value is None else printed.value - base.value


def _by_protocol(row: Row | None, dataset: str, protocol: str | None, metric: str) -> float | None:
    """Return the mean over the seeds of the values by a protocol of a paper."""
    found = []
    for run in row.runs if row and protocol else ():
        methods = run.record.get("protocols", {}).get(dataset, {})
        value = methods.get(run.method, {}).get(protocol, {}).get(metric)
        if value is not None:
            found.append(float(value))
    return sum(found) / len(found) if found else None


def _measured(row: Row, dataset: str, metric: str) -> list[Run]:
    return [run for run in row.runs if metric in run.values.get(dataset, {})]


def _estimate(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]) -> Estimate | None:
    if not ours:
        return None
    images = set.intersection(*(set(run) for run in (*ours, *theirs)))
    if not images:
        return None
    interval = difference_over_seeds(ours, theirs)
    return Estimate(interval, len(ours), len(images)) if math.isfinite(interval.mean) else None
