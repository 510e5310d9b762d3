"""Displaced targets and groups: what is measured, reported and printed."""

import csv
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.evaluation import records, tables
from lit_thermal.evaluation.records import compare
from lit_thermal.evaluation.scores import Scores, Targets
from lit_thermal.metrics import psnr, quantize, ssim
from lit_thermal.metrics.registered import REGISTERED, registered_quality

PLACES = [(2, -5), (0, 0), (-3, 0)]
GROUPS = [["optical blur", "car"], ["motion blur", "car", "complex scene"], []]


def images() -> tuple[Tensor, Tensor]:
    """Restored images without error, and their targets moved by `PLACES`; what moves in is black."""
    restored = torch.rand(3, 1, 1, 32, 40, generator=torch.Generator().manual_seed(0))
    restored = quantize(restored, 255)
    target = torch.zeros_like(restored)
    for b, (down, right) in enumerate(PLACES):
        moved = torch.roll(restored[b], (down, right), (-2, -1))
        rows = slice(max(0, down), 32 + min(0, down))
        columns = slice(max(0, right), 40 + min(0, right))
        target[b, ..., rows, columns] = moved[..., rows, columns]
    return restored, target


def filled() -> Scores:
    restored, target = images()
    scores, names, zero = Scores(), ["a", "b", "c"], torch.zeros(3, 1, dtype=torch.long)
    for method, level in (("Ours", 0.02), ("bilinear", 0.05), ("nearest", 0.1)):
        noise = level * torch.randn(restored.shape, generator=torch.Generator().manual_seed(1))
        targets = Targets(
            "flir", names, zero, zero == 0, target, [Radiometry()] * 3, groups=GROUPS, displacements=PLACES
        )
        scores.add(targets, method, restored + noise)
    return scores


def test_the_displacement_brings_an_image_back_and_the_pixels_are_the_same():
    restored, target = images()
    found = registered_quality(restored, target, PLACES)
    assert tuple(found) == REGISTERED and all(values.shape == (3, 1) for values in found.values())
    assert torch.equal(found["psnr_registered"], torch.full((3, 1), 100.0))
    torch.testing.assert_close(found["ssim_registered"], torch.ones(3, 1))
    down, right = PLACES[0]
    seen, still = restored[0, ..., : 32 - down, -right:], target[0, ..., : 32 - down, -right:]
    assert torch.equal(found["psnr_unregistered"][0], psnr(seen, still))
    assert torch.equal(found["ssim_unregistered"][0], ssim(seen, still))
    # Without a displacement both are the standard measure.
    for metric, measure in (("psnr", psnr), ("ssim", ssim)):
        whole = measure(restored[1], target[1])
        assert torch.equal(found[f"{metric}_registered"][1], whole)
        assert torch.equal(found[f"{metric}_unregistered"][1], whole)


def test_groups_are_means_over_their_images():
    scores = filled()
    ours = scores.summary()["flir"]["Ours"]
    rows = {row.clip: row.values for row in scores.rows if row.method == "Ours"}
    assert set(ours) == {"all", "optical blur", "motion blur", "car", "complex scene"}
    for metric in ("psnr", *REGISTERED):
        assert ours["car"][metric] == pytest.approx((rows["a"][metric] + rows["b"][metric]) / 2)
        assert ours["optical blur"][metric] == rows["a"][metric]
        assert ours["all"][metric] == pytest.approx(sum(row[metric] for row in rows.values()) / 3)
    assert rows["a"]["psnr_registered"] > rows["a"]["psnr_unregistered"] + 10
    gain = compare(scores)["flir"].gain
    assert gain["car"] == pytest.approx(ours["car"]["psnr"] - scores.summary()["flir"]["bilinear"]["car"]["psnr"])


def test_the_record_says_what_was_done_to_which_image(tmp_path: Path):
    records.write(filled(), tmp_path, 1.0, None)
    record = json.loads((tmp_path / "metrics.json").read_text())
    data = record["data"]["flir"]
    assert data["displacements"] == {"a": [2, -5], "b": [0, 0], "c": [-3, 0]}
    assert data["groups"] == {"car": 2, "optical blur": 1, "motion blur": 1, "complex scene": 1}
    assert "estimated from input and target alone" in record["protocol"]["text"]
    with (tmp_path / "metrics.csv").open() as file:
        first = next(csv.DictReader(file))
    assert (first["image"], first["groups"], first["down"], first["right"]) == ("a", "optical blur; car", "2", "-5")
    values = next(row.values for row in filled().rows)
    assert float(first["psnr_registered"]) == pytest.approx(values["psnr_registered"])


def test_the_tables_have_them_side_by_side(capsys):
    tables.show(filled())
    out = capsys.readouterr().out
    whole, groups = out.split("by group;")
    heading = next(line for line in whole.splitlines() if "method" in line)
    assert heading.index("standard") < heading.index("unregistered") < heading.rindex("registered")
    assert "registered +" in whole and "car" not in whole
    lines = [line for line in groups.splitlines() if "car" in line]
    assert len(lines) == 1 and lines[0].count("+") == 3


def test_without_either_nothing_changes(tmp_path: Path, capsys):
    restored, target = images()
    scores, zero = Scores(), torch.zeros(3, 1, dtype=torch.long)
    scores.add(Targets("flir", ["a", "b", "c"], zero, zero == 0, target, [Radiometry()] * 3), "Ours", restored)
    records.write(scores, tmp_path, 1.0, None)
    tables.show(scores)
    text = (tmp_path / "metrics.json").read_text() + (tmp_path / "metrics.csv").read_text() + capsys.readouterr().out
    assert "registered" not in text and "group" not in text and "displace" not in text


def test_groups_alone_need_no_displacement(capsys):
    restored, target = images()
    scores, zero = Scores(), torch.zeros(3, 1, dtype=torch.long)
    targets = Targets("flir", ["a", "b", "c"], zero, zero == 0, target, [Radiometry()] * 3, groups=GROUPS)
    scores.add(targets, "Ours", restored)
    tables.show(scores)
    out = capsys.readouterr().out
    assert "by group" in out and "registered" not in out
