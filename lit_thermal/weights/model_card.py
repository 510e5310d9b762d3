"""The card of a published model, made of its record and of the `metrics.json` of its test."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

SHOWN = ("psnr", "ssim", "rmse_kelvin", "mae_kelvin")
"""Metrics in the table, as far as the test measured them; all others are in the run's records."""
MOST_BASELINES = 4
"""Largest number of baselines in the table, the strongest first."""


def model_card(
    name: str, record: Mapping[str, Any], values: int, metrics: Mapping[str, Any] | None, license: str, version: str
) -> str:
    """Return the card as Markdown with the hub's header.

    Args:
        name: folder or hub id by which the model is loaded.
        record: record of the model in its checkpoint.
        values: number of weights.
        metrics: record of the run's test, or None if it was not tested.
        license: licence of the weights.
        version: version of lit_thermal.
    """
    config = record["model"]
    method = str(config.get("class_path", "")).rsplit(".", 1)[-1]
    scale = (config.get("init_args") or {}).get("scale", "")
    header = {
        "library_name": "lit_thermal",
        "license": license,
        "pipeline_tag": "image-to-image",
        "tags": ["super-resolution", "thermal", "infrared"],
    }
    facts = [f"- Method: {method}{f', scale {scale}' if scale else ''}, {values:,} weights"]
    if record.get("training_steps"):
        seconds = record.get("training_seconds")
        time = f" in {seconds:.0f} s" if isinstance(seconds, (int, float)) else ""
        facts.append(f"- Training: {record['training_steps']} steps{time}")
    facts.append(f"- Range of 16-bit input: {record.get('normalize') or 'that of each file'}")
    facts.append(f"- Made by lit_thermal {record.get('version') or version}; licence of the weights: {license}")
    use = f"from lit_thermal import load\n\nmodel = load({name!r})\nlarge = model.upscale(image)"
    guide = " Guided methods take `guide=photo` too." if _guided(config) else ""
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---",
        f"# {method}{f' x{scale}' if scale else ''} for thermal images",
        "\n".join(facts),
        "## How to use",
        f"```python\n{use}\n```\n\n`image` is a numpy array, a torch tensor or a PIL image of 8 or 16 bits.{guide} For "
        f"files:\n\n```\npython -m lit_thermal upscale input.tif -o output.tif --model {name}\n```",
        "## Numbers",
        _numbers(metrics) if metrics else "This model was published without a test.",
        "## Settings",
        f"```json\n{json.dumps(config, indent=2)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _guided(config: Mapping[str, Any]) -> bool:
    name = str(config.get("class_path", "")).rsplit(".", 1)[-1]
    return name in ("CoReFusion", "ThreeMTI") or bool((config.get("init_args") or {}).get("guided"))


def _numbers(metrics: Mapping[str, Any]) -> str:
    """Return a table for each data set: the method and its strongest baselines, with 95 % intervals."""
    ours, parts = str(metrics.get("method")), []
    for dataset, methods in (metrics.get("results") or {}).items():
        if ours not in methods:
            continue
        shown = [m for m in SHOWN if m in methods[ours].get("all", {})]
        against = (metrics.get("against_baselines") or {}).get(dataset) or {}
        others = [m for m in methods if m != ours and not m.startswith(f"{ours} ")]
        others.sort(key=lambda m: -(methods[m].get("all", {}).get("psnr") or 0.0))
        lines = [f"| {dataset} | {' | '.join(shown)} |", f"| --- |{' --- |' * len(shown)}"]
        for method in [ours, *others[:MOST_BASELINES]]:
            ends = ((metrics.get("intervals") or {}).get(dataset) or {}).get(method, {}).get("all", {})
            cells = [_cell(methods[method].get("all", {}).get(m), ends.get(m)) for m in shown]
            lines.append(f"| {method} | {' | '.join(cells)} |")
        counts = (metrics.get("data") or {}).get(dataset) or {}
        size = next((f"{counts[key]} {key}" for key in ("images", "clips") if key in counts), "")
        text = f"Data: {dataset}{f', {size}' if size else ''}."
        if against.get("strongest"):
            gain = (against.get("gain") or {}).get("all")
            text += f" Strongest simple baseline: {against['strongest']}"
            text += f"; gain {gain:.2f} dB PSNR." if isinstance(gain, (int, float)) else "."
        parts.append("\n".join(lines) + f"\n\n{text}")
    protocol = (metrics.get("protocol") or {}).get("text")
    if protocol:
        parts.append(f"Protocol: {protocol} Brackets are 95 % bootstrap intervals over images or clips.")
    return "\n\n".join(parts) or "The record of the test has no numbers of this method."


def _cell(value: Any, ends: Any) -> str:
    if not isinstance(value, (int, float)):
        return ""
    number = f"{value:.4g}"
    if isinstance(ends, (list, tuple)) and len(ends) == 2 and all(isinstance(end, (int, float)) for end in ends):
        number += f" [{ends[0]:.4g}, {ends[1]:.4g}]"
    return number
