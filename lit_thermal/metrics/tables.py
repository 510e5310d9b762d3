"""The tables that a test run prints: one for each data set, and one for the conditions that it was seen under again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from lit_thermal.metrics.report import compare, describe

if TYPE_CHECKING:
    from lit_thermal.metrics.scores import Scores

GROUPS = ("all", "observed", "interpolated")
STANDARD = "standard"
"""Heading of our own protocol where it stands beside others."""

DISTANCE = "spectrum_distance"

THERMAL = {
    "kelvin_mae": ("error in K", "{:.3f}"),
    "counts_mae": ("error in counts", "{:.2f}"),
    "order_violations": ("order violations", "{:.2%}"),
    "hot_edge_error": ("error at hot edges", "{:.4f}"),
}
"""Metric to its heading and format in the second table, lower being better."""

DISPLACED = ("unregistered", "registered")
"""Headings of what is measured over the common view of a restored image and a displaced target."""

Columns = dict[str, dict[str, dict[str, float]]]
"""Heading, method: PSNR and SSIM."""


def table(scores: Scores, dataset: str) -> Table:
    """Ours and the baselines as rows; PSNR and SSIM of each group of frames, or under each protocol, as columns.

    Images have the distance of the spectra as a further column, and those with displaced targets two columns over what
    both show, without the displacement and with it. The best of each column is bold; ours alone has a name
    in bold, its variants and the baselines have not.
    """
    data = describe(scores)[dataset]
    columns = _columns(scores, dataset)
    distances = _distances(scores, dataset)
    result = Table(title=f"{dataset}: {_count(data)}; PSNR in dB / SSIM", title_justify="left")
    result.add_column("method", overflow="fold")
    for heading in columns:
        result.add_column(heading, justify="right", no_wrap=True)
    if distances:
        result.add_column("spectrum distance", justify="right")
    for name in scores.summary()[dataset]:
        cells = []
        for found in columns.values():
            best = max((m["psnr"] for m in found.values()), default=math.nan)
            cells.append(_bold(_cell(found[name]), found[name]["psnr"] == best))
        if distances:
            cells.append(_bold(f"{distances[name]:.4f}", distances[name] == min(distances.values())))
        result.add_row(_bold(name, name == scores.methods[0]), *cells)
    comparison = compare(scores).get(dataset)
    if comparison is not None:
        over = _gains(comparison.gain, data)
        kind, count = ("clips", data["clips"]) if "clips" in data else ("images", data["images"])
        seen = min(len(groups["all"]) for groups in scores.clips()[dataset].values())
        for heading, found in list(columns.items())[1:] if seen == count and "images" in data else ():
            gain = found[scores.methods[0]]["psnr"] - max(m["psnr"] for n, m in found.items() if n in scores.baselines)
            over.append(f"{heading} {gain:+.2f} dB")
        lines = [f"over the strongest baseline: {', '.join(over)}"]
        lines += [f"{name}: {', '.join(_gains(gain, data))}" for name, gain in comparison.variants.items()]
        lines.append(f"{kind} below their strongest baseline: {len(comparison.below)} of {seen}")
        if seen < count:
            lines.append(f"baselines, and what is over them: the {seen} {kind} with a thermal input")
        result.caption = "\n".join(lines)
        result.caption_justify = "left"
    return result


def thermal(scores: Scores, dataset: str) -> Table:
    """Ours, its variants and the strongest baseline as rows; errors that thermal users ask of, and what was asked for.

    What was asked for by name comes last, with the target's own value where the metric needs no target.
    """
    methods = scores.summary()[dataset]
    comparison = compare(scores).get(dataset)
    shown = [name for name in methods if name not in scores.baselines]
    shown += [comparison.strongest] if comparison is not None else []
    own = scores.references().get(dataset, {})
    extra = [metric.name for metric in scores.metrics if metric.on_request]
    headings = {m: h for m, h in THERMAL.items() if m in methods[shown[0]]["all"]}
    headings |= {m: (m.replace("_", " "), "{:.4f}") for m in extra if m in methods[shown[0]]["all"]}
    result = Table(title=f"{dataset}: thermal metrics, lower is better" + ("; then those asked for" if extra else ""))
    result.title_justify = "left"
    result.add_column("method", overflow="fold")
    for heading, _ in headings.values():
        result.add_column(heading, justify="right")
    for name, found in ((n, f) for n, f in [*((n, methods[n]["all"]) for n in shown), *own.items()]):
        cells = [form.format(found[metric]) if metric in found else "" for metric, (_, form) in headings.items()]
        result.add_row(_bold(name, name == scores.methods[0]), *cells)
    lines = [escape(f"{name} not measured: {scores.skipped[name]}") for name in extra if name in scores.skipped]
    result.caption, result.caption_justify = "\n".join(lines) or None, "left"
    return result


def conditions(scores: Scores, dataset: str, others: list[str]) -> Table:
    """Ours on the same images under other conditions, a row for each.

    Args:
        scores: of the test.
        dataset: the set that has a table of its own.
        others: sets of the same images.
    """
    ours = scores.methods[0]
    gains = {name: comparison.gain["all"] for name, comparison in compare(scores).items()}
    result = Table(
        title=f"{ours} on the {_count(describe(scores)[dataset])} of {dataset} under other conditions; "
        "PSNR in dB / SSIM",
        title_justify="left",
    )
    result.add_column("test set", overflow="fold")
    for heading in _columns(scores, dataset):
        result.add_column(heading, justify="right", no_wrap=True)
    result.add_column("over the strongest baseline", justify="right")
    for name in (dataset, *others):
        gain = f"{gains[name]:+.2f} dB" if name in gains else "no thermal input"
        result.add_row(name, *(_cell(found[ours]) for found in _columns(scores, name).values()), gain)
    return result


def by_group(scores: Scores, dataset: str) -> Table:
    """Ours on the groups that images of a set were said to belong to, a row for each; an image may be in several."""
    ours, count = scores.methods[0], describe(scores)[dataset]["groups"]
    methods = scores.summary()[dataset]
    headings = [STANDARD, *(h for h in DISPLACED if f"psnr_{h}" in methods[ours]["all"])]
    result = Table(title=f"{ours} on {dataset} by group; PSNR in dB / SSIM, over the strongest baseline in dB")
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
            cells += [_cell(found[ours]), f"{found[ours]['psnr'] - best:+.2f}"]
        result.add_row(group, str(count[group]), *cells)
    return result


def show(scores: Scores) -> None:
    """Print the table of each data set, never narrower than it needs where the output is a file.

    A set of images that an earlier set has by the same names is that set under another condition: such sets share one
    table, without the baselines, which for most conditions would be repeated.
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
    """The columns of a data set: groups of frames for video, protocols for images."""
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


