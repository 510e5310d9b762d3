"""Files of a test run, `metrics.json` and `metrics.csv`, and the comparison of the method with the baselines."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lit_thermal.evaluation.statistics import mean_intervals
from lit_thermal.files import replacing, write_text
from lit_thermal.metrics.quality import PSNR_CAP, SSIM_K1, SSIM_K2, SSIM_SIGMA, SSIM_WINDOW
from lit_thermal.plain_files import as_csv

if TYPE_CHECKING:
    from lit_thermal.evaluation.scores import Scores

PROTOCOL = (
    "Gray frames in [0, 1] under one normalisation per clip, rounded to the counts of the file; what 16 bit has beyond "
    "its range is not clipped. Nothing cropped. Every frame once, from the earliest window that holds it. Mean over "
    "the frames of a clip, then over the clips."
)
PROTOCOL_OF_IMAGES = (
    "Gray images in [0, 1], rounded to the counts of the file; what 16 bit has beyond the range that is mapped is not "
    "clipped. Nothing cropped. Every image once. Mean over the images."
)
OF_DISPLACED = (
    " psnr_unregistered, psnr_registered and the same of SSIM: over the part of each restored image that its target "
    "shows too, with the target in its place and moved by its displacement against the input; that is in whole pixels, "
    "one for each image, estimated from input and target alone, the same for every method."
)
LARGE = 100_000
"""Number of rows above which the table is written as Parquet."""
OF_BASELINES = " Baselines are rounded to the counts of the file before."


_log = logging.getLogger(__name__)


class Comparison(NamedTuple):
    """Comparison of the method with the baselines on one data set."""

    strongest: str
    """Baseline with the highest PSNR over all frames."""
    gain: dict[str, float]
    """PSNR of the method minus that of the strongest baseline of each group, in dB."""
    below: list[str]
    """Clips on which some baseline has a higher PSNR than the method."""
    variants: dict[str, dict[str, float]]
    """Gain of each variant of the method."""


def compare(scores: Scores) -> dict[str, Comparison]:
    """Compare the method with the baselines of each data set; data sets without baselines are left out."""
    ours, known = scores.methods[:1], scores.baselines
    result = {}
    for dataset, methods in scores.clips().items():
        baselines = [name for name in methods if name in known]
        if not baselines or ours[0] not in methods:
            continue
        # Baselines are missing for images without a thermal input.
        common = {group: set.intersection(*(set(m[group]) for m in methods.values())) for group in methods[ours[0]]}
        mean = {
            name: {g: sum(clips[clip]["psnr"] for clip in common[g]) / len(common[g]) for g, clips in groups.items()}
            for name, groups in methods.items()
            if all(common.values())
        }
        if not mean:
            continue
        best = {g: max(mean[b][g] for b in baselines) for g in common}
        gains = {name: {g: mean[name][g] - best[g] for g in common} for name in methods if name not in baselines}
        below = [
            clip
            for clip, values in methods[ours[0]]["all"].items()
            # Written this way so that a NaN of the method counts as below.
            if clip in common["all"] and not values["psnr"] >= max(methods[b]["all"][clip]["psnr"] for b in baselines)
        ]
        strongest = max(baselines, key=lambda b: mean[b]["all"])
        result[dataset] = Comparison(strongest, gains.pop(ours[0]), below, variants=gains)
    return result


def guided(scores: Scores, dataset: str, others: Sequence[str]) -> list[str]:
    """Return the baselines that use the guide: those that change under conditions of the guide alone.

    A condition leaves the thermal input as it is if it does not change the bicubic enlargement.

    Args:
        scores: scores of the test.
        dataset: data set as it is.
        others: data sets with the same images under other conditions.
    """
    # Imported here, because reports read records without torch.
    from lit_thermal.evaluation.baselines import REFERENCE

    found = {name: methods for name, methods in scores.summary().items() if name in (dataset, *others)}

    def psnr(name: str, method: str) -> float | None:
        return found[name][method]["all"]["psnr"] if method in found.get(name, {}) else None

    same = [name for name in others if psnr(name, REFERENCE) is not None]
    same = [name for name in same if psnr(name, REFERENCE) == psnr(dataset, REFERENCE)]
    return [b for b in scores.baselines if any(psnr(name, b) != psnr(dataset, b) for name in same)]


def write(
    scores: Scores, folder: Path, seconds: float, config: dict[str, Any] | None, more: Mapping[str, Any] | None = None
) -> None:
    """Write `metrics.json` (see `as_record`) and `metrics.csv` (one line per clip, method, group, or image, method).

    A table of more than `LARGE` rows is written as `metrics.parquet` instead, if pyarrow is installed.
    """
    header, lines = _as_table(scores)
    parquet = len(lines) > LARGE and _write_parquet(folder / "metrics.parquet", header, lines)
    if not parquet:
        write_text(folder / "metrics.csv", as_csv([header, *lines]))
    (folder / ("metrics.csv" if parquet else "metrics.parquet")).unlink(missing_ok=True)
    record = finite(as_record(scores, seconds, config) | dict(more or {}))
    write_text(folder / "metrics.json", json.dumps(record, indent=2, allow_nan=False, default=str) + "\n")


def as_record(scores: Scores, seconds: float, config: dict[str, Any] | None) -> dict[str, Any]:
    """Return all entries that a report needs: numbers, protocol, data, counts, cost, digest of the model's config.

    `intervals` is nested like `results`, for the group "all", with the two ends of a 95 % bootstrap interval over the
    images or clips. `references` has the values of no-reference metrics on the target itself. `tuned_baselines` has
    the settings of baselines that were chosen on the validation set.
    """
    canonical = json.dumps(config, sort_keys=True, default=str)
    data = describe(scores)
    return {
        "method": scores.methods[0] if scores.methods else None,
        "results": scores.summary(),
        "intervals": intervals(scores),
        "references": scores.references(),
        "skipped": scores.skipped,
        "cost": scores.cost,
        "tuned_baselines": scores.tuned,
        "against_baselines": {name: c._asdict() for name, c in compare(scores).items()},
        "protocols": scores.others.summary(),
        "data": data,
        "protocol": {
            "text": f"{PROTOCOL_OF_IMAGES if _images_only(data) else PROTOCOL} {_meanings(scores)}"
            + (OF_DISPLACED if any("displacements" in counts for counts in data.values()) else ""),
            "others": {name: text + OF_BASELINES for name, text in scores.others.texts.items()},
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


def describe(scores: Scores) -> dict[str, dict[str, Any]]:
    """Return the counts, sizes and depths of each data set, with the frames of each clip or, for images, their number.

    If they are known, also return the number of images in each group, and the displacement of each image's target in
    pixels down and to the right.
    """
    result: dict[str, dict[str, Any]] = {}
    ours = scores.methods[:1]
    for dataset in scores.summary():
        rows = [row for row in scores.rows if row.dataset == dataset and row.method in ours]
        frames: dict[str, list[int]] = {}
        for row in rows:
            frames.setdefault(row.clip, []).append(row.frame)
        shared = {"sizes": sorted({row.size for row in rows}), "bits": sorted({row.bits for row in rows})}
        if len(frames) == len(rows):
            result[dataset] = {"images": len(rows), **shared, "names": list(frames)}
            if groups := Counter(group for row in rows for group in row.groups):
                result[dataset]["groups"] = dict(groups.most_common())
            if displaced := {row.clip: row.displacement for row in rows if row.displacement is not None}:
                result[dataset]["displacements"] = displaced
            continue
        result[dataset] = {
            "clips": len(frames),
            "all": len(rows),
            "observed": sum(row.observed for row in rows),
            "interpolated": sum(not row.observed for row in rows),
            **shared,
            "frames": {clip: _spans(numbers) for clip, numbers in frames.items()},
        }
    return result


def _images_only(data: dict[str, dict[str, Any]]) -> bool:
    return bool(data) and all("images" in counts for counts in data.values())


def _spans(numbers: list[int]) -> str:
    """Format ascending numbers as text: ``0-6, 9``."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def _meanings(scores: Scores) -> str:
    """Describe each measured metric."""
    measured = {name for row in scores.rows for name in row.values}
    return " ".join(f"{metric.name}: {metric.text}." for metric in scores.metrics if metric.name in measured)


