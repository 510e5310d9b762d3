"""Folders as runs and sweeps leave them, with numbers and pictures that the test chooses."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Values = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Data set, metric, image: the number."""


def run_folder(
    folder: Path,
    values: Values,
    method: str = "THERIS",
    cost: Mapping[str, Any] | None = None,
    gallery: bool = False,
    shade: int = 0,
    **more: Any,
) -> Path:
    """Write `metrics.json`, `metrics.csv`, a log of 4 steps, and pictures of the first image of each set."""
    folder.mkdir(parents=True)
    names = {dataset: sorted(next(iter(metrics.values()))) for dataset, metrics in values.items()}
    record = {
        "method": method,
        "results": {dataset: {"bicubic (a=-0.5)": {"all": {"psnr": 25.0}}} for dataset in values},
        "against_baselines": {dataset: {"strongest": "bicubic (a=-0.5)"} for dataset in values},
        "data": {dataset: {"images": len(found)} for dataset, found in names.items()},
        "protocol": {"text": "Gray images, rounded."},
        **more,
    }
    if cost:
        record["cost"] = cost
    (folder / "metrics.json").write_text(json.dumps(record))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        metrics = sorted({metric for found in values.values() for metric in found})
        writer.writerow(["dataset", "image", "method", *metrics])
        for dataset, found in values.items():
            for name in names[dataset]:
                writer.writerow([dataset, name, method, *(found.get(m, {}).get(name, "") for m in metrics)])
                writer.writerow([dataset, name, "bicubic (a=-0.5)", *(25.0 for _ in metrics)])
    log = folder / "csv" / "version_0"
    log.mkdir(parents=True)
    (log / "metrics.csv").write_text("step,train/loss,val/psnr\n1,0.5,\n1,,20.0\n3,0.25,\n3,,21.5\n")
    (folder / "config.yaml").write_text("trainer: {max_steps: 4}\n")
    if gallery:
        pictures(folder / "gallery", {dataset: found[0] for dataset, found in names.items()}, method, shade)
    return folder


def pictures(folder: Path, names: Mapping[str, str], method: str, shade: int) -> None:
    """Write one image of 24 x 32 for each set; what is restored is `shade` counts too bright."""
    datasets = {}
    rng = np.random.default_rng(0)
    for dataset, name in names.items():
        place = folder / dataset / name
        place.mkdir(parents=True)
        hr = rng.integers(40, 200, (24, 32)).astype(np.uint8)
        shown = {"hr": hr, "restored": hr + shade, "bicubic": hr // 2 + 60, "lr": hr[::4, ::4]}
        for kind, pixels in shown.items():
            Image.fromarray(pixels.astype(np.uint8)).save(place / f"{kind}.png")
        datasets[dataset] = [
            {
                "name": name,
                "size": [24, 32],
                "radiometry": {"offset": 0.0, "gain": 255.0, "bits": 8, "unit": "linear", "constants": [280.0, 0.1]},
                "files": {kind: [f"{dataset}/{name}/{kind}.png"] for kind in shown},
            }
        ]
    (folder / "gallery.json").write_text(json.dumps({"method": method, "scale": 4, "datasets": datasets}))


def sweep_folder(
    folder: Path,
    points: Sequence[tuple[str, Mapping[str, Any], int, Values | str]],
    name: str = "theris_ablation",
    **more: Any,
) -> Path:
    """Write a sweep of points (name, parameters, seed, values); of one that has not finished its state, not values."""
    folder.mkdir(parents=True)
    listed = []
    for number, (point, parameters, seed, values) in enumerate(points):
        own = folder / f"{number}-seed{seed}"
        listed.append({"name": point, "parameters": parameters, "seed": seed, "folder": own.name})
        if isinstance(values, str):
            own.mkdir()
            if values != "missing":
                (own / "point.json").write_text(json.dumps({"state": values, "run": None}))
            continue
        run_folder(own / "time-fit", values, **more)
        (own / "point.json").write_text(json.dumps({"state": "finished", "run": "time-fit", "seconds": 1.0}))
    content = {
        "name": name,
        "file": f"sweeps/{name}.yaml",
        "text": "",
        "seeds": 2,
        "overrides": ["--trainer.max_steps=4"],
    }
    (folder / "sweep.json").write_text(json.dumps(content | {"points": listed}))
    return folder
