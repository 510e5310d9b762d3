"""Pictures of what was found in each row of a table, side by side: right green, wrong red, missed dashed."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lit_thermal.data.class_masks import IGNORED
from lit_thermal.evaluation.detection import judge_boxes
from lit_thermal.evaluation.detectors import Found

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT, WRONG, MISSED = "#21c063", "#ff4136", "#ffd23f"
_PANEL = 3.4
"""Inches of a panel's longer side."""
_COLUMNS = 4


def draw_boxes(
    file: Path,
    images: Mapping[str, Tensor],
    found: Mapping[str, Found],
    truth: tuple[Tensor, Tensor],
    classes: Sequence[str],
    score: float,
    masks: Mapping[str, Tensor] | None = None,
    title: str = "",
) -> None:
    """Draw each row's boxes over its image: right ones green, wrong ones red, missed objects dashed.

    Args:
        file: PNG that is written.
        images: row to its image (3, H, W) in [0, 1].
        found: row to what was found in it.
        truth: boxes (M, 4) and labels (M,) of the objects.
        classes: words of the labels.
        score: boxes of a lower score are not drawn.
        masks: row to masks (words, H, W) bool that are laid over.
        title: above all.
    """
    figure, panels = _panels(list(images.values()), len(images), title)
    for axes, (row, image) in zip(panels, images.items(), strict=True):
        _show(axes, image)
        kept = found[row].scores >= score
        own = Found(found[row].boxes[kept], found[row].scores[kept], found[row].labels[kept])
        right, seen = judge_boxes(own, truth)
        for mask in (masks or {}).get(row, []):
            _lay(axes, mask.numpy(), RIGHT)
        for box, label, value, good in zip(own.boxes, own.labels, own.scores, right, strict=True):
            text = f"{classes[int(label)]} {float(value):.2f}"
            _box(axes, box.tolist(), RIGHT if good else WRONG, text)
        for box, label, known in zip(*truth, seen, strict=True):
            if not known:
                _box(axes, box.tolist(), MISSED, classes[int(label)], dashed=True)
        counts = f"{int(right.sum())} right, {int((~right).sum())} wrong, {int((~seen).sum())} missed"
        axes.set_title(f"{row}: {counts}", fontsize=9)
    _save(figure, file)


def draw_classes(
    file: Path,
    images: Mapping[str, Tensor],
    predicted: Mapping[str, Tensor],
    truth: Tensor,
    classes: Sequence[str],
    title: str = "",
) -> None:
    """Draw the classes of each row over its image in colours, wrong pixels red, and the truth beside.

    Args:
        file: PNG that is written.
        images: row to its image (3, H, W) in [0, 1].
        predicted: row to its classes (H, W).
        truth: (H, W).
        classes: their words.
        title: above all.
    """
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    colours = np.array(colormaps["tab20"].colors)  # type: ignore[attr-defined]
    figure, panels = _panels([*images.values(), next(iter(images.values()))], len(images) + 1, title)
    shown = {row: (image, predicted[row]) for row, image in images.items()}
    rows = [*shown.items(), ("masks", (list(images.values())[-1], truth))]
    for axes, (row, (image, levels)) in zip(panels, rows, strict=True):
        _show(axes, image)
        known = (levels != IGNORED).numpy()
        tint = np.zeros((*levels.shape, 4))
        tint[..., :3] = colours[levels.numpy() % len(colours)]
        tint[..., 3] = 0.45 * known
        axes.imshow(tint, interpolation="nearest")
        if row != "masks":
            wrong = ((levels != truth) & (truth != IGNORED)).numpy()
            _lay(axes, wrong, WRONG, 0.55)
            share = 1 - wrong.sum() / max(1, int((truth != IGNORED).sum()))
            axes.set_title(f"{row}: {100 * share:.1f} % of pixels right", fontsize=9)
        else:
            axes.set_title("masks", fontsize=9)
    there = sorted({int(v) for levels in (truth, *predicted.values()) for v in levels.unique()} - {IGNORED})
    patches = [Patch(color=colours[k % len(colours)], label=classes[k]) for k in there]
    patches.append(Patch(color=WRONG, label="wrong"))
    figure.legend(handles=patches, loc="outside lower center", ncols=8, fontsize=8, frameon=False)
    _save(figure, file)


def _panels(images: Sequence[Tensor], count: int, title: str) -> tuple["Figure", list["Axes"]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(count, _COLUMNS)
    lines = -(-count // columns)
    height, width = images[0].shape[-2:]
    unit = _PANEL / max(height, width)
    size = columns * width * unit + 0.3, lines * (height * unit + 0.35) + 0.8
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    panels = [figure.add_subplot(lines, columns, place + 1) for place in range(count)]
    return figure, panels


def _show(axes: "Axes", image: Tensor) -> None:
    axes.imshow(image.clamp(0, 1).permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _box(axes: "Axes", box: Sequence[float], colour: str, text: str, dashed: bool = False) -> None:
    from matplotlib.patches import Rectangle

    left, top, right, bottom = box
    style: dict[str, Any] = {"linestyle": (0, (3, 2))} if dashed else {}
    # A pixel's centre is at a whole number here, and at a half in boxes.
    corner = left - 0.5, top - 0.5
    axes.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.6, **style))
    paper = {"facecolor": "black", "alpha": 0.55, "pad": 0.6, "edgecolor": "none"}
    if dashed:
        axes.text(left - 0.5, bottom - 0.5, text, color=colour, fontsize=6, va="top", bbox=paper, clip_on=True)
    else:
        axes.text(left - 0.5, top - 1, text, color=colour, fontsize=6, va="bottom", bbox=paper, clip_on=True)


def _lay(axes: "Axes", mask: np.ndarray, colour: str, strength: float = 0.35) -> None:
    from matplotlib.colors import to_rgb

    tint = np.zeros((*mask.shape, 4))
    tint[..., :3] = to_rgb(colour)
    tint[..., 3] = strength * mask
    axes.imshow(tint, interpolation="nearest")


def _save(figure: "Figure", file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.part")
    figure.savefig(aside, format="png")
    os.replace(aside, file)
