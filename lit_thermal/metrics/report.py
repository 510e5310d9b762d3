"""What a test run leaves behind: `metrics.json`, `metrics.csv` and a table on the terminal."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from lit_thermal.metrics.quality import PSNR_CAP, SSIM_K1, SSIM_K2, SSIM_SIGMA, SSIM_WINDOW

if TYPE_CHECKING:
    from lit_thermal.metrics.scores import Scores

GROUPS = ("all", "observed", "interpolated")

PROTOCOL = (
    "Gray frames in [0, 1] under one normalisation per clip, clipped and rounded to the counts of the "
    "file, nothing cropped. PSNR of each frame with peak 1; SSIM of each frame over the valid "
    "region. Every frame once, from the earliest window that holds it. Mean over the frames of a clip, then "
    "over the clips. temporal_difference: mean absolute error of the change from frame to frame; profile_error: "
    "mean absolute error of the middle row; heat_residual: mean of w r^2 with w of the target, to be compared with "
    "heat_residual_of_target."
)


class Comparison(NamedTuple):
    """Ours against the baselines on one data set."""

    strongest: str
    """The baseline of highest PSNR over all frames."""
    gain: dict[str, float]
    """Group to our PSNR minus that of the baseline that is strongest in this group, in dB."""
    below: list[str]
    """Clips on which some baseline has a higher PSNR than ours."""


def compare(scores: Scores) -> dict[str, Comparison]:
    """Hold ours against the baselines of each data set; data sets without baselines are left out."""
    ours = scores.methods[:1]
    clips = scores.clips()
    result = {}
    for dataset, methods in scores.summary().items():
        baselines = [name for name in methods if name not in ours]
        if not baselines or ours[0] not in methods:
            continue
        own = methods[ours[0]]
        gain = {g: own[g]["psnr"] - max(methods[b][g]["psnr"] for b in baselines) for g in own}
        table = {name: groups["all"] for name, groups in clips[dataset].items()}
        below = [
            clip
            for clip, values in table[ours[0]].items()
            # Written so that a NaN of ours counts as below.
            if not values["psnr"] >= max(table[b][clip]["psnr"] for b in baselines)
        ]
        strongest = max(baselines, key=lambda b: methods[b]["all"]["psnr"])
        result[dataset] = Comparison(strongest, gain, below)
    return result


def write(scores: Scores, folder: Path, seconds: float, config: dict[str, Any] | None) -> None:
    """Write `metrics.json` (everything, see `as_record`) and `metrics.csv` (one line per clip, method, group)."""
    folder.mkdir(parents=True, exist_ok=True)
    record = _finite(as_record(scores, seconds, config))
    _replace(folder / "metrics.json", json.dumps(record, indent=2, allow_nan=False, default=str) + "\n")
    _replace(folder / "metrics.csv", _as_csv(scores))


def as_record(scores: Scores, seconds: float, config: dict[str, Any] | None) -> dict[str, Any]:
    """Everything that a report needs: numbers, protocol, data, counts, seconds, digest of the model's config."""
    canonical = json.dumps(config, sort_keys=True, default=str)
    return {
        "method": scores.methods[0] if scores.methods else None,
        "results": scores.summary(),
        "against_baselines": {name: c._asdict() for name, c in compare(scores).items()},
        "data": _data(scores),
        "protocol": {
            "text": PROTOCOL,
            "channel": "gray",
            "data_range": 1.0,
            "crop": 0,
            "psnr_cap": PSNR_CAP,
            "ssim": {"window": SSIM_WINDOW, "sigma": SSIM_SIGMA, "k1": SSIM_K1, "k2": SSIM_K2},
            "heat_residual": asdict(scores.protocol),
        },
        "seconds": round(seconds, 3),
        "model": config,
        "config_digest": None if config is None else hashlib.sha256(canonical.encode()).hexdigest(),
    }


def table(scores: Scores, dataset: str) -> Table:
    """Ours and the baselines as rows, PSNR and SSIM of each group of frames as columns."""
    methods = scores.summary()[dataset]
    data = _data(scores)[dataset]
    groups = [g for g in GROUPS if g in next(iter(methods.values()))]
    counts = ", ".join(f"{data[g]} {g}" for g in groups if g != "all")
    result = Table(
        title=f"{dataset}: {data['clips']} clips, {data['all']} frames{f' ({counts})' if counts else ''}; "
        "PSNR in dB / SSIM",
        title_justify="left",
    )
    result.add_column("method", overflow="fold")
    for group in groups:
        result.add_column(group, justify="right", no_wrap=True)
    best = {g: max((m[g]["psnr"] for m in methods.values()), default=math.nan) for g in groups}
    for name, found in methods.items():
        cells = []
        for group in groups:
            text = f"{found[group]['psnr']:.2f} / {found[group]['ssim']:.4f}"
            cells.append(f"[bold]{text}[/bold]" if found[group]["psnr"] == best[group] else text)
        result.add_row(f"[bold]{name}[/bold]" if name == scores.methods[0] else name, *cells)
    comparison = compare(scores).get(dataset)
    if comparison is not None:
        gain = ", ".join(f"{g} {value:+.2f} dB" for g, value in comparison.gain.items())
        result.caption = (
            f"over the strongest baseline: {gain}\n"
            f"clips below their strongest baseline: {len(comparison.below)} of {data['clips']}"
        )
        result.caption_justify = "left"
    return result


def show(scores: Scores) -> None:
    """Print the table of each data set, never narrower than it needs where the output is a file."""
    console = Console()
    for dataset in scores.summary():
        sheet = table(scores, dataset)
        if not console.is_terminal:
            needed = Measurement.get(console, console.options.update(max_width=1000), sheet).maximum
            console = Console(width=max(console.width, needed))
        console.print(sheet)


def _data(scores: Scores) -> dict[str, dict[str, Any]]:
    """Data set to its counts of clips and frames, sizes and depths, and the frames of each clip."""
    result: dict[str, dict[str, Any]] = {}
    ours = scores.methods[:1]
    for dataset in scores.summary():
        rows = [row for row in scores.rows if row.dataset == dataset and row.method in ours]
        frames: dict[str, list[int]] = {}
        for row in rows:
            frames.setdefault(row.clip, []).append(row.frame)
        result[dataset] = {
            "clips": len(frames),
            "all": len(rows),
            "observed": sum(row.observed for row in rows),
            "interpolated": sum(not row.observed for row in rows),
            "sizes": sorted({row.size for row in rows}),
            "bits": sorted({row.bits for row in rows}),
            "frames": {clip: _spans(numbers) for clip, numbers in frames.items()},
        }
    return result


def _spans(numbers: list[int]) -> str:
    """Ascending numbers as text: ``0-6, 9``."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def _as_csv(scores: Scores) -> str:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for row in scores.rows:
        for group in ("all", "observed" if row.observed else "interpolated"):
            counts[row.dataset, row.method, group, row.clip] += 1
    metrics = list(dict.fromkeys(name for row in scores.rows for name in row.values))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["dataset", "clip", "method", "group", "frames", *metrics])
    for dataset, methods in scores.clips().items():
        for method, groups in methods.items():
            for group, clips in groups.items():
                for clip, values in clips.items():
                    numbers = [values.get(name, "") for name in metrics]
                    count = counts[dataset, method, group, clip]
                    writer.writerow([dataset, clip, method, group, count, *numbers])
    return text.getvalue()


def _finite(value: Any) -> Any:
    """The same structure with null for what JSON cannot hold (NaN, infinity)."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _replace(path: Path, text: str) -> None:
    """Write a file so that a reader finds the old or the new one, whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
