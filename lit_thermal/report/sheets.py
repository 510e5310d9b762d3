"""Tables of a report: the ablation next to the published one, all measurements, and the cost."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lit_thermal.metrics.catalogue import shown
from lit_thermal.metrics.metric import Metric
from lit_thermal.report.ablation import Ablation, Cell, Estimate, Line, mean_of
from lit_thermal.report.read import Row, Study
from lit_thermal.report.sheet import Column, Entry, Sheet, SheetRow
from lit_thermal.report.words import (
    NONE,
    count,
    decimals_of,
    duration,
    heading,
    listed,
    number,
    plural,
    size,
    span,
)

_NOT_RECORDED = "not recorded"


def ablation_sheet(ablation: Ablation, stem: str) -> Sheet:
    """Return the table of an ablation: our value and difference, the paper's, and the verdict, for each metric."""
    table = ablation.table
    with_protocol = any(c.by_protocol is not None for line in ablation.lines for c in line.cells.values())
    columns = [Column("ours"), Column(f"{_DELTA} ours")]
    if table:
        columns += [Column(f"{_DELTA} paper"), Column("verdict", text=True), Column("paper")]
        columns += [Column(f"ours by “{table.protocol.same_as}”")] if with_protocol else []
    rows = []
    for metric in ablation.metrics:
        one = shown(metric)
        digits = _digits(line.cells[metric] for line in ablation.lines)
        for line in ablation.lines:
            cell = line.cells[metric]
            entries = [_value(cell.ours, one, _absent(line)), _difference(cell, one)]
            entries += _printed(cell, digits) if table else []
            entries += [Entry(number(cell.by_protocol, one.decimals), cell.by_protocol)] if with_protocol else []
            rows.append(SheetRow(line.name, tuple(entries), line.reference, _row_note(line), heading(one)))
    caption = f"Ablation on {ablation.dataset}"
    if table:
        caption += f" compared with {table.number} of {table.title} ({ablation.printed_dataset})"
    cells = [line.cells[metric].ours for metric in ablation.metrics for line in ablation.lines]
    several = max((found.seeds for found in cells if found), default=1) > 1
    over = "seeds and images" if several else "images; trainings under other seeds may differ by more"
    note = f"{_DELTA}: difference to “{ablation.reference}”. Small numbers: 95 % interval over {over}."
    protocol = f"{table.title}, {ablation.printed_dataset}: {table.protocol.text}" if table else ""
    return Sheet(stem, caption, "Row", tuple(columns), tuple(rows), note, protocol)


def measurements_sheet(study: Study, dataset: str, stem: str) -> Sheet:
    """Return the table of all metrics of all rows on one test set, with the strongest simple baseline last."""
    metrics = [
        m
        for m in dict.fromkeys(m for run in study.runs for m in run.values.get(dataset, {}))
        if m != "heat_residual_of_target"
    ]
    rows = []
    for row in study.rows:
        cells = tuple(_value(mean_of(row, dataset, metric), shown(metric)) for metric in metrics)
        rows.append(SheetRow(row.name, cells))
    record = study.runs[0].record
    strongest = record.get("against_baselines", {}).get(dataset, {}).get("strongest")
    if strongest:
        found = record["results"].get(dataset, {}).get(strongest, {}).get("all", {})
        cells = tuple(Entry(number(found.get(m), shown(m).decimals), found.get(m)) for m in metrics)
        rows.append(SheetRow(strongest, cells, note="strongest simple baseline"))
    columns = tuple(Column(heading(shown(metric))) for metric in metrics)
    return Sheet(stem, f"All metrics on {dataset}", "Row", columns, tuple(rows), f"{images_of(study, dataset)}.")


