"""Figures of a report: differences, training, cost, robustness and single images."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lit_thermal.evaluation.levels import Level, curves
from lit_thermal.metrics.catalogue import QUALITY_NAMES, shown
from lit_thermal.report.ablation import Ablation
from lit_thermal.report.drawing import (
    INK,
    MUTED,
    Figure,
    Key,
    Panel,
    as_panel,
    color,
    dash,
    few_ticks,
    key,
    panel,
    plain_log,
    spread,
)
from lit_thermal.report.read import Row, Run, Study
from lit_thermal.report.sheets import mean_cost, slug
from lit_thermal.report.words import count, heading, plural


def order(study: Study, reference: Row) -> list[Row]:
    """Return the measured rows in the order of their colours: the reference first."""
    return [reference, *(row for row in study.rows if row.runs and row is not reference)]


def legend(rows: Sequence[Row]) -> tuple[Key, ...]:
    """Return the legend of the rows' colours."""
    return tuple(key(row.name, index) for index, row in enumerate(rows))


def differences(ablation: Ablation, name: str) -> Figure | None:
    """Draw our differences with intervals next to the paper's, one panel per metric; None if there are none."""
    panels = []
    for metric in ablation.metrics:
        lines = [line for line in ablation.lines if line.cells[metric].difference and not line.reference]
        if not lines:
            continue
        one = shown(metric)
        figure, axes = panel(heading(one), height=1.15 + 0.42 * len(lines))
        axes.axvline(0, color=MUTED, linewidth=1)
        for at, line in enumerate(lines):
            cell = line.cells[metric]
            assert cell.difference is not None
            mean, low, high = cell.difference.interval
            if math.isfinite(low):
                axes.plot([low, high], [at, at], color=color(1), linewidth=2.4, solid_capstyle="round")
            axes.plot([mean], [at], "o", color=color(1), markersize=6)
            if cell.printed_difference is not None:
                axes.plot([cell.printed_difference], [at], "D", color=INK, markerfacecolor="none", markersize=7)
        axes.set_yticks(range(len(lines)), [line.name for line in lines])
        axes.tick_params(axis="y", colors=INK, length=0)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        few_ticks(axes)
        axes.set_xlabel(f"difference to {ablation.reference}{f' in {one.unit}' if one.unit else ''}")
        words = f"{one.label}: difference of each row to {ablation.reference}, ours with interval"
        panels.append(as_panel(figure, f"{name}-{metric}", words))
    if not panels:
        return None
    keys = [Key("ours: mean and 95 % interval", 1)]
    caption = f"Effect of each change on the score on {ablation.dataset}, compared with “{ablation.reference}”. "
    if ablation.table:
        keys.append(Key("the paper’s difference", None, "diamond"))
        caption += (
            "An interval that contains 0 decides nothing. Data and protocols differ from the paper's: compare signs, "
            "not sizes."
        )
    return Figure("Differences to the reference row", caption, tuple(panels), tuple(keys))


def training(rows: Sequence[Row], name: str) -> Figure | None:
    """Draw PSNR and SSIM of training and validation over the steps, and their range over seeds; else the loss."""
    runs = [run for row in rows for run in row.runs]
    logged = dict.fromkeys(key for run in runs for line in run.logged for key in line if key != "step")
    metrics = [m for m in QUALITY_NAMES if f"val/{m}" in logged or f"train/{m}" in logged]
    names = [(heading(shown(m)), [(f"train/{m}", 1), (f"val/{m}", 0)]) for m in metrics]
    if not any(f"train/{m}" in logged for m in QUALITY_NAMES):
        terms = [key for key in logged if key.startswith("train/")]
        losses = [key for key in ("train/loss", "train/pixel", *terms) if key in logged]
        names += [(f"Loss in training: {key.removeprefix('train/')}", [(key, 1)]) for key in losses[:1]]
    panels = []
    for title, wanted in names:
        figure, axes = panel(title)
        for index, row in enumerate(rows):
            for curve, style in wanted:
                _band(axes, [_curve(run, curve) for run in row.runs], index, style)
        if title.startswith("Loss"):
            plain_log(axes)
        axes.set_xlabel("training steps")
        panels.append(as_panel(figure, f"{name}-{slug(title)}", f"{title} over the training steps, one line per row"))
    if not panels:
        return None
    seeds = max(len(row.runs) for row in rows)
    over = (
        f"Lines are means over {plural(seeds, 'seed')}, bands reach from the lowest to the highest. "
        if seeds > 1
        else ""
    )
    caption = f"Logged values of the training. {over}Solid: validation; dashed: training, on augmented crops."
    return Figure("Training", caption, tuple(panels), legend(rows))


