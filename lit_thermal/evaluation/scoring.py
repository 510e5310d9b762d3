"""Measures what a program restored as a test measures a method: the same scores, baselines and table."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from torch import Tensor

from lit_thermal.batch import Batch
from lit_thermal.errors import InputError
from lit_thermal.evaluation.comparators import Comparator
from lit_thermal.evaluation.folders import Piece
from lit_thermal.metrics.baselines import TunedBaselines
from lit_thermal.metrics.cost import cost_of
from lit_thermal.metrics.protocols import RestoredImage
from lit_thermal.metrics.quality import SSIM_WINDOW, as_written
from lit_thermal.metrics.scores import Scores
from lit_thermal.metrics.statistics import paired

PAIRED = ("psnr", "ssim")
"""What the printed comparison of two programs shows; the record has all metrics."""


def score(
    pieces: Iterable[Piece],
    scores: Scores,
    dataset: str,
    comparators: Mapping[str, Comparator],
    scale: int | None,
    device: torch.device,
) -> float:
    """Measure pieces into scores; the first method is the one that the others are held against.

    Args:
        pieces: images, or frames of videos.
        scores: gets the rows.
        dataset: heading of the table.
        comparators: name to what restores the inputs here. Of a video the inputs are blended linearly in time first,
            and each frame is then restored by itself.
        scale: of the baselines, which are measured where there are inputs.
        device: where comparators run and measurements are taken.

    Returns:
        Seconds that the comparators took.

    Raises:
        InputError: frames are smaller than the window of SSIM.
    """
    baselines = TunedBaselines(scale or 1)
    seconds = 0.0
    for piece in pieces:
        if min(piece.target.shape[-2:]) < SSIM_WINDOW:
            size = f"{piece.target.shape[-1]} x {piece.target.shape[-2]}"
            raise InputError(f"the target {piece.name} is {size}, and SSIM needs {SSIM_WINDOW} x {SSIM_WINDOW} or more")
        video = scores_time(piece)
        ours = {name: frames.to(device) for name, frames in piece.restored.items()}
        started = time.perf_counter()
        for name, comparator in comparators.items():
            ours[name] = _restored(comparator, piece, device)
        seconds += time.perf_counter() - started
        simple: dict[str, Tensor] = {}
        if piece.lr is not None:
            batch: Batch = {"lr": piece.lr.to(device), "hr_time": piece.times.to(device)}
            if not video:
                batch = {"lr": batch["lr"][:, 0]}
            simple = {n: x if video else x[:, None] for n, x in baselines(batch).items()}
        target = piece.target.to(device)
        for place, (name, frames) in enumerate((ours | simple).items()):
            scores.add(
                dataset,
                [piece.name],
                piece.frames,
                piece.observed,
                name,
                frames,
                target,
                [piece.radiometry],
                piece.dt,
                variant=name in ours and place > 0,
            )
        if not video:
            own = {n: as_written(x, [piece.radiometry])[0, 0].cpu() for n, x in (ours | simple).items()}
            scores.others.add(dataset, [RestoredImage(piece.name, piece.target[0, 0], own)], device)
    return seconds


def scores_time(piece: Piece) -> bool:
    """True for frames of a video."""
    return piece.target.shape[1] > 1


def cost(comparator: Comparator, device: torch.device, seconds: float, images: int) -> dict[str, Any]:
    """What a comparator costs; its training is not known."""
    return cost_of(
        comparator.network, device, seconds=seconds, images=images, training_seconds=None, training_steps=None
    )


def against_first(scores: Scores, methods: Sequence[str]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Data set, method, metric: the first method minus this one, its interval, p-value and number of images or clips.

    Args:
        scores: of all.
        methods: what to compare, the first one with each of the others.
    """
    result: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for dataset, found in scores.clips().items():
        first = found[methods[0]]["all"]
        for other in methods[1:]:
            for metric in dict.fromkeys(name for values in first.values() for name in values):
                mine, theirs = (
                    {clip: values[metric] for clip, values in clips.items() if metric in values}
                    for clips in (first, found[other]["all"])
                )
                if mine.keys() & theirs.keys():
                    test = paired(mine, theirs)
                    result.setdefault(dataset, {}).setdefault(other, {})[metric] = {
                        "difference": test.difference.mean,
                        "low": test.difference.low,
                        "high": test.difference.high,
                        "p_value": test.p_value,
                        "count": test.count,
                    }
    return result


def show_paired(found: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]], first: str) -> None:
    """Print a table for each data set with more than one program."""
    for dataset, methods in found.items():
        table = Table(title=f"{dataset}: {first} minus each of the others, 95 % interval, p (Wilcoxon)")
        table.title_justify = "left"
        table.add_column("method", overflow="fold")
        for metric in PAIRED:
            table.add_column("PSNR in dB" if metric == "psnr" else metric.upper(), justify="right", no_wrap=True)
        for method, metrics in methods.items():
            cells = []
            for metric in PAIRED:
                digits, m = (2 if metric == "psnr" else 4), metrics[metric]
                ends = f"[{m['low']:+.{digits}f}, {m['high']:+.{digits}f}]"
                cells.append(rf"{m['difference']:+.{digits}f} \{ends}, p {m['p_value']:.2g}")
            table.add_row(method, *cells)
        console = Console()
        if not console.is_terminal:
            needed = Measurement.get(console, console.options.update(max_width=1000), table).maximum
            console = Console(width=max(console.width, needed))
        console.print(table)


def _restored(comparator: Comparator, piece: Piece, device: torch.device) -> Tensor:
    """(1, T, 1, H, W) of the inputs, blended in time where there are more target frames."""
    assert piece.lr is not None, "comparators are refused without inputs"
    near = piece.lr.shape[1]
    weights = (1 - (piece.times[0, :, None] - torch.arange(near)).abs()).clamp(min=0)
    blended = torch.einsum("tx,xchw->tchw", weights, piece.lr[0])
    return torch.cat([comparator(frame[None].to(device)) for frame in blended])[None]
