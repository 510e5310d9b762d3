"""Results of a downstream task: `metrics.json`, `table.csv`, `metrics.csv` and a printed table."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lit_thermal.evaluation.records import finite
from lit_thermal.evaluation.statistics import Interval
from lit_thermal.files import write_text
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
    """Print the table, in percent for detection and segmentation as in the papers."""
    percent = result.task != "zero_shot"
    # names may contain square brackets, which rich would take for markup
    title = escape(f"{result.task} on {result.dataset}: {result.data['images']} images")
    table = Table(title=title, title_justify="left")
    table.add_column("input")
    columns = list(next(iter(result.table.values())))
    for column in columns:
        table.add_column(escape(column), justify="right")
    for row, values in result.table.items():
        cells = []
        for column in columns:
            text = _number(values.get(column, math.nan), percent)
            interval = result.intervals.get(row, {}).get(column)
            if interval is not None:
                text += f" [{_number(interval.low, percent)}, {_number(interval.high, percent)}]"
            cells.append(escape(text))
        table.add_row(escape(row), *cells)
    lines = []
    for row, others in result.differences.items():
        parts = [f"{_ends(difference, percent)} over {other}" for other, difference in others.items()]
        if parts:
            lines.append(escape(f"{row}: {', '.join(parts)}"))
    lines += [escape(f"{column} is missing: {reason}") for column, reason in result.skipped.items()]
    table.caption = "\n".join(lines)
    table.caption_justify = "left"
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


def _ends(difference: Interval, percent: bool) -> str:
    mean, low, high = (_number(value, percent, "+") for value in difference)
    return f"{mean} [{low}, {high}]"


def _number(value: float, percent: bool, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{100 * value:{sign}.1f}" if percent else f"{value:{sign}.4f}"


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
