"""What is left of a guided method when one camera is missing or looks beside the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch import Callback

from lit_thermal.metrics.levels import COLUMNS, Level
from lit_thermal.metrics.report import compare
from lit_thermal.metrics.scores import Scores

from .run_files import COLORS, write_figure, write_table

_LINES = {
    "complete": (COLORS["black"], "-"),
    "thermal_only": (COLORS["orange"], "--"),
    "guide_only": (COLORS["pink"], "-."),
    "shuffled_guide": (COLORS["green"], (0, (5, 1, 1, 1, 1, 1))),
}
"""Colour and dashes of the conditions that are a level and not a point of the curve."""
_DASHES = {"light": (0, (1, 1)), "medium": (0, (3, 2)), "strong": (0, (6, 3))}
"""Dashes of misalignments by their severity."""
_BASELINE = (COLORS["yellow"], ":")
_METRICS = {"psnr": "PSNR in dB", "ssim": "SSIM"}
_FAR = 1.5
"""A level farther from the rest than so many times the rest's span is told and not drawn."""


class RobustnessCurve(Callback):
    """After a test under several conditions: PSNR and SSIM against the displacement of the guide, and what is missing.

    Writes `robustness.csv` and draws `robustness.png` into the run's folder, or `robustness_<name>` for each of several
    data sets; the overlays `test/robustness.yaml` and `test/misalignment.yaml` give the conditions. The picture needs
    the guide at two displacements or more. With one condition nothing happens. The verb `curves` draws several runs in
    one picture.
    """

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the table and draw the curve from the scores that the method gathered."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        conditions: Sequence[Any] = getattr(data, "conditions", ())
        if not trainer.is_global_zero or len(conditions) < 2:
            return
        scores: Scores = pl_module.scores  # type: ignore[assignment]
        # All conditions of one data set stand one after the other.
        names = data.test_names
        sets = [names[first : first + len(conditions)] for first in range(0, len(names), len(conditions))]
        for datasets in sets:
            levels = [
                _level(scores, name, condition.suffix or "complete", getattr(condition, "pixels", None))
                for name, condition in zip(datasets, conditions, strict=True)
            ]
            baseline = _strongest(scores, datasets)
            base = datasets[0].removesuffix(f"_{conditions[0].suffix}")
            file = Path(trainer.default_root_dir) / (f"robustness_{base}.csv" if len(sets) > 1 else "robustness.csv")
            rows = [*levels, *([baseline] if baseline else [])]
            write_table(file, COLUMNS, [(r.condition, *_row(r)) for r in rows])
            if sum(level.pixels is not None for level in levels) > 1:
                figure = _figure(levels, baseline, scores.methods[0], datasets[0])
                write_figure(file.with_suffix(".png"), figure)


def write_runs(file: Path, runs: Mapping[str, Sequence[Level]]) -> None:
    """Draw quality against the displacement of the guide for several runs, and write the table of it beside.

    Args:
        file: the picture, a PNG; the table has its name and the suffix .csv.
        runs: what each run, by the name it has in the picture, was measured to.
    """
    rows = [(run, level.condition, *_row(level)) for run, levels in runs.items() for level in levels]
    write_table(file.with_suffix(".csv"), ("run", *COLUMNS), rows)
    write_figure(file, _figure_of_runs(runs))


def _row(level: Level) -> tuple[Any, ...]:
    pixels = "" if level.pixels is None else level.pixels
    return (pixels, *(level.values[metric] for metric in _METRICS), level.images)


def _level(scores: Scores, dataset: str, condition: str, pixels: int | None = None, method: str | None = None) -> Level:
    clips = scores.clips()[dataset][method or scores.methods[0]]["all"]
    values = {m: sum(clip[m] for clip in clips.values()) / len(clips) for m in _METRICS}
    return Level(condition, pixels, values, len(clips))


def _strongest(scores: Scores, datasets: Sequence[str]) -> Level | None:
    """The strongest simple baseline of the first condition that has baselines."""
    compared = compare(scores)
    for dataset in datasets:
        if dataset in compared:
            name = compared[dataset].strongest
            return _level(scores, dataset, f"baseline: {name}", method=name)
    return None


