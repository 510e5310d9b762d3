"""Robustness curves: quality over noise, blur or misalignment of the cameras, or with one camera missing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch import Callback

from lit_thermal.data.degradations.conditions import Condition, Varied
from lit_thermal.evaluation.levels import BASELINE, COLUMNS, GUIDED, Level, curves, guided_curves
from lit_thermal.evaluation.records import compare, describe, guided
from lit_thermal.evaluation.scores import Scores
from lit_thermal.metrics.catalogue import CATALOGUE, QUALITY, QUALITY_NAMES

from .file_name import file_name
from .run_files import COLORS, write_figure, write_table

_LINES = {
    "complete": (COLORS["black"], "-"),
    "thermal_only": (COLORS["orange"], "--"),
    "guide_only": (COLORS["pink"], "-."),
    "shuffled_guide": (COLORS["green"], (0, (5, 1, 1, 1, 1, 1))),
}
"""Colour and dashes of the conditions that are drawn as a horizontal line, not as a point of a curve."""
_DASHES = {"light": (0, (1, 1)), "medium": (0, (3, 2)), "strong": (0, (6, 3))}
"""Dashes of misalignments, by severity."""
_GUIDED_COLORS = [COLORS[name] for name in ("orange", "green", "pink", "black", "sky")]
"""Colours of the baselines that use the guide; each is used twice, with dots and with dashes."""
_BASELINE = (COLORS["yellow"], ":")
_FAR = 1.5
"""A level farther from the others than this many times their span is listed in the legend but not drawn."""
_DOUBLINGS = 8
"""If the largest degree is at least this many times the smallest one above zero, the axis is logarithmic to base 2."""


class RobustnessCurve(Callback):
    """Draws PSNR and SSIM over the degree of each degradation, after a test under several conditions.

    Writes `robustness.csv` and `robustness.png` into the run's folder, or `robustness_<name>` for each of several data
    sets. The overlays `test/noise.yaml`, `test/blur.yaml` and `test/degradation.yaml` give conditions for any method,
    `test/robustness.yaml` and `test/misalignment.yaml` for guided methods. Each varied quantity has a panel for each
    metric. If it degrades the input, the curve of the strongest simple baseline is drawn too; if it changes the guide,
    the curves of all baselines that use the guide are drawn, among them the other trained methods. A picture needs at
    least two degrees of a quantity; `Complete` counts as one. With a single condition nothing is written. The verb
    `curves` draws several runs in one picture.
    """

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the table and draw the curves from the scores of the test."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        conditions: Sequence[Condition] = getattr(data, "conditions", ())
        if not trainer.is_global_zero or len(conditions) < 2:
            return
        scores: Scores = pl_module.evaluator.scores  # type: ignore[assignment, union-attr]
        # `test_names` lists all conditions of one data set, then those of the next.
        names = data.test_names
        sets = [names[first : first + len(conditions)] for first in range(0, len(names), len(conditions))]
        for datasets in sets:
            levels = _levels(scores, datasets, conditions)
            base = datasets[0].removesuffix(f"_{conditions[0].suffix}")
            file = Path(trainer.default_root_dir) / (
                f"robustness_{file_name(base)}.csv" if len(sets) > 1 else "robustness.csv"
            )
            write_table(file, COLUMNS, map(_row, levels))
            if curves(levels):
                kind = "clips" if "clips" in describe(scores)[datasets[0]] else "images"
                title = f"{scores.methods[0]} on {datasets[0]} ({levels[0].images} {kind})"
                write_figure(file.with_suffix(".png"), _figure(levels, scores.methods[0], title))


def write_runs(file: Path, runs: Mapping[str, Sequence[Level]]) -> None:
    """Draw the curves of several runs in one picture, and write their table.

    Args:
        file: path of the picture (.png); the table has the same name with the suffix .csv.
        runs: measured levels of each run, by the name of the run in the picture.
    """
    rows = [(run, *_row(level)) for run, levels in runs.items() for level in levels]
    write_table(file.with_suffix(".csv"), ("run", *COLUMNS), rows)
    from matplotlib import rc_context

    # A `$` in the name of a run is no formula.
    with rc_context({"text.parse_math": False}):
        write_figure(file, _figure_of_runs(runs))


def _row(level: Level) -> tuple[Any, ...]:
    at = "" if level.at is None else f"{level.at:g}"
    measured = (level.values[metric] for metric in QUALITY_NAMES)
    return (level.condition, level.varied, at, level.unit, *measured, level.images)


def _levels(scores: Scores, datasets: Sequence[str], conditions: Sequence[Condition]) -> list[Level]:
    """Return the levels of all conditions, of the unchanged data (for each curve), and of the strongest baseline."""
    pairs = list(zip(datasets, conditions, strict=True))
    levels = [_level(scores, name, condition.suffix or "complete", condition.varied) for name, condition in pairs]
    reached = {c.varied.what: c.varied for _, c in pairs if c.varied}
    whole = next((name for name, condition in pairs if not condition.suffix), None)
    points = [(name, c.varied) for name, c in pairs if c.varied and not c.of_guide]
    for varied in reached.values() if whole else ():
        if any(level.varied == varied.what and level.at == varied.neutral for level in levels):
            continue
        neutral = varied._replace(value=varied.neutral)
        levels.append(_level(scores, whole, "complete", neutral))
        if any(other.what == varied.what for _, other in points):
            points.append((whole, neutral))
    compared = compare(scores)
    first = next((name for name in datasets if name in compared), None)
    if first is None:
        return levels
    strongest = compared[first].strongest
    levels.append(_level(scores, first, BASELINE + strongest, None, strongest))
    levels += [_level(scores, name, BASELINE + strongest, varied, strongest) for name, varied in points]
    if whole is None:
        return levels
    moved = {(c.varied.what, c.varied.value): (name, c.varied) for name, c in pairs if c.varied and c.of_guide}
    for _, varied in list(moved.values()):
        moved.setdefault((varied.what, varied.neutral), (whole, varied._replace(value=varied.neutral)))
    for baseline in guided(scores, whole, datasets):
        levels += [_level(scores, name, GUIDED + baseline, varied, baseline) for name, varied in moved.values()]
    return levels


def _level(scores: Scores, dataset: str, condition: str, varied: Varied | None, method: str | None = None) -> Level:
    clips = scores.clips()[dataset][method or scores.methods[0]]["all"]
    values = {m: sum(clip[m] for clip in clips.values()) / len(clips) for m in QUALITY_NAMES}
    if varied is None:
        return Level(condition, "", None, "", values, len(clips))
    return Level(condition, varied.what, varied.value, varied.unit, values, len(clips))


def _figure(levels: Sequence[Level], method: str, title: str) -> Any:
    """Draw a row for each varied quantity: PSNR and SSIM side by side, with a legend below each."""
    own, baselines = curves(levels), curves(levels, baseline=True)
    figure, rows = _empty(title, len(own))
    for (varied, points), axes in zip(own.items(), rows, strict=True):
        # A baseline in `varied` means that the input is degraded; then a missing or shuffled guide is not of interest.
        flat = [] if varied in baselines else [level for level in levels if not level.varied]
        # A baseline that uses the guide has a curve, of which its value on the data as they are is only one point.
        followers = guided_curves(levels).get(varied, {})
        flat = [level for level in flat if level.condition.removeprefix(BASELINE) not in followers]
        for axis, metric in zip(axes, QUALITY_NAMES, strict=True):
            curve = _drawn(axis, points, metric, method, color=COLORS["blue"], marker="o", linewidth=2, zorder=3)
            if varied in baselines:
                name = baselines[varied][0].condition.removeprefix(BASELINE)
                color, dashes = _BASELINE
                curve += _drawn(axis, baselines[varied], metric, name, color=color, marker=".", linestyle=dashes)
            curve += _drawn_guided(axis, levels, varied, metric)
            _finish(axis, metric, curve + _flat(axis, flat, curve, metric), points)
    return figure


def _flat(axis: Any, levels: Sequence[Level], curve: Sequence[float], metric: str) -> list[float]:
    """Draw horizontal lines for levels without a degree; return the values that are near enough to be drawn."""
    near = [*curve, *(level.values[metric] for level in levels if level.condition != "guide_only")]
    reach = _FAR * max(max(near) - min(near), 1e-3)
    drawn = []
    for level in levels:
        value = level.values[metric]
        color, dashes = _line(level.condition)
        name = "both cameras" if level.condition == "complete" else level.condition.replace("_", " ")
        text = f"{name}: {CATALOGUE[metric].written(value, unit=True)}"
        if min(near) - reach <= value <= max(near) + reach:
            drawn.append(value)
            axis.axhline(value, color=color, linestyle=dashes, linewidth=1.5, label=text)
        else:
            axis.plot([], [], color=color, linestyle=dashes, label=f"{text} (off the axis)")
    return drawn


def _figure_of_runs(runs: Mapping[str, Sequence[Level]]) -> Any:
    """Draw a row for each quantity that all runs vary; each run has a colour, and its level without guide is dashed."""
    colors = [color for name, color in COLORS.items() if name != "black"]
    first = next(iter(runs.values()))
    found = {run: curves(levels) for run, levels in runs.items()}
    shared = [varied for varied in curves(first) if all(varied in own for own in found.values())]
    figure, rows = _empty(f"{first[0].images} images or clips each", len(shared))
    for varied, axes in zip(shared, rows, strict=True):
        reference = _strongest(runs, varied)
        every = sorted({level.at: level for own in found.values() for level in own[varied]}.items(), key=lambda i: i[0])
        of_input = any(varied in curves(levels, baseline=True) for levels in runs.values())
        for axis, metric in zip(axes, QUALITY_NAMES, strict=True):
            drawn = []
            for number, (run, levels) in enumerate(runs.items()):
                color = colors[number % len(colors)]
                drawn += _drawn(axis, found[run][varied], metric, run, color=color, marker="o", linewidth=2, zorder=3)
                alone = [level.values[metric] for level in levels if level.condition == "thermal_only" and not of_input]
                for value in alone:
                    axis.axhline(value, color=color, linestyle="--", linewidth=1.5)
                    axis.plot([], [], color=color, linestyle="--", label=f"{run} without a guide")
                drawn += alone
            if len(reference) > 1:
                name = reference[0].condition.removeprefix(BASELINE)
                drawn += _drawn(axis, reference, metric, name, color=COLORS["black"], marker=".", linestyle=":")
            elif reference:
                drawn.append(reference[0].values[metric])
                name = reference[0].condition.removeprefix(BASELINE)
                axis.axhline(drawn[-1], color=COLORS["black"], linestyle=":", linewidth=1.5, label=name)
            drawn += _drawn_guided(axis, first, varied, metric)
            _finish(axis, metric, drawn, [level for _, level in every])
    return figure


def _strongest(runs: Mapping[str, Sequence[Level]], varied: str) -> list[Level]:
    """Return the curve of the strongest simple baseline, or its single level if the quantity does not affect it.

    It is the same in all runs that were measured on the same data.
    """
    found = [level for levels in runs.values() for level in levels if level.condition.startswith(BASELINE)]
    best = max((level for level in found if not level.varied), key=lambda level: level.values["psnr"], default=None)
    if best is None:
        return []
    own = (curves(levels, baseline=True).get(varied, []) for levels in runs.values() if best in levels)
    return next(filter(None, own), [best])


def _drawn(axis: Any, points: Sequence[Level], metric: str, label: str, **style: Any) -> list[float]:
    """Draw a curve, and return its values."""
    values = [level.values[metric] for level in points]
    axis.plot(_at(points), values, label=label, **style)
    return values


def _drawn_guided(axis: Any, levels: Sequence[Level], varied: str, metric: str) -> list[float]:
    """Draw the curves of the baselines that use the guide, and return their values."""
    values: list[float] = []
    for number, (name, points) in enumerate(guided_curves(levels).get(varied, {}).items()):
        color = _GUIDED_COLORS[number // 2 % len(_GUIDED_COLORS)]
        style = {"marker": ".", "linestyle": (":", "--")[number % 2], "linewidth": 1.2}
        values += _drawn(axis, points, metric, name, color=color, **style)
    return values


def _at(points: Sequence[Level]) -> list[float]:
    return [level.at for level in points if level.at is not None]


def _line(condition: str) -> tuple[str, Any]:
    """Return colour and dashes of a level."""
    severity = condition.rsplit("_", 1)[-1]
    return (COLORS["sky"], _DASHES[severity]) if severity in _DASHES else _LINES.get(condition, _BASELINE)


def _empty(title: str, count: int) -> tuple[Any, Any]:
    """Return a figure with `count` rows and its axes, (count, 2)."""
    # Imported here, because each run imports the callbacks and few runs draw.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2 * count), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    return figure, figure.subplots(count, len(QUALITY), squeeze=False)


def _finish(axis: Any, metric: str, drawn: Sequence[float], points: Sequence[Level]) -> None:
    """Set limits, scales and names of the axes."""
    margin = 0.06 * max(max(drawn) - min(drawn), 1e-3)
    axis.set_ylim(min(drawn) - margin, max(drawn) + margin)
    at = _at(points)
    least = min((value for value in at if value > 0), default=1.0)
    if at[-1] >= _DOUBLINGS * least:
        axis.set_xscale("symlog", base=2, linthresh=least)
        axis.set_xlim(at[0] - 0.3 * least, at[-1] * 1.25)
    axis.set_xticks(at, [f"{value:g}" for value in at])
    axis.minorticks_off()
    axis.set_xlabel(f"{points[0].varied} ({points[0].unit})")
    axis.set_ylabel(CATALOGUE[metric].heading)
    axis.grid(alpha=0.3)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=8, ncols=2)