def _distances(scores: Scores, dataset: str) -> dict[str, float]:
    """Method to the distance of the spectra; nothing for video."""
    methods = scores.summary()[dataset]
    return {name: found["all"][DISTANCE] for name, found in methods.items() if DISTANCE in found["all"]}


def _gains(gain: dict[str, float], data: dict[str, Any]) -> list[str]:
    """Gain over the strongest baseline as text, for video of each group of frames."""
    if "images" in data:
        return [f"{gain['all']:+.2f} dB"]
    return [f"{group} {gain[group]:+.2f} dB" for group in GROUPS if group in gain]


def _count(data: dict[str, Any]) -> str:
    """How much a set holds."""
    if "images" in data:
        return f"{data['images']} image{'s' if data['images'] != 1 else ''}"
    counts = ", ".join(f"{data[g]} {g}" for g in GROUPS[1:] if data["observed"] and data["interpolated"])
    return f"{data['clips']} clips, {data['all']} frames{f' ({counts})' if counts else ''}"


def _under(heading: str, found: dict[str, float]) -> dict[str, float]:
    """PSNR and SSIM under a heading of `DISPLACED` or the standard one."""
    return found if heading == STANDARD else {name: found[f"{name}_{heading}"] for name in ("psnr", "ssim")}


def _bold(text: str, bold: bool) -> str:
    return f"[bold]{text}[/bold]" if bold else text


def _cell(found: dict[str, float]) -> str:
    return f"{found['psnr']:.2f} / {found['ssim']:.4f}"
