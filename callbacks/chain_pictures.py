"""Pictures of a diffusion chain: the estimate of the clean image at each step, with and without guidance."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_thermal.batch import Batch
from lit_thermal.errors import InputError
from lit_thermal.evaluation.baselines import REFERENCE, reference_baseline
from lit_thermal.metrics.catalogue import CATALOGUE
from lit_thermal.metrics.quality import psnr, quantize

from .file_name import file_name
from .run_files import COLORS, write_figure

_PANEL = 1.7
"""Width of a panel in inches, at 100 dots per inch."""
_GAP = 0.1
"""Space between panels in inches."""
_LEFT = 1.1
"""Space for the names of the rows in inches."""
_CAPTION = 0.36
"""Space for the text above a row in inches."""
_CURVE = 2.4
"""Height of the curve in inches."""
_ESTIMATES = 8
"""Largest number of steps of a chain that have a panel."""


class ChainPictures(Callback):
    """Draws the estimates along the diffusion chain and their guided loss, for the first images of each test set.

    Writes `chains/<data set>/<image>.png` into the run's folder. It shows the enlarged input, the estimates of the
    clean image at up to eight steps, the result of `restore` and the target. Below them are their errors, those of the
    chain with guidance, and the guided loss along both chains. These images are restored once more for it. If a chain
    cannot be computed, for example because files of a guidance term are missing, a warning gives the reason, and the
    test continues without pictures.

    A method supports this callback if it has ``chain(batch, guided: bool)``, which returns a list of
    `lit_thermal.generative.chain.ChainStep` in the order of the steps; the steps must be the same in both cases.

    Args:
        images: number of images of each test set that are drawn.

    Raises:
        InputError: `images` is below 1.
    """

    def __init__(self, images: int = 2) -> None:
        if images < 1:
            raise InputError(
                f"ChainPictures needs images of at least 1, not {images}; leave the callback out to draw nothing"
            )
        self.images = images
        self._drawn: dict[str, int] = {}
        self._possible = True

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check that the method has a chain.

        Raises:
            InputError: the method has no chain.
        """
        if not callable(getattr(pl_module, "chain", None)):
            raise InputError(
                f"ChainPictures draws the chain of a diffusion method and {type(pl_module).__name__} has none; "
                "leave the callback out"
            )

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the images of an earlier test."""
        self._drawn.clear()
        self._possible = True

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the images of the batch that are among the first of their set; all ranks restore them."""
        names = getattr(trainer.datamodule, "test_names", None)  # type: ignore[attr-defined]
        dataset = names[dataloader_idx] if names else "test"
        count = min(self.images - self._drawn.get(dataset, 0), len(batch["name"]))
        if count < 1 or not self._possible:
            return
        self._drawn[dataset] = self._drawn.get(dataset, 0) + count
        part: Batch = {key: value[:count] for key, value in batch.items()}  # type: ignore[assignment,index]
        with torch.no_grad():
            restored = pl_module.restore(part)  # type: ignore[operator]
            try:
                chains = {guided: pl_module.chain(part, guided) for guided in (False, True)}  # type: ignore[operator]
            except InputError as error:
                self._possible = False
                rank_zero_warn(f"no chain is drawn: {error}")
                return
            enlarged = reference_baseline(part, pl_module.scale)  # type: ignore[arg-type]
        for index, name in enumerate(part["name"]) if trainer.is_global_zero else ():
            shown = _Shown(
                enlarged=_frame(enlarged, index),
                restored=_frame(restored, index).clamp(0, 1),
                target=_frame(part["hr"], index),
                free=_chain(chains[False], index),
                guided=_chain(chains[True], index),
                steps=part["radiometry"][index].gain if "radiometry" in part else 255.0,
            )
            folder = Path(trainer.default_root_dir, "chains", file_name(dataset))
            figure = _figure(shown, f"{type(pl_module).__name__} on {dataset}: {name}")
            write_figure(folder / f"{file_name(name)}.png", figure)


@dataclass(frozen=True)
class _Chain:
    """The estimates of one image along a chain of n steps, on the CPU."""

    indices: list[int]
    """Indices in the schedule, in the order of the chain."""
    images: Tensor
    """Estimates (n, H, W) in [0, 1]."""
    loss: list[float]
    """Guided loss of each estimate; NaN if it cannot be computed."""


@dataclass(frozen=True)
class _Shown:
    """Versions of one image, each (H, W) in [0, 1], and its two chains."""

    enlarged: Tensor
    restored: Tensor
    target: Tensor
    free: _Chain
    guided: _Chain
    steps: float
    """Number of counts in the file between the values 0 and 1; values are rounded to counts before PSNR is computed."""


def _frame(images: Tensor, index: int) -> Tensor:
    return images[index, 0].detach().float().cpu()


def _chain(steps: list[Any], index: int) -> _Chain:
    """Return the chain of one image of a batch."""
    images = torch.stack([_frame(step.image, index) for step in steps])
    return _Chain([step.t for step in steps], images, [float(step.loss[index]) for step in steps])


