"""Tables that a test run prints: one for each data set, and one for its images under other conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from lit_thermal.evaluation.records import compare, describe, guided
from lit_thermal.metrics.catalogue import CATALOGUE, QUALITY, QUALITY_NAMES

if TYPE_CHECKING:
    from lit_thermal.evaluation.scores import Scores

GROUPS = ("all", "observed", "interpolated")
PAIR = " / ".join(metric.heading for metric in QUALITY)
"""Heading of the metrics that share a column: PSNR in dB / SSIM."""
STANDARD = "standard"
"""Heading of the standard protocol if others are shown next to it."""

DISPLACED = ("unregistered", "registered")
"""Headings of the metrics over the common view of a restored image and a displaced target."""

Columns = dict[str, dict[str, dict[str, float]]]
"""PSNR and SSIM by heading and method."""


def table(scores: Scores, dataset: str) -> Table:
    """Make a table with one row per method, and PSNR and SSIM of each group of frames or of each protocol in columns.

    Each other quality metric, such as the spectrum distance of images, has a column. If targets are displaced, two
    columns give the metrics over the common view, without and with the displacement. The best value of each column is
    bold, and so is the name of the method under test; the names of its variants and of the baselines are not.
    """
    data = describe(scores)[dataset]
    columns = _columns(scores, dataset)
    methods = scores.summary()[dataset]
    further = [
        m for m in scores.metrics if m.sheet == "quality" and m.name not in QUALITY_NAMES and _has(methods, m.name)
    ]
    result = Table(title=escape(f"{dataset}: {_count(data)}; {PAIR}"), title_justify="left")
    result.add_column("method", overflow="fold")
    for heading in columns:
        result.add_column(heading, justify="right", no_wrap=True)
    for metric in further:
        result.add_column(metric.heading, justify="right")
    for name in methods:
        cells = []
        for found in columns.values():
            best = max((m["psnr"] for m in found.values()), default=math.nan)
            cells.append(_bold(_cell(found[name]), found[name]["psnr"] == best))
        for metric in further:
            values = {name: found["all"][metric.name] for name, found in methods.items() if metric.name in found["all"]}
            best = (min if metric.direction == "lower" else max)(values.values())
            cells.append(_bold(metric.written(values[name]), values[name] == best) if name in values else "")
        result.add_row(_bold(name, name == scores.methods[0]), *cells)
    comparison = compare(scores).get(dataset)
    if comparison is not None:
        over = _gains(comparison.gain, data)
        kind, count = ("clips", data["clips"]) if "clips" in data else ("images", data["images"])
        compared = min(len(groups["all"]) for groups in scores.clips()[dataset].values())
        for heading, found in list(columns.items())[1:] if compared == count and "images" in data else ():
            gain = found[scores.methods[0]]["psnr"] - max(m["psnr"] for n, m in found.items() if n in scores.baselines)
            over.append(f"{heading} {_gain(gain)}")
        lines = [f"over the strongest baseline: {', '.join(over)}"]
        lines += [escape(f"{name}: {', '.join(_gains(gain, data))}") for name, gain in comparison.variants.items()]
        lines.append(f"{kind} below their strongest baseline: {len(comparison.below)} of {compared}")
        if compared < count:
            lines.append(f"baselines and gains over them: the {compared} {kind} with a thermal input")
        result.caption = "\n".join(lines)
        result.caption_justify = "left"
    return result


def thermal(scores: Scores, dataset: str) -> Table:
    """Make the table of the method, its variants and the strongest baseline, with the errors for thermal users.

    Metrics that were requested by name come last, with the target's own value if the metric needs no target.
    """
    methods = scores.summary()[dataset]
    comparison = compare(scores).get(dataset)
    shown = [name for name in methods if name not in scores.baselines]
    shown += [comparison.strongest] if comparison is not None else []
    own = scores.references().get(dataset, {})
    extra = [metric.name for metric in scores.metrics if metric.on_request]
    sheet = [m for m in scores.metrics if m.sheet == "thermal" and not m.on_request]
    sheet += [m for m in scores.metrics if m.on_request]
    sheet = [metric for metric in sheet if metric.name in methods[shown[0]]["all"]]
    asked = "; then those asked for" if extra else ""
    result = Table(title=escape(f"{dataset}: thermal metrics, lower is better{asked}"))
    result.title_justify = "left"
    result.add_column("method", overflow="fold")
    for metric in sheet:
        better = " (higher is better)" if metric.direction == "higher" and not metric.on_request else ""
        result.add_column(metric.heading + better, justify="right")
    for name, found in ((n, f) for n, f in [*((n, methods[n]["all"]) for n in shown), *own.items()]):
        cells = [metric.written(found[metric.name]) if metric.name in found else "" for metric in sheet]
        result.add_row(_bold(name, name == scores.methods[0]), *cells)
    lines = [escape(f"{name} not measured: {scores.skipped[name]}") for name in extra if name in scores.skipped]
    result.caption, result.caption_justify = "\n".join(lines) or None, "left"
    return result


def conditions(scores: Scores, dataset: str, others: list[str]) -> Table:
    """Make the table of the method and of the baselines with a guide under other conditions, one row per condition.

    Args:
        scores: scores of the test.
        dataset: data set that has a separate table.
        others: data sets with the same images under other conditions.
    """
    ours = scores.methods[0]
    gains = {name: comparison.gain["all"] for name, comparison in compare(scores).items()}
    result = Table(
        title=escape(f"{ours} on the {_count(describe(scores)[dataset])} of {dataset} under other conditions; {PAIR}"),
        title_justify="left",
    )
    result.add_column("test set", overflow="fold")
    for heading in _columns(scores, dataset):
        result.add_column(heading, justify="right", no_wrap=True)
    result.add_column("over the strongest baseline", justify="right")
    # Baselines without a guide are the same for most conditions.
    baselines = guided(scores, dataset, others)
    for baseline in baselines:
        result.add_column(escape(baseline), justify="right")
    for name in (dataset, *others):
        gain = _gain(gains[name]) if name in gains else "no thermal input"
        found = scores.summary()[name]
        cells = [_cell(found[baseline]["all"]) if baseline in found else "" for baseline in baselines]
        result.add_row(escape(name), *(_cell(found[ours]) for found in _columns(scores, name).values()), gain, *cells)
    return result


def by_group(scores: Scores, dataset: str) -> Table:
    """Make the table of the method on the groups of a data set's images, one row per group; groups may overlap."""
    ours, count = scores.methods[0], describe(scores)[dataset]["groups"]
    methods = scores.summary()[dataset]
    headings = [STANDARD, *(h for h in DISPLACED if f"psnr_{h}" in methods[ours]["all"])]
    result = Table(
        title=escape(f"{ours} on {dataset} by group; {PAIR}, over the strongest baseline in {CATALOGUE['psnr'].unit}")
    )
    result.title_justify = "left"
    result.add_column("group", overflow="fold")
    result.add_column("images", justify="right")
    for heading in headings:
        result.add_column(heading, justify="right", no_wrap=True)
        result.add_column("over", justify="right")
    for group in count:
        cells = []
        for heading in headings:
            found = {name: _under(heading, groups[group]) for name, groups in methods.items()}
            best = max((found[name]["psnr"] for name in scores.baselines), default=math.nan)
            cells += [_cell(found[ours]), CATALOGUE["psnr"].written(found[ours]["psnr"] - best, sign=True)]
        result.add_row(escape(group), str(count[group]), *cells)
    return result


