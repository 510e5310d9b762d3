"""The five small experiments, trained for a few steps, give the numbers that they gave when these were stored.

Any change of the simulator, a network, a loss, an optimizer setting, a baseline or a metric shows here. After a wanted
change, `python tests/test_small_experiments.py` stores the new numbers.
"""

import json
import os
import tempfile
from pathlib import Path

import pytest

from lit_thermal.cli.dispatch import main

STORED = Path(__file__).with_suffix(".json")
QUICK = ["--data.size=64", "--data.batch_size=2", "--data.num_workers=0", "--model.optimizer.eps=1e-3"]
"""A large eps, because Adam's first steps are as large for a gradient that is only rounding noise, whose sign differs
between CPUs, as for any other."""
IMAGES = [*QUICK, "--trainer.max_steps=4", *(f"--data.{split}_images=2" for split in ("train", "val", "test"))]
EMA = "--trainer.callbacks=[{class_path: EMA, init_args: {decay: 0.5}}]"
"""A short average, so that four steps of training count."""
EXPERIMENTS = {
    "theris": [
        *(*QUICK, EMA, "--model.interpolation=ThermalDiffusionInterpolation", "--model.interpolation.knots=16"),
        *("--trainer.max_steps=2", "--data.test_scenarios=[standard,hot_boundaries]"),
        *(f"--data.{split}_clips=1" for split in ("train", "val", "test")),
        *(f"--model.network.{size}" for size in ("channels=16", "encoder_blocks=1", "decoder_blocks=1")),
        *("--model.network.decoder=stages", "--model.network.decoder_width=16", "--model.network.mask_norm=true"),
        "--model.network.enlargement=bilinear",
        *("--model.scans=[SpatialFirst, TemporalFirst, Hilbert]", "--model.heat_weighting=constant"),
        "--model.heat_loss=HeatEquationLoss",
    ],
    "corefusion": [*IMAGES, EMA],
    "difiisr": [*IMAGES, EMA, "--model.guidance.start=2"],
    "3m_ti": [*IMAGES, EMA],
    "real_iisr": [*IMAGES, "--trainer.callbacks=[{class_path: TokenizerFirst, init_args: {steps: 2, lr: 4.0e-3}}]"],
}
"""Command lines of the experiments, small and with few steps."""
TOLERANCES = {"order_violations": 2e-2, "hot_edge_error": 5e-3}
"""Relative tolerances of metrics that compare or select pixels, so that rounding can flip a decision; 2e-3 for others.

Without AVX and with two threads, CoReFusion differs by half of these (batch norms of nearly constant channels amplify
rounding), the other experiments by a fiftieth.
"""


def results(experiment: str) -> dict[str, float]:
    """Train and test an experiment in the working directory and return each number of its `metrics.json`."""
    words = ["-c", experiment, *EXPERIMENTS[experiment]]
    assert main(["fit", *words]) == 0
    assert main(["test", *words, "--ckpt_path=last"]) == 0
    (record,) = Path("runs").glob(f"{experiment}/*-test/metrics.json")
    return {
        " / ".join((data, method, group, metric)): value
        for data, methods in json.loads(record.read_text(encoding="utf-8"))["results"].items()
        for method, groups in methods.items()
        for group, metrics in groups.items()
        for metric, value in metrics.items()
    }


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_numbers_are_the_stored_ones(experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = results(experiment)
    stored = json.loads(STORED.read_text(encoding="utf-8"))[experiment]
    assert stored.keys() <= found.keys()
    for name, value in stored.items():
        assert found[name] == pytest.approx(value, rel=TOLERANCES.get(name.rpartition(" / ")[2], 2e-3)), name


if __name__ == "__main__":
    found = {}
    for name in EXPERIMENTS:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            found[name] = results(name)
    STORED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
