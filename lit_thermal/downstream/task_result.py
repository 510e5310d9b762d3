"""Results of a downstream task: `metrics.json`, `table.csv`, `metrics.csv` and a printed table."""

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lit_thermal.evaluation.records import finite
from lit_thermal.evaluation.statistics import Interval
from lit_thermal.files import write_text
from lit_thermal.metrics.catalogue import CATALOGUE, shown
from lit_thermal.metrics.metric import Metric
from lit_thermal.plain_files import as_csv


@dataclass
class TaskResult:
    """The table of a task, with rows as the papers print them.

    Attributes:
        task: detection, segmentation or zero_shot.
        dataset: name of the data set.
        table: values by row and column.
        intervals: 95 % intervals by row and column, for the columns that have one.
        differences: differences of `headline` by row and earlier row, with their intervals over the same resamples.
        headline: column of the differences.
        images: values by row, image and metric, for the table of images.
        data: counts of images, objects and classes.
        protocol: description of the measurement and of the network that was used.
        skipped: reason by column for columns that are missing.
    """

    task: str
    dataset: str
    table: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Interval]]
    differences: dict[str, dict[str, Interval]]
    headline: str
    images: dict[str, dict[str, dict[str, float]]]
    data: dict[str, Any]
    protocol: str
    skipped: dict[str, str] = field(default_factory=dict)


def write(result: TaskResult, folder: Path) -> None:
    """Write `metrics.json`, `table.csv` (one line per row) and `metrics.csv` (one line per image and row)."""
    record = {
        "task": result.task,
        "results": {result.dataset: {row: {"all": values} for row, values in result.table.items()}},
        "intervals": {
            result.dataset: {
                row: {column: [interval.low, interval.high] for column, interval in columns.items()}
                for row, columns in result.intervals.items()
            }
        },
        "differences": {
            "metric": result.headline,
            "rows": {
                row: {other: interval._asdict() for other, interval in others.items()}
                for row, others in result.differences.items()
            },
        },
        "data": {result.dataset: result.data},
        "protocol": {"text": result.protocol},
        "skipped": result.skipped,
    }
    write_text(folder / "metrics.json", json.dumps(finite(record), indent=2, allow_nan=False) + "\n")
    write_text(folder / "table.csv", _table_csv(result))
    write_text(folder / "metrics.csv", _images_csv(result))


def show(result: TaskResult) -> None:
    """Print the table with the labels, units and digits of the catalogue of metrics."""
    # names may contain square brackets, which rich would take for markup
    title = escape(f"{result.task} on {result.dataset}: {result.data['images']} images")
    table = Table(title=title, title_justify="left")
    table.add_column("input")
    metrics = {column: metric_of(column) for column in next(iter(result.table.values()))}
    for metric in metrics.values():
        table.add_column(escape(metric.heading), justify="right")
    for row, values in result.table.items():
        cells = []
        for column, metric in metrics.items():
            text = _written(metric, values.get(column, math.nan))
            interval = result.intervals.get(row, {}).get(column)
            if interval is not None:
                text += f" [{_written(metric, interval.low)}, {_written(metric, interval.high)}]"
            cells.append(escape(text))
        table.add_row(escape(row), *cells)
    lines = []
    headline = metric_of(result.headline)
    for row, others in result.differences.items():
        parts = [f"{_difference(headline, difference)} over {other}" for other, difference in others.items()]
        if parts:
            lines.append(escape(f"{row}: {', '.join(parts)}"))
    lines += [escape(f"{metric_of(column).label} is missing: {reason}") for column, reason in result.skipped.items()]
    table.caption = "\n".join(lines)
    table.caption_justify = "left"
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def metric_of(column: str) -> Metric:
    """Return the record of a column; that of a class, such as `ap_person`, has the class in its label."""
    kind, _, word = column.partition("_")
    if kind in ("ap", "iou") and word:
        metric = CATALOGUE[f"class_{kind}"]
        return replace(metric, label=f"{metric.label} {word}")
    return shown(column)


def _difference(metric: Metric, difference: Interval) -> str:
    mean, low, high = (_written(metric, value, sign=True) for value in difference)
    return f"{mean} [{low}, {high}]"


def _written(metric: Metric, value: float, *, sign: bool = False) -> str:
    """Return a fraction as text, in percent if that is the unit of the metric."""
    return "-" if math.isnan(value) else metric.written(100 * value if metric.unit == "%" else value, sign=sign)


def _table_csv(result: TaskResult) -> str:
    columns = list(next(iter(result.table.values())))
    bounded = [c for c in columns if any(c in result.intervals.get(row, {}) for row in result.table)]
    lines: list[list[Any]] = [["input", *columns, *(f"{c}_{end}" for c in bounded for end in ("low", "high"))]]
    for row, values in result.table.items():
        found = result.intervals.get(row, {})
        ends = [end for c in bounded for end in (found[c][1:] if c in found else ("", ""))]
        lines.append([row, *(values.get(c, "") for c in columns), *ends])
    return as_csv(lines)


def _images_csv(result: TaskResult) -> str:
    metrics = list(dict.fromkeys(m for rows in result.images.values() for values in rows.values() for m in values))
    lines: list[list[Any]] = [["dataset", "image", "method", *metrics]]
    for row, images in result.images.items():
        for image, values in images.items():
            lines.append([result.dataset, image, row, *(values.get(m, "") for m in metrics)])
    return as_csv(lines)
