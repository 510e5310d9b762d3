"""Learning curves: PSNR, SSIM and loss terms over the training steps, as a picture and as a table."""

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch import Callback
from torch import Tensor

from lit_thermal.metrics.catalogue import QUALITY

from .run_files import COLORS, write_figure, write_table

_TITLES = {metric.name: metric.heading for metric in QUALITY}
"""Metrics with their own axes; all other names that begin with `train/` are drawn as loss terms."""


class LearningCurves(Callback):
    """Writes `curves.csv` and draws `curves.png` into the run's folder after each validation.

    It collects the values that a method logs as `train/<term>` at each step and as `val/<metric>`. A training value is
    the mean over the steps since the last validation, in the first process if there are several; a value that a step
    does not log counts as unchanged. The curves are saved in the checkpoint, so that a resumed training continues them.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, float]] = []
        self._sums: dict[str, tuple[Tensor | float, int]] = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the logged values to the sums."""
        for name, value in trainer.callback_metrics.items():
            if name.startswith("train/") and not name.endswith(("_step", "_epoch")):
                total, count = self._sums.get(name, (0.0, 0))
                # The sum stays on the device: reading it would wait for the end of the step.
                self._sums[name] = (total + value.detach().double(), count + 1)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add a row and draw all rows."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        row = {"step": float(trainer.global_step)}
        if math.isfinite(trainer.num_training_batches):
            row["epoch"] = (trainer.fit_loop.total_batch_idx + 1) / trainer.num_training_batches
        row |= {name: float(total) / count for name, (total, count) in self._sums.items()}
        row |= {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        self._rows.append(row)
        self._sums = {}
        if trainer.is_global_zero:
            folder = Path(trainer.default_root_dir)
            head = ["step", "epoch", *dict.fromkeys(n for r in self._rows for n in r if "/" in n)]
            values = ([int(r["step"]), *(r.get(name, "") for name in head[1:])] for r in self._rows)
            write_table(folder / "curves.csv", head, values)
            write_figure(folder / "curves.png", _figure(self._rows, type(pl_module).__name__))

    def state_dict(self) -> dict[str, Any]:
        """Return the rows, and the sums since the last row."""
        return {"rows": self._rows, "sums": {name: (float(total), n) for name, (total, n) in self._sums.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the curves from a checkpoint."""
        self._rows, self._sums = list(state_dict["rows"]), dict(state_dict["sums"])


def _figure(rows: list[dict[str, float]], method: str) -> Any:
    """Draw PSNR and SSIM of training and validation above, the loss terms below."""
    # Imported here, because each run imports the callbacks and few draw in their first minutes.
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for row in rows for name in row if "/" in name))
    metrics = [m for m in _TITLES if f"train/{m}" in names or f"val/{m}" in names]
    terms = [n for n in names if n.startswith("train/") and n.removeprefix("train/") not in _TITLES]
    layout = [metrics] * bool(metrics) + [["terms"] * max(1, len(metrics))] * bool(terms)
    figure = Figure(figsize=(10, 3.6 * max(1, len(layout))), dpi=100, layout="constrained")
    if not layout:
        return figure
    axes = figure.subplot_mosaic(layout)  # type: ignore[arg-type]
    figure.suptitle(f"{method}: training (mean since the last validation) and validation", fontsize=11)
    for metric in metrics:
        _line(axes[metric], rows, f"train/{metric}", "training", COLORS["blue"], "--")
        _line(axes[metric], rows, f"val/{metric}", "validation", COLORS["orange"], "-")
        axes[metric].set_ylabel(_TITLES[metric])
    colors = list(COLORS.values())
    for index, name in enumerate(terms):
        style = ("-", "--", ":", "-.")[index // len(colors) % 4]
        _line(axes["terms"], rows, name, name.removeprefix("train/"), colors[index % len(colors)], style)
    if terms:
        axes["terms"].set_ylabel("training: loss terms and other values")
        if all(row[name] > 0 for row in rows for name in terms if name in row):
            axes["terms"].set_yscale("log")
    for axis in axes.values():
        axis.set_xlabel("training steps")
        axis.grid(alpha=0.3)
        if len(axis.lines) > 2:
            axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        elif axis.lines:
            axis.legend(fontsize=8)
        _epochs_above(axis, rows)
    return figure


def _line(axis: Any, rows: list[dict[str, float]], name: str, label: str, color: str, style: str) -> None:
    points = [(row["step"], row[name]) for row in rows if name in row]
    if points:
        axis.plot(*zip(*points, strict=True), style, color=color, label=label, marker="o", markersize=3, linewidth=1.4)


def _epochs_above(axis: Any, rows: list[dict[str, float]]) -> None:
    """Draw a second scale in epochs, if all epochs have the same number of steps."""
    per_epoch = [row["step"] / row["epoch"] for row in rows if row.get("epoch") and row["step"]]
    if per_epoch and max(per_epoch) <= 1.01 * min(per_epoch):
        steps = per_epoch[-1]
        axis.secondary_xaxis("top", functions=(lambda x: x / steps, lambda x: x * steps)).set_xlabel("epochs")
