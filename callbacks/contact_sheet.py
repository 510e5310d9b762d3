"""A contact sheet of a restored clip or image: guide, input, baseline, output, target, errors and temporal profiles."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lit_thermal.batch import is_observed
from lit_thermal.metrics.catalogue import CATALOGUE
from lit_thermal.metrics.quality import psnr, quantize, ssim
from lit_thermal.metrics.video import temporal_profile

_PANEL = 2.1
"""Width of a panel in inches, at 100 dots per inch."""
_CAPTION = 0.5
"""Height of the text above a panel in inches."""
_LARGE = 256
"""Frames with a longer side than this, in pixels, get a detail row."""
_DETAIL = 160
"""Longest side of the detail, in pixels of the target."""


@dataclass(frozen=True)
class Sample:
    """A clip (T > 1) or image (T = 1) with its restoration; values in [0, 1].

    Attributes:
        name: name of the clip or file.
        lr: (X, h, w) input frames; None if the thermal camera is missing.
        lr_time: (X,) times of the input frames.
        baseline: (T, H, W) frames of the baseline; None without input.
        restored: (T, H, W) frames of the method.
        target: (T, H, W) target frames.
        time: (T,) times of the target frames, in input frames.
        steps: number of counts in the file between the values 0 and 1; values are rounded to counts before PSNR and
            SSIM are computed.
        guide: (3, H, W) visible image, or None.
    """

    name: str
    lr: Tensor | None
    lr_time: Tensor
    baseline: Tensor | None
    restored: Tensor
    target: Tensor
    time: Tensor
    steps: float
    guide: Tensor | None = None


def draw(sample: Sample, title: str, baseline: str, method: str) -> np.ndarray:
    """Draw the sheet of a sample.

    A video is shown by an observed and an interpolated frame from the middle of the clip and, below them, by the image
    row that changes most, plotted over time. Frames that are too large for a panel get another row with a detail where
    the baseline has the largest error. Gray covers the 0.5 % to the 99.5 % quantile of the target. The colours of the
    errors end at the 99.5 % quantile of the baseline's errors, so that sheets of different epochs can be compared. A
    visible image comes first. Without thermal input there is no baseline, and the method's own errors set the colours.

    Args:
        sample: sample to draw.
        title: first line of the sheet.
        baseline: name of the baseline.
        method: name of the method.

    Returns:
        (height, width, 3) uint8.
    """
    # Imported here, because each run imports the callbacks and few draw in their first minutes.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    error = (_reference(sample) - sample.target).abs()
    low, high = (_quantile(sample.target, q) for q in (0.005, 0.995))
    styles: dict[str, dict[str, Any]] = {
        "gray": {"cmap": "gray", "vmin": low, "vmax": max(high, low + 1e-3)},
        "heat": {"cmap": "inferno", "vmin": 0.0, "vmax": max(_quantile(error, 0.995), 1e-3)},
        "color": {},
    }
    rows = [_frame_row(sample, t, baseline, method) for t in _pick_frames(sample.time)]
    if max(sample.target.shape[-2:]) > _LARGE:
        rows.append(_detail_row(sample, _pick_frames(sample.time)[-1], method))
    if len(sample.time) > 1:
        rows.append(_profile_row(sample, method))

    heights = [_PANEL * row.aspect + _CAPTION for row in rows]
    columns = len(rows[0].panels)
    figure = Figure(figsize=(columns * _PANEL + 0.8, sum(heights) + 0.7), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    figure.suptitle(
        f"{title}\ngray from {low:.3f} to {high:.3f} of the range in the file", fontsize=9, parse_math=False
    )
    for row, line in zip(axes, rows, strict=True):
        for axis, (image, caption, style) in zip(row, line.panels, strict=True):
            # Enlarged pixels stay squares; pixels of images that are shrunk are averaged.
            smooth = "nearest" if image.shape[-1] < 100 * _PANEL else "antialiased"
            pixels = image.movedim(0, -1) if style == "color" else image
            axis.imshow(pixels.numpy(), aspect=line.stretch, interpolation=smooth, **styles[style])
            axis.set_title(caption, fontsize=8)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(line.label, fontsize=8)
    bar = figure.colorbar(axes[0, -1].images[0], ax=axes[:, -1], extend="max", fraction=0.08)
    bar.ax.tick_params(labelsize=7)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


Style = Literal["gray", "heat", "color"]


class _Row(NamedTuple):
    """A row of panels with captions and styles: guide, input, baseline, output, target, errors of both."""

    label: str
    panels: list[tuple[Tensor, str, Style]]
    aspect: float
    """Height over width of a panel."""
    stretch: Literal["equal", "auto"] = "equal"


def _frame_row(sample: Sample, t: int, baseline: str, method: str) -> _Row:
    """Return the row of a whole frame, with PSNR and SSIM."""
    target = sample.target[t]
    height, width = target.shape
    time = float(sample.time[t])
    observed = bool(is_observed(sample.time[t]))
    before = "input" if observed else "last input before"
    panels: list[tuple[Tensor, str, Style]] = []
    if sample.guide is not None:
        panels.append((sample.guide, f"guide\n{sample.guide.shape[-1]} x {sample.guide.shape[-2]}", "color"))
    if sample.lr is not None and sample.baseline is not None:
        panels += [
            (sample.lr[_input_at(sample, t)], f"{before}\n{sample.lr.shape[-1]} x {sample.lr.shape[-2]}", "gray"),
            (sample.baseline[t], f"{baseline}\n{_score(sample, sample.baseline, t)}", "gray"),
        ]
    panels += [
        (sample.restored[t], f"{method}\n{_score(sample, sample.restored, t)}", "gray"),
        (target, f"target\n{width} x {height}", "gray"),
    ]
    if sample.baseline is not None:
        panels.append(((sample.baseline[t] - target).abs(), "error of the baseline", "heat"))
    panels.append(((sample.restored[t] - target).abs(), f"error of {method}", "heat"))
    kind = "observed" if observed else "interpolated"
    label = f"{kind}, t = {time:g}" if len(sample.time) > 1 else "" if sample.lr is not None else "no thermal input"
    return _Row(label, panels, height / width)


def _detail_row(sample: Sample, t: int, method: str) -> _Row:
    """Return the detail row: a part of a frame where the baseline has its largest error, enlarged to a panel."""
    scale = 1 if sample.lr is None else sample.target.shape[-1] // sample.lr.shape[-1]
    error = (_reference(sample)[t] - sample.target[t]).square()
    height, width = (min(_DETAIL, n) // scale * scale for n in error.shape)
    means = F.avg_pool2d(error[None, None], (height, width), stride=scale)[0, 0]
    top, left = (int(i) * scale for i in divmod(int(means.argmax()), means.shape[1]))

    def cut(image: Tensor, step: int = 1) -> Tensor:
        return image[..., top // step : (top + height) // step, left // step : (left + width) // step]

    target, after = cut(sample.target[t]), cut(sample.restored[t])
    panels: list[tuple[Tensor, str, Style]] = []
    if sample.guide is not None:
        panels.append((cut(sample.guide), "guide", "color"))
    if sample.lr is not None and sample.baseline is not None:
        panels.append((cut(sample.lr[_input_at(sample, t)], scale), "input", "gray"))
        panels.append((cut(sample.baseline[t]), "baseline", "gray"))
    panels += [(after, method, "gray"), (target, "target", "gray")]
    if sample.baseline is not None:
        panels.append(((cut(sample.baseline[t]) - target).abs(), "error of the baseline", "heat"))
    panels.append(((after - target).abs(), f"error of {method}", "heat"))
    where = f"detail at y = {top}, x = {left}"
    return _Row(f"{where}\nt = {float(sample.time[t]):g}" if len(sample.time) > 1 else where, panels, height / width)


def _profile_row(sample: Sample, method: str) -> _Row:
    """Return the row of temporal profiles: the image row of the target that changes most, stacked over time."""
    assert sample.lr is not None and sample.baseline is not None  # a clip always has input
    row = int(sample.target.diff(dim=0).abs().mean(dim=(0, 2)).argmax())
    small = row * sample.lr.shape[-2] // sample.target.shape[-2]

    def profile(video: Tensor, at: int = row) -> Tensor:
        # At least as many lines as the panel has pixels, so that only the width is averaged if it is too large.
        return temporal_profile(video.unsqueeze(1), at).repeat_interleave(-(-100 // len(video)), dim=0)

    target, before, after = profile(sample.target), profile(sample.baseline), profile(sample.restored)
    panels: list[tuple[Tensor, str, Style]] = [
        (profile(sample.lr, small), f"input, row {small}", "gray"),
        (before, f"baseline, row {row}\nMAE {float((before - target).abs().mean()):.4f}", "gray"),
        (after, f"{method}\nMAE {float((after - target).abs().mean()):.4f}", "gray"),
        (target, "target", "gray"),
        ((before - target).abs(), "error of the baseline", "heat"),
        ((after - target).abs(), f"error of {method}", "heat"),
    ]
    return _Row("profile: time downwards", panels, 0.5, "auto")


def _reference(sample: Sample) -> Tensor:
    """Return the frames whose errors set the colour scale and the place of the detail: the baseline if available."""
    return sample.restored if sample.baseline is None else sample.baseline


def _pick_frames(time: Tensor) -> list[int]:
    """Return the observed and the interpolated frame nearest to the middle of the clip, in order of time."""
    middle = torch.arange(len(time)) - (len(time) - 1) / 2
    observed = is_observed(time)
    picked = [int(middle.abs().masked_fill(~kind, torch.inf).argmin()) for kind in (observed, ~observed) if kind.any()]
    return sorted(picked)


def _input_at(sample: Sample, t: int) -> int:
    """Return the index of the last input frame at or before target frame `t`."""
    return max(0, int((sample.lr_time <= sample.time[t] + 1e-4).sum()) - 1)


def _score(sample: Sample, video: Tensor, t: int) -> str:
    """Return PSNR and SSIM of a frame, computed as in a test."""
    values, target = (quantize(x[None, None, t], sample.steps) for x in (video, sample.target))
    measured = {"psnr": float(psnr(values, target)), "ssim": float(ssim(values, target))}
    return " / ".join(CATALOGUE[name].written(value, unit=True) for name, value in measured.items())


def _quantile(x: Tensor, q: float) -> float:
    return float(np.quantile(x.numpy(), q))