def intervals(scores: Scores) -> dict[str, dict[str, dict[str, dict[str, list[float]]]]]:
    """Return the 95 % bootstrap intervals over images or clips by data set, method, "all" and metric."""
    result: dict[str, dict[str, dict[str, dict[str, list[float]]]]] = {}
    for dataset, methods in scores.clips().items():
        columns: dict[int, list[tuple[str, str, list[float]]]] = {}
        for method, groups in methods.items():
            for metric in dict.fromkeys(name for values in groups["all"].values() for name in values):
                column = [values[metric] for values in groups["all"].values() if metric in values]
                columns.setdefault(len(column), []).append((method, metric, column))
        found = {
            (method, metric): [interval.low, interval.high]
            for equal in columns.values()
            for (method, metric, _), interval in zip(equal, mean_intervals([c for *_, c in equal]), strict=True)
        }
        result[dataset] = {method: {"all": {}} for method in methods}
        for (method, metric), ends in found.items():
            result[dataset][method]["all"][metric] = ends
    return result


def _as_table(scores: Scores) -> tuple[list[str], list[list[Any]]]:
    """Return heading and lines; "" marks a missing value."""
    metrics = list(dict.fromkeys(name for row in scores.rows for name in row.values))
    data = describe(scores)
    if _images_only(data):
        labels = ["groups"] if any("groups" in counts for counts in data.values()) else []
        places = ["down", "right"] if any("displacements" in counts for counts in data.values()) else []
        lines: list[list[Any]] = []
        for row in scores.rows:
            own = ["; ".join(row.groups)] * len(labels) + list(row.displacement or ("", ""))[: len(places)]
            lines.append([row.dataset, row.clip, row.method, *own, *(row.values.get(m, "") for m in metrics)])
        return ["dataset", "image", "method", *labels, *places, *metrics], lines
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for row in scores.rows:
        for group in ("all", "observed" if row.observed else "interpolated"):
            counts[row.dataset, row.method, group, row.clip] += 1
    lines = [
        [dataset, clip, method, group, counts[dataset, method, group, clip], *(values.get(m, "") for m in metrics)]
        for dataset, methods in scores.clips().items()
        for method, groups in methods.items()
        for group, clips in groups.items()
        for clip, values in clips.items()
    ]
    return ["dataset", "clip", "method", "group", "frames", *metrics], lines


def _write_parquet(path: Path, header: list[str], lines: list[list[Any]]) -> bool:
    """Write a table, with null for a missing value; if pyarrow is absent, print one sentence and return False."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        _log.warning("%d rows are written as CSV; pip install 'lit_thermal[metrics]' for Parquet", len(lines))
        return False
    columns = {
        name: [None if value == "" else value for value in column]
        for name, column in zip(header, zip(*lines, strict=True), strict=True)
    }
    with replacing(path) as aside:
        parquet.write_table(pyarrow.table(columns), aside)
    return True


def finite(value: Any) -> Any:
    """Return the same structure with null in place of NaN and infinity, which JSON cannot store."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
