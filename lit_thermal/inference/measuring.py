"""Measurement of files that any program restored, with the scores, baselines and table of a test."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from torch import Tensor

from lit_thermal.batch import Batch
from lit_thermal.evaluation.cost import cost_of
from lit_thermal.evaluation.evaluator import Evaluator
from lit_thermal.evaluation.scores import Scores
from lit_thermal.evaluation.statistics import paired
from lit_thermal.inference.comparators import Comparator
from lit_thermal.inference.pieces import Piece
from lit_thermal.metrics.catalogue import QUALITY
from lit_thermal.ops.outliers import completed


def measure(
    pieces: Iterable[Piece],
    evaluator: Evaluator,
    dataset: str,
    comparators: Mapping[str, Comparator],
    device: torch.device,
) -> float:
    """Measure pieces; the first method measured is the reference for the others.

    Args:
        pieces: images, or frames of videos.
        evaluator: evaluator that receives the measurements.
        dataset: name of the data set in tables.
        comparators: networks by name, which restore the inputs. The inputs of a video are interpolated linearly in time
            first, and each frame is then restored separately.
        device: device of comparators and measurements.

    Returns:
        Time in seconds that the comparators took.

    Raises:
        InputError: frames are smaller than the window of SSIM.
    """
    seconds = 0.0
    for piece in pieces:
        video = piece.target.shape[1] > 1
        batch = _batch(piece, device)
        results = {name: frames.to(device) for name, frames in piece.restored.items()}
        started = time.perf_counter()
        restored = {name: _restored(comparator, piece, device) for name, comparator in comparators.items()}
        seconds += time.perf_counter() - started
        if not video:
            results, restored = ({name: frames[:, 0] for name, frames in r.items()} for r in (results, restored))
        results |= {name: completed(frames, batch) for name, frames in restored.items()}
        evaluator.update(batch, results, dataset)
    return seconds


def cost(comparator: Comparator, device: torch.device, seconds: float, images: int) -> dict[str, Any]:
    """Return the cost of a comparator; the cost of its training is unknown."""
    return cost_of(
        comparator.network, device, seconds=seconds, images=images, training_seconds=None, training_steps=None
    )


def against_first(scores: Scores, methods: Sequence[str]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Compare the first method with each other one, by data set, method and metric.

    Args:
        scores: scores of all methods.
        methods: names of the methods to compare.

    Returns:
        Mean difference (first minus other method), its interval, p-value, and number of images or clips.
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
    """Print a table of paired comparisons in PSNR and SSIM for each data set; the record has all metrics."""
    for dataset, methods in found.items():
        table = Table(title=escape(f"{dataset}: {first} minus each of the others, 95 % interval, p (Wilcoxon)"))
        table.title_justify = "left"
        table.add_column("method", overflow="fold")
        for metric in QUALITY:
            table.add_column(metric.heading, justify="right", no_wrap=True)
        for method, metrics in methods.items():
            cells = []
            for metric in QUALITY:
                measured = metrics[metric.name]
                difference, low, high = (
                    metric.written(measured[key], sign=True) for key in ("difference", "low", "high")
                )
                cells.append(rf"{difference} \[{low}, {high}], p {measured['p_value']:.2g}")
            table.add_row(escape(method), *cells)
        console = Console()
        if not console.is_terminal:
            needed = Measurement.get(console, console.options.update(max_width=1000), table).maximum
            console = Console(width=max(console.width, needed))
        console.print(table)


def _batch(piece: Piece, device: torch.device) -> Batch:
    """Return a piece as a batch of a test."""
    batch: Batch = {"name": [piece.name], "radiometry": [piece.radiometry], "hr": piece.target.to(device)}
    batch["frame"], batch["hr_time"] = piece.frames, piece.times.to(device)
    if piece.lr is not None:
        lr = piece.lr.to(device)
        batch["lr"], batch["beyond"] = lr.clamp(0, 1), lr - lr.clamp(0, 1)
        batch["lr_time"] = torch.arange(lr.shape[1], device=device, dtype=torch.float32)[None]
    if piece.target.shape[1] == 1:
        for key in ("hr", "lr", "beyond"):
            if key in batch:
                batch[key] = batch[key][:, 0]  # type: ignore[literal-required]
    return batch


def _restored(comparator: Comparator, piece: Piece, device: torch.device) -> Tensor:
    """Return the restored inputs (1, T, 1, H, W), interpolated in time if there are more target frames."""
    assert piece.lr is not None, "comparators need inputs"
    near = piece.lr.shape[1]
    weights = (1 - (piece.times[0, :, None] - torch.arange(near)).abs()).clamp(min=0)
    blended = torch.einsum("tx,xchw->tchw", weights, piece.lr[0].clamp(0, 1))
    return torch.cat([comparator(frame[None].to(device)) for frame in blended])[None]