def show(scores: Scores) -> None:
    """Print the table of each data set, at its full width if the output is a file.

    Sets whose images have the same names are one set under several conditions. They share one table, without the
    baselines that do not use the guide, which would be the same for most conditions.
    """
    again: dict[str, list[str]] = {}
    by_images: dict[tuple[str, ...], str] = {}
    for dataset, data in describe(scores).items():
        first = by_images.setdefault(tuple(data["names"]), dataset) if "names" in data else dataset
        again.setdefault(first, []).extend([dataset] if first != dataset else [])
    console = Console()
    for dataset, others in again.items():
        sheets = [
            table(scores, dataset),
            thermal(scores, dataset),
            *([conditions(scores, dataset, others)] if others else []),
        ]
        sheets += [by_group(scores, dataset)] if "groups" in describe(scores)[dataset] else []
        for sheet in sheets:
            if not console.is_terminal:
                needed = Measurement.get(console, console.options.update(max_width=1000), sheet).maximum
                console = Console(width=max(console.width, needed))
            console.print(sheet)


def _columns(scores: Scores, dataset: str) -> Columns:
    """Return the columns of a data set: groups of frames for video, protocols for images."""
    methods = scores.summary()[dataset]
    if "clips" in describe(scores)[dataset]:
        groups = [g for g in GROUPS if g in next(iter(methods.values()))]
        return {g: {name: found[g] for name, found in methods.items()} for g in groups}
    columns = {STANDARD: {name: found["all"] for name, found in methods.items()}}
    for heading in DISPLACED if "displacements" in describe(scores)[dataset] else ():
        columns[heading] = {name: _under(heading, found["all"]) for name, found in methods.items()}
    for name, protocols in scores.others.summary().get(dataset, {}).items():
        for protocol, found in protocols.items():
            columns.setdefault(protocol, {})[name] = found
    return columns


def _has(methods: Mapping[str, Mapping[str, Mapping[str, float]]], metric: str) -> bool:
    """Return whether at least one method has a value of the metric."""
    return any(metric in found["all"] for found in methods.values())


def _gains(gain: dict[str, float], data: dict[str, Any]) -> list[str]:
    """Format the gain over the strongest baseline as text, for each group of frames of video."""
    if "images" in data:
        return [_gain(gain["all"])]
    return [f"{group} {_gain(gain[group])}" for group in GROUPS if group in gain]


def _gain(value: float) -> str:
    """Format a difference of PSNR as text."""
    return CATALOGUE["psnr"].written(value, sign=True, unit=True)


def _count(data: dict[str, Any]) -> str:
    """Format the size of a data set as text."""
    if "images" in data:
        return f"{data['images']} image{'s' if data['images'] != 1 else ''}"
    counts = ", ".join(f"{data[g]} {g}" for g in GROUPS[1:] if data["observed"] and data["interpolated"])
    return f"{data['clips']} clips, {data['all']} frames{f' ({counts})' if counts else ''}"


def _under(heading: str, found: dict[str, float]) -> dict[str, float]:
    """Return PSNR and SSIM under a heading of `DISPLACED` or the standard one."""
    return found if heading == STANDARD else {name: found[f"{name}_{heading}"] for name in QUALITY_NAMES}


def _bold(text: str, bold: bool) -> str:
    return f"[bold]{escape(text)}[/bold]" if bold else escape(text)


def _cell(found: dict[str, float]) -> str:
    return " / ".join(metric.written(found[metric.name]) for metric in QUALITY)