def cost_sheet(study: Study, stem: str) -> Sheet | None:
    """Return the table of each row's cost; None if no run has recorded it."""
    if not any(run.cost for run in study.runs):
        return None
    kinds: Sequence[tuple[str, str, Callable[[Any], str]]] = (
        ("Parameters", "parameters", count),
        ("Trainable", "trainable_parameters", count),
        ("Training", "training_seconds", duration),
        ("Steps", "training_steps", lambda n: f"{n:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")),
        ("Per image", "seconds_per_image", duration),
        ("Peak memory", "peak_memory_bytes", size),
    )
    rows = []
    for row in study.rows:
        entries = []
        for _, key, write in kinds:
            mean = mean_cost(row, key)
            entries.append(Entry(_NOT_RECORDED if mean is None else write(mean), "" if mean is None else mean))
        rows.append(SheetRow(row.name, tuple(entries)))
    note = f"Means over the seeds of a row. {machine(study)}. Times on a busy machine say little; budgets are in steps."
    return Sheet(stem, "Cost of each row", "Row", tuple(Column(label) for label, _, _ in kinds), tuple(rows), note)


def mean_cost(row: Row, key: str) -> float | None:
    """Return the mean over the seeds of one entry of a row's cost; None if no run has it."""
    found = [float(run.cost[key]) for run in row.runs if run.cost.get(key) is not None]
    return sum(found) / len(found) if found else None


def machine(study: Study) -> str:
    """Return the machines of the runs as text."""
    found = list(
        dict.fromkeys(
            f"{run.cost.get('device')}, {plural(int(run.cost.get('threads') or 1), 'thread')}"
            for run in study.runs
            if run.cost.get("device")
        )
    )
    return f"Machine: {listed(found)}" if found else f"Machine: {_NOT_RECORDED}"


def images_of(study: Study, dataset: str) -> str:
    """Return the number of images or clips of a test set as text."""
    data = next((run.record.get("data", {}).get(dataset) for run in study.runs if dataset in run.values), None) or {}
    if "images" in data:
        return plural(data["images"], "image")
    if "clips" in data and "all" in data:
        return f"{plural(data['clips'], 'clip')} of {plural(data['all'], 'frame')} together"
    values = next(iter(next(run.values[dataset] for run in study.runs if dataset in run.values).values()))
    return plural(len(values), "image")


def slug(*parts: str) -> str:
    """Return words as one part of a file name or a link."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")


_DELTA = "\N{INCREMENT}"


def _absent(line: Line) -> str:
    """Return the reason for a missing value of ours."""
    if line.row is None:
        return "not run"
    return "not measured" if line.row.runs else "failed"


def _digits(cells: Iterable[Cell]) -> int:
    """Return the largest number of digits after the point that a paper prints in a column."""
    return max((decimals_of(cell.printed.text) for cell in cells if cell.printed), default=0)


def _printed(cell: Cell, digits: int) -> list[Entry]:
    """Return the paper's difference, the verdict, and the paper's value."""
    printed, gap = cell.printed, cell.printed_difference
    if printed is None or printed.value is None:
        value = Entry("not printed", kind="absent")
    else:
        value = Entry(printed.text, printed.value)
    difference = Entry(NONE)
    if gap is not None and cell.verdict != "reference":
        difference = Entry(number(gap, digits, True), round(gap, 9))
    return [difference, Entry(cell.verdict, kind=cell.verdict.replace(" ", "-")), value]


def _value(found: Estimate | None, metric: Metric, absent: str = "not measured") -> Entry:
    if found is None:
        return Entry(absent, kind="absent")
    mean, low, high = found.interval
    return Entry(number(mean, metric.decimals), mean, (low, high), span(low, high, metric.decimals))


def _difference(cell: Cell, metric: Metric) -> Entry:
    if cell.difference is None:
        return Entry(NONE)
    mean, low, high = cell.difference.interval
    kind = ""
    if metric.direction and (low > 0 or high < 0):
        kind = "better" if (low > 0) == (metric.direction == "higher") else "worse"
    digits = metric.decimals
    return Entry(number(mean, digits, True), mean, (low, high), span(low, high, digits, True), kind)


def _row_note(line: Line) -> str:
    """Return a note on the missing runs of a row."""
    if line.row is None:
        return "no such point in the sweep"
    total = len(line.row.runs) + len(line.row.missing)
    return f"{len(line.row.runs)} of {plural(total, 'seed')}" if line.row.missing else ""