def speed(rows: Sequence[Row], dataset: str, name: str) -> Figure | None:
    """Draw quality against images per second, with parameters as area; None if cost was not recorded."""
    points = []
    for index, row in enumerate(rows):
        seconds, parameters = mean_cost(row, "seconds_per_image"), mean_cost(row, "parameters")
        if seconds and seconds > 1e-12 and parameters is not None:
            points.append((index, 1 / seconds, parameters))
    if not points:
        return None
    largest = max(p for _, _, p in points) or 1.0
    panels = []
    for metric in ("musiq", *QUALITY_NAMES):
        values = {i: _mean(rows[i], dataset, metric) for i, _, _ in points}
        found = {i: v for i, v in values.items() if v is not None}
        if not found:
            continue
        figure, axes = panel(heading(shown(metric)))
        for index, fps, parameters in points:
            if index in found:
                area = max(30.0, 900 * parameters / largest)
                axes.scatter([fps], [found[index]], s=area, color=color(index), alpha=0.55, edgecolors=color(index))
        axes.set_xlim(*spread([fps for _, fps, _ in points], 0.3))
        axes.set_ylim(*spread(list(found.values()), 0.3))
        axes.set_xlabel("images per second")
        panels.append(as_panel(figure, f"{name}-{metric}", f"{shown(metric).label} against images per second"))
    caption = (
        f"Quality on {dataset} against speed; the area of a disc is its parameters (largest: {count(largest)}). "
        "Speeds are valid for the machine named above and for images of this size."
    )
    return Figure("Quality against speed", caption, tuple(panels), legend(rows))


def robustness(rows: Sequence[Row], table: str, name: str) -> list[Figure]:
    """Draw quality against each quantity that a test varied, one figure each; lines are means over the seeds."""
    measured = [(index, _levels(row, table)) for index, row in enumerate(rows)]
    found = {index: curves(levels) for index, levels in measured}
    simple = next((curves(levels, baseline=True) for _, levels in measured if levels), {})
    figures = []
    for varied in dict.fromkeys(name for points in found.values() for name in points):
        panels = []
        places = sorted({level.at or 0.0 for points in found.values() for level in points.get(varied, ())})
        unit = next(level.unit for points in found.values() for level in points.get(varied, ()))
        for metric in QUALITY_NAMES:
            figure, axes = panel(heading(shown(metric)))
            drawn = [(i, points[varied], color(i), dash(i)) for i, points in found.items() if varied in points]
            drawn += [(None, simple[varied], MUTED, (0, (1, 1.4)))] if varied in simple else []  # type: ignore[list-item]
            for _, points, ink, line in drawn:
                x, y = [p.at or 0.0 for p in points], [p.values[metric] for p in points]
                axes.plot(x, y, color=ink, linestyle=line, marker="o", markersize=4)
            for index, levels in measured:
                alone = [level for level in levels if level.condition == "thermal_only"]
                if alone and "guide" in varied:
                    axes.axhline(alone[0].values[metric], color=color(index), linewidth=1, linestyle=(0, (2, 2)))
            if places[0] == 0 and len(places) > 3:
                axes.set_xscale("symlog", base=2, linthresh=places[1])
            axes.set_xticks(places, [f"{p:g}" for p in places])
            axes.minorticks_off()
            axes.set_xlabel(f"{varied}{f', {unit}' if unit else ''}")
            words = f"{shown(metric).label} against {varied}"
            panels.append(as_panel(figure, f"{name}-{slug(varied)}-{metric}", words))
        keys = [*legend(rows), *([Key("strongest simple baseline", None, "1 3")] if varied in simple else [])]
        caption = f"Quality against {varied}. "
        caption += "The dotted line of the same colour shows that row without any guide." if "guide" in varied else ""
        figures.append(Figure(f"Robustness: {varied}", caption, tuple(panels), tuple(keys)))
    return figures


