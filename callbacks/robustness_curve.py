"""What is left of a guided method when one camera is missing or looks beside the other."""

from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
from lightning.pytorch import Callback

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
_BASELINE = (COLORS["yellow"], ":")
_METRICS = {"psnr": "PSNR in dB", "ssim": "SSIM"}
_FAR = 1.5
"""A level farther from the rest than so many times the rest's span is told and not drawn."""


class _Level(NamedTuple):
    """How well a method does on one condition of a test set."""

    condition: str
    pixels: int | None
    """Displacement of the guide, where the condition is one."""
    values: dict[str, float]
    images: int


class RobustnessCurve(Callback):
    """After a test under several conditions: PSNR and SSIM against the displacement of the guide, and what is missing.

    Writes `robustness.csv` and draws `robustness.png` into the run's folder; the overlay `test/robustness.yaml` gives
    the conditions. The picture needs the guide at two displacements or more. With one condition nothing happens.
    """

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the table and draw the curve from the scores that the method gathered."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        conditions = getattr(data, "conditions", ())
        if not trainer.is_global_zero or len(conditions) < 2:
            return
        scores: Scores = pl_module.scores  # type: ignore[assignment]
        levels = [
            _level(scores, name, condition.suffix or "complete", getattr(condition, "pixels", None))
            for name, condition in zip(data.test_names, conditions, strict=True)
        ]
        baseline = _strongest(scores, data.test_names)
        folder = Path(trainer.default_root_dir)
        rows = [*levels, *([baseline] if baseline else [])]
        write_table(
            folder / "robustness.csv",
            ("condition", "pixels", "psnr", "ssim", "images"),
            [
                (r.condition, "" if r.pixels is None else r.pixels, *(r.values[m] for m in _METRICS), r.images)
                for r in rows
            ],
        )
        if sum(level.pixels is not None for level in levels) > 1:
            write_figure(folder / "robustness.png", _figure(levels, baseline, scores.methods[0], data.test_names[0]))


def _level(
    scores: Scores, dataset: str, condition: str, pixels: int | None = None, method: str | None = None
) -> _Level:
    clips = scores.clips()[dataset][method or scores.methods[0]]["all"]
    values = {m: sum(clip[m] for clip in clips.values()) / len(clips) for m in _METRICS}
    return _Level(condition, pixels, values, len(clips))


def _strongest(scores: Scores, datasets: list[str]) -> _Level | None:
    """The strongest simple baseline of the first condition that has baselines."""
    compared = compare(scores)
    for dataset in datasets:
        if dataset in compared:
            name = compared[dataset].strongest
            return _level(scores, dataset, f"baseline: {name}", method=name)
    return None


def _figure(levels: list[_Level], baseline: _Level | None, method: str, dataset: str) -> Any:
    """PSNR and SSIM side by side, one legend below."""
    # Imported here, because every run imports the callbacks and few draw.
    from matplotlib.figure import Figure

    points = sorted((level.pixels, level) for level in levels if level.pixels is not None)
    flat = [level for level in levels if level.pixels is None] + ([baseline] if baseline else [])
    figure = Figure(figsize=(11, 5.2), dpi=100, layout="constrained")
    figure.suptitle(f"{method} on {dataset} ({points[0][1].images} images): displacement of the guide", fontsize=11)
    for axis, (metric, title) in zip(figure.subplots(1, 2), _METRICS.items(), strict=True):
        pixels = [p for p, _ in points]
        curve = [level.values[metric] for _, level in points]
        label = "guide displaced"
        axis.plot(pixels, curve, "o-", color=COLORS["blue"], linewidth=2, label=label, zorder=3)
        near = [*curve, *(level.values[metric] for level in flat if level.condition != "guide_only")]
        reach = _FAR * max(max(near) - min(near), 1e-3)
        drawn = list(curve)
        for level in flat:
            value = level.values[metric]
            color, dashes = _LINES.get(level.condition, _BASELINE)
            name = "both cameras" if level.condition == "complete" else level.condition.replace("_", " ")
            text = f"{name}: {value:.2f} dB" if metric == "psnr" else f"{name}: {value:.4f}"
            if min(near) - reach <= value <= max(near) + reach:
                drawn.append(value)
                axis.axhline(value, color=color, linestyle=dashes, linewidth=1.5, label=text)
            else:
                axis.plot([], [], color=color, linestyle=dashes, label=f"{text} (off the axis)")
        margin = 0.06 * max(max(drawn) - min(drawn), 1e-3)
        axis.set_ylim(min(drawn) - margin, max(drawn) + margin)
        axis.set_xscale("symlog", base=2, linthresh=1)
        axis.set_xticks(pixels, [str(p) for p in pixels])
        axis.set_xlim(pixels[0] - 0.3, pixels[-1] * 1.25)
        axis.minorticks_off()
        axis.set_xlabel("displacement of the guide in pixels of the target")
        axis.set_ylabel(title)
        axis.grid(alpha=0.3)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=8, ncols=2)
    return figure