def _figure(shown: _Shown, title: str) -> Any:
    """Draw the estimates and errors, and the curve below them.

    Gray covers the 0.5 % to the 99.5 % quantile of the target. The colours of the errors end at the 99.5 % quantile of
    the enlarged input's errors, so that pictures of different runs can be compared.
    """
    # Imported here, because each run imports the callbacks and few runs draw.
    from matplotlib.figure import Figure

    height, width = shown.target.shape
    picked = _spread(len(shown.free.indices))
    columns = len(picked) + 3
    tall = _PANEL * height / width
    row = max(tall, 0.4)
    # Inches from the top to the rows of panels and to the curve.
    tops = [0.3 + _CAPTION, 0.3 + _CAPTION + row + _GAP, 0.3 + 2 * (_CAPTION + row) + _GAP]
    bottom = tops[2] + row + 0.2
    size = _LEFT + columns * (_PANEL + _GAP) + 0.3, bottom + _CURVE + 0.6
    figure = Figure(figsize=size, dpi=100)
    figure.suptitle(title, fontsize=10, y=1 - 0.12 / size[1], va="top", parse_math=False)

    def place(left: float, top: float, wide: float, high: float) -> Any:
        return figure.add_axes((left / size[0], 1 - (top + high) / size[1], wide / size[0], high / size[1]))

    # Enlarged pixels stay squares; pixels of images that are shrunk are averaged.
    smooth = "nearest" if width < 100 * _PANEL else "antialiased"

    def panel(line: int, column: int, image: Tensor, caption: str, style: dict[str, Any]) -> Any:
        axis = place(_LEFT + column * (_PANEL + _GAP), tops[line], _PANEL, tall)
        axis.set_title(caption, fontsize=7, pad=3)
        axis.set_axis_off()
        return axis.imshow(image.numpy(), interpolation=smooth, aspect="auto", **style)

    def decibel(image: Tensor) -> str:
        values, target = (quantize(x[None, None], shown.steps) for x in (image, shown.target))
        return CATALOGUE["psnr"].written(float(psnr(values, target)), unit=True)

    low, high = (float(np.quantile(shown.target.numpy(), q)) for q in (0.005, 0.995))
    error = float(np.quantile((shown.enlarged - shown.target).abs().numpy(), 0.995))
    gray = {"cmap": "gray", "vmin": low, "vmax": max(high, low + 1e-3)}
    heat = {"cmap": "inferno", "vmin": 0.0, "vmax": max(error, 1e-3)}
    free, guided = shown.free, shown.guided
    whole = [(shown.enlarged, REFERENCE), *((free.images[i], f"t = {free.indices[i]}") for i in picked)]
    whole.append((shown.restored, "result"))
    for column, (image, caption) in enumerate(whole):
        panel(0, column, image, f"{caption}\n{decibel(image)}", gray)
        shows = panel(1, column, (image - shown.target).abs(), "", heat)
    panel(0, columns - 1, shown.target, f"target\n{width} x {height}", gray)
    for column, i in enumerate(picked, start=1):
        panel(2, column, (guided.images[i] - shown.target).abs(), decibel(guided.images[i]), heat)
    for line, name in enumerate(("chain without\nguidance", "its errors", "errors of\nthe chain with\nguidance")):
        where = (_LEFT - 0.1) / size[0], 1 - (tops[line] + tall / 2) / size[1]
        figure.text(*where, name, fontsize=8, ha="right", va="center")
    bar = place(size[0] - _PANEL - 0.2, tops[1], 0.15, tops[2] + row - tops[1])
    figure.colorbar(shows, cax=bar, extend="max").ax.tick_params(labelsize=7)
    _curves(place(_LEFT, bottom, size[0] - _LEFT - 0.4, _CURVE), shown, picked)
    return figure


def _spread(count: int) -> list[int]:
    """Return at most `_ESTIMATES` evenly spaced steps, including the first and the last."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, _ESTIMATES)).tolist()})


def _curves(axis: Any, shown: _Shown, picked: list[int]) -> None:
    """Plot the guided loss of both chains over their steps; ticks mark the steps that have a panel."""
    positive = True
    lines = [(shown.free, "without guidance", "orange", "s--"), (shown.guided, "with guidance", "blue", "o-")]
    for chain, label, color, style in lines:
        points = [(step, loss) for step, loss in enumerate(chain.loss) if np.isfinite(loss)]
        positive = positive and all(loss > 0 for _, loss in points)
        if points:
            last = f"{label}: {points[-1][1]:.4g} at the end"
            axis.plot(*zip(*points, strict=True), style, color=COLORS[color], markersize=4, linewidth=1.4, label=last)
    axis.set_xlabel("step of the chain, by its index t of the schedule")
    axis.set_ylabel("guided loss")
    axis.set_xticks(picked, [str(shown.free.indices[i]) for i in picked])
    axis.set_xlim(-0.5, len(shown.free.loss) - 0.5)
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend(fontsize=8)
        if positive:
            axis.set_yscale("log")
    else:
        axis.text(0.5, 0.5, "the guided loss cannot be computed", transform=axis.transAxes, ha="center", va="center")