def scatter(rows: Sequence[Row], dataset: str, name: str, metric: str = "psnr") -> Figure | None:
    """Draw each row against the reference on each image: above the diagonal it is better. None for a single row."""
    base = _by_image(rows[0], dataset, metric)
    panels = []
    for index, row in enumerate(rows[1:], start=1):
        own = _by_image(row, dataset, metric)
        names = sorted(base.keys() & own.keys())
        if not names:
            continue
        x, y = [base[n] for n in names], [own[n] for n in names]
        figure, axes = panel(row.name, height=3.6, width=3.8)
        limits = spread([*x, *y])
        axes.plot(limits, limits, color=MUTED, linewidth=1)
        axes.plot(x, y, "o", color=color(index), markersize=4.5, alpha=0.7, markeredgewidth=0)
        axes.set_xlim(*limits)
        axes.set_ylim(*limits)
        axes.set_aspect("equal")
        axes.set_xlabel(f"{rows[0].name}")
        above = sum(b > a for a, b in zip(x, y, strict=True))
        words = f"{row.name} has the higher {shown(metric).label} on {above} of {plural(len(names), 'image')}"
        axes.set_title(f"{row.name}: higher on {above} of {len(names)}", fontsize=11, color=INK, loc="left")
        panels.append(as_panel(figure, f"{name}-{index}", words))
    if not panels:
        return None
    caption = (
        f"{shown(metric).label} of each image or clip of {dataset}, mean over the seeds: the reference row "
        f"“{rows[0].name}” on the horizontal axis, the row in the heading on the vertical axis, which is higher "
        "above the diagonal."
    )
    return Figure("Image by image", caption, tuple(panels), narrow=True)


def profile(lines: Mapping[str, tuple[np.ndarray, int | None]], unit: str, name: str, title: str) -> Panel:
    """Draw the values along one line of a picture.

    Args:
        lines: values by name with the index of the row's colour, which is None for the target, a broad band, and for
            the baseline, a dotted line.
        unit: unit of the values.
        name: name of the picture.
        title: title of the panel.
    """
    figure, axes = panel(title, height=3.6, width=6.0)
    for label, (values, index) in lines.items():
        if index is not None:
            axes.plot(values, color=color(index), linestyle=dash(index), linewidth=1.5)
        elif label == "HR":
            axes.plot(values, color=MUTED, linewidth=6, alpha=0.4, solid_capstyle="round", zorder=1)
        else:
            axes.plot(values, color=MUTED, linestyle=(0, (1, 1.4)), linewidth=1.5)
    axes.set_xlim(0, max(len(v) for v, _ in lines.values()) - 1)
    axes.set_xlabel("pixels along the line")
    axes.set_ylabel(unit)
    return as_panel(figure, name, f"{title}: {', '.join(lines)}")


def _curve(run: Run, name: str) -> dict[float, float]:
    return {line["step"] + 1: line[name] for line in run.logged if name in line}


def _band(axes: "object", curves: Sequence[Mapping[float, float]], index: int, style: int) -> None:
    """Draw the mean of curves at their common steps, and the band between the lowest and the highest."""
    known = [curve for curve in curves if curve]
    if not known:
        return
    steps = sorted(set.intersection(*(set(curve) for curve in known)))
    table = np.array([[curve[step] for step in steps] for curve in known])
    line = dash(index) if not style else (0, (3, 2))
    width, alpha = (1.1, 0.7) if style else (1.8, 1.0)
    axes.plot(steps, table.mean(0), color=color(index), linestyle=line, linewidth=width, alpha=alpha)  # type: ignore[attr-defined]
    if len(table) > 1:
        axes.fill_between(steps, table.min(0), table.max(0), color=color(index), alpha=0.15, linewidth=0)  # type: ignore[attr-defined]


def _levels(row: Row, table: str) -> list[Level]:
    """Return the mean over the seeds for each condition and degree."""
    by_condition: dict[tuple[str, str, float | None], list[Level]] = {}
    for run in row.runs:
        for level in run.levels.get(table, ()):
            by_condition.setdefault((level.condition, level.varied, level.at), []).append(level)
    return [
        found[0]._replace(values={m: sum(f.values[m] for f in found) / len(found) for m in found[0].values})
        for found in by_condition.values()
    ]


def _by_image(row: Row, dataset: str, metric: str) -> dict[str, float]:
    """Return the mean over the seeds by image, for the images that all of them have."""
    found = [run.values.get(dataset, {}).get(metric, {}) for run in row.runs]
    names = set.intersection(*(set(f) for f in found)) if found else set()
    return {name: sum(f[name] for f in found) / len(found) for name in names}


def _mean(row: Row, dataset: str, metric: str) -> float | None:
    values = _by_image(row, dataset, metric)
    return sum(values.values()) / len(values) if values else None
