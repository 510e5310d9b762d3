"""Pictures of the detections in each row of a table, side by side: correct in green, wrong in red, missed dashed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lit_thermal.data.formats.class_masks import IGNORED
from lit_thermal.downstream.detection import judge_boxes
from lit_thermal.downstream.detectors import Found
from lit_thermal.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT, WRONG, MISSED = "#21c063", "#ff4136", "#ffd23f"
_PANEL = 3.4
"""Length of a panel's longer side in inches."""
_COLUMNS = 5
_COLOURS = (
    *("#4e79a7", "#f28e2b", "#76b7b2", "#edc948", "#b07aa1", "#59a14f", "#9c755f", "#d4a6c8", "#1f4e79"),
    *("#a0cbe8", "#8cd17d", "#f1ce63", "#79706e", "#d7b5a6", "#3b9c9c", "#7f5fb5"),
)
"""Colours of classes; none of them is the red of `WRONG`."""


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
        file: PNG to write.
        images: image (3, H, W) in [0, 1] by row, the target last.
        found: detections by row.
        truth: boxes (M, 4) and labels (M,) of the objects.
        classes: names of the classes that labels count.
        score: lowest score of a box that is drawn.
        masks: masks (words, H, W) bool to overlay, by row.
        title: title of the picture.
    """
    figure, panels = _panels(list(images.values()), len(images), title)
    limits = _limits(list(images.values())[-1])
    for axes, (row, image) in zip(panels, images.items(), strict=True):
        _show(axes, image, limits)
        kept = found[row].scores >= score
        own = Found(found[row].boxes[kept], found[row].scores[kept], found[row].labels[kept])
        right, matched = judge_boxes(own, truth)
        for word, mask in enumerate((masks or {}).get(row, [])):
            _tint(axes, mask.numpy(), [_COLOURS[word % len(_COLOURS)]] * 2)
        for box, label, value, good in zip(own.boxes, own.labels, own.scores, right, strict=True):
            text = f"{classes[int(label)]} {float(value):.2f}"
            _box(axes, box.tolist(), RIGHT if good else WRONG, text)
        for box, label, known in zip(*truth, matched, strict=True):
            if not known:
                _box(axes, box.tolist(), MISSED, classes[int(label)], dashed=True)
        counts = f"{int(right.sum())} right, {int((~right).sum())} wrong, {int((~matched).sum())} missed"
        axes.set_title(f"{row}: {counts}", fontsize=9, parse_math=False)
    _save(figure, file)


def draw_classes(
    file: Path,
    images: Mapping[str, Tensor],
    predicted: Mapping[str, Tensor],
    truth: Tensor,
    classes: Sequence[str],
    title: str = "",
) -> None:
    """Draw the classes of each row over its image, outline wrong pixels in red, and draw the true classes beside them.

    Args:
        file: PNG to write.
        images: image (3, H, W) in [0, 1] by row, the target last.
        predicted: class of each pixel (H, W) by row.
        truth: true class of each pixel (H, W).
        classes: names of the classes.
        title: title of the picture.
    """
    from matplotlib.patches import Patch

    figure, panels = _panels(list(images.values()), len(images) + 1, title)
    target = list(images.values())[-1]
    labelled = truth != IGNORED
    colours = [_COLOURS[k % len(_COLOURS)] for k in range(len(classes))]
    shown = [(row, image, predicted[row]) for row, image in images.items()] + [("masks", target, truth)]
    for axes, (row, image, levels) in zip(panels, shown, strict=True):
        _show(axes, image, _limits(target))
        _tint(axes, levels.numpy(), colours)
        wrong = ((levels != truth) & labelled).numpy()
        if wrong.any():
            axes.contour(wrong, levels=[0.5], colors=[WRONG], linewidths=0.9)
        share = 1 - wrong.sum() / max(1, int(labelled.sum()))
        axes.set_title(
            row if row == "masks" else f"{row}: {100 * share:.1f} % of pixels right", fontsize=9, parse_math=False
        )
    there = sorted({int(v) for levels in (truth, *predicted.values()) for v in levels.unique()} - {IGNORED})
    patches = [Patch(color=colours[k], label=classes[k]) for k in there]
    patches.append(Patch(fill=False, edgecolor=WRONG, label="wrong"))
    figure.legend(handles=patches, loc="outside lower center", ncols=8, fontsize=8, frameon=False)
    _save(figure, file)


def _panels(images: Sequence[Tensor], count: int, title: str) -> tuple["Figure", list["Axes"]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = -(-count // _COLUMNS)
    columns = -(-count // lines)
    height, width = images[0].shape[-2:]
    unit = _PANEL / max(height, width)
    size = columns * width * unit + 0.3, lines * (height * unit + 0.35) + 0.8
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10, parse_math=False)
    panels = [figure.add_subplot(lines, columns, place + 1) for place in range(count)]
    return figure, panels


def _limits(target: Tensor) -> tuple[float, float]:
    """Return the values that are drawn black and white in the thermal pictures of a scene."""
    low, high = np.quantile(target[0].cpu().numpy(), (0.005, 0.995)).tolist()
    return low, max(high, low + 1 / 255)


def _show(axes: "Axes", image: Tensor, limits: tuple[float, float]) -> None:
    """Draw an image; a thermal one is scaled to the range of its target."""
    low, high = limits if torch.equal(image[0], image[1]) else (0.0, 1.0)
    shown = ((image - low) / (high - low)).clamp(0, 1)
    axes.imshow(shown.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
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


def _tint(axes: "Axes", levels: np.ndarray, colours: Sequence[str], strength: float = 0.45) -> None:
    """Overlay class colours on an image; a mask (bool) takes the second colour, `IGNORED` none."""
    from matplotlib.colors import to_rgb

    table = np.zeros((256, 4))
    table[: len(colours), :3] = [to_rgb(colour) for colour in colours]
    table[: len(colours), 3] = strength
    if levels.dtype == bool:
        table[0, 3] = 0
    axes.imshow(table[levels.astype(int)], interpolation="nearest")


def _save(figure: "Figure", file: Path) -> None:
    from matplotlib.text import Text

    # Names are never formulas, even if they contain signs of formulas.
    for found in figure.findobj(Text):
        found.set_parse_math(False)  # type: ignore[attr-defined]
    with replacing(file) as aside:
        figure.savefig(aside, format="png")