def _figure(levels: Sequence[Level], baseline: Level | None, method: str, dataset: str) -> Any:
    """PSNR and SSIM side by side, one legend below."""
    points = _curve(levels)
    flat = [level for level in levels if level.pixels is None] + ([baseline] if baseline else [])
    figure = _empty(f"{method} on {dataset} ({points[0].images} images): displacement of the guide")
    for axis, metric in zip(figure.subplots(1, 2), _METRICS, strict=True):
        curve = [level.values[metric] for level in points]
        label = "guide displaced"
        axis.plot(_pixels(points), curve, "o-", color=COLORS["blue"], linewidth=2, label=label, zorder=3)
        near = [*curve, *(level.values[metric] for level in flat if level.condition != "guide_only")]
        reach = _FAR * max(max(near) - min(near), 1e-3)
        drawn = list(curve)
        for level in flat:
            value = level.values[metric]
            color, dashes = _line(level.condition)
            name = "both cameras" if level.condition == "complete" else level.condition.replace("_", " ")
            text = f"{name}: {value:.2f} dB" if metric == "psnr" else f"{name}: {value:.4f}"
            if min(near) - reach <= value <= max(near) + reach:
                drawn.append(value)
                axis.axhline(value, color=color, linestyle=dashes, linewidth=1.5, label=text)
            else:
                axis.plot([], [], color=color, linestyle=dashes, label=f"{text} (off the axis)")
        _finish(axis, metric, drawn, _pixels(points))
    return figure


def _figure_of_runs(runs: Mapping[str, Sequence[Level]]) -> Any:
    """PSNR and SSIM side by side: a colour a run, its curve full and its level without a guide dashed."""
    colors = [color for name, color in COLORS.items() if name != "black"]
    images = next(iter(runs.values()))[0].images
    figure = _empty(f"displacement of the guide ({images} images); dashed: without a guide")
    pixels = sorted({pixels for levels in runs.values() for pixels in _pixels(_curve(levels))})
    for axis, metric in zip(figure.subplots(1, 2), _METRICS, strict=True):
        drawn = []
        for number, (run, levels) in enumerate(runs.items()):
            points, color = _curve(levels), colors[number % len(colors)]
            curve = [level.values[metric] for level in points]
            axis.plot(_pixels(points), curve, "o-", color=color, linewidth=2, label=run, zorder=3)
            alone = [level.values[metric] for level in levels if level.condition == "thermal_only"]
            for value in alone:
                axis.axhline(value, color=color, linestyle="--", linewidth=1.5)
            drawn += curve + alone
        for name, value in _baselines(runs, metric).items():
            drawn.append(value)
            axis.axhline(value, color=COLORS["black"], linestyle=":", linewidth=1.5, label=name)
        _finish(axis, metric, drawn, pixels)
    return figure


def _baselines(runs: Mapping[str, Sequence[Level]], metric: str) -> dict[str, float]:
    """The strongest simple baseline of all runs, which is the same in all that were measured on the same data."""
    found = [level for levels in runs.values() for level in levels if level.condition.startswith("baseline: ")]
    best = max(found, key=lambda level: level.values["psnr"], default=None)
    return {} if best is None else {best.condition.removeprefix("baseline: "): best.values[metric]}


def _curve(levels: Sequence[Level]) -> list[Level]:
    """The points of the curve by their displacement."""
    return sorted((level for level in levels if level.pixels is not None), key=lambda level: level.pixels or 0)


def _pixels(points: Sequence[Level]) -> list[int]:
    return [level.pixels for level in points if level.pixels is not None]


def _line(condition: str) -> tuple[str, Any]:
    """Colour and dashes of a level."""
    severity = condition.rsplit("_", 1)[-1]
    return (COLORS["sky"], _DASHES[severity]) if severity in _DASHES else _LINES.get(condition, _BASELINE)


def _empty(title: str) -> Any:
    # Imported here, because every run imports the callbacks and few draw.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure


def _finish(axis: Any, metric: str, drawn: Sequence[float], pixels: Sequence[int]) -> None:
    """Scale and name the axes."""
    margin = 0.06 * max(max(drawn) - min(drawn), 1e-3)
    axis.set_ylim(min(drawn) - margin, max(drawn) + margin)
    axis.set_xscale("symlog", base=2, linthresh=1)
    axis.set_xticks(pixels, [str(p) for p in pixels])
    axis.set_xlim(pixels[0] - 0.3, pixels[-1] * 1.25)
    axis.minorticks_off()
    axis.set_xlabel("displacement of the guide in pixels of the target")
    axis.set_ylabel(_METRICS[metric])
    axis.grid(alpha=0.3)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=8, ncols=2)
