"""The curve of a test under several conditions: what is written, and what is drawn."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from lit_thermal.batch import Batch, Radiometry, collate
from lit_thermal.callbacks import RobustnessCurve, SamplePictures
from lit_thermal.data.degradations.conditions import (
    BlurredInput,
    Complete,
    Condition,
    DisplacedGuide,
    GuideOnly,
    MisalignedGuide,
    NoisyInput,
    ShuffledGuide,
    ThermalOnly,
)
from lit_thermal.evaluation.baselines import reference_baseline
from lit_thermal.evaluation.levels import BASELINE, curves, guided_curves, read_levels
from lit_thermal.methods.base import SuperResolver


class Guided(SuperResolver):
    """The first channel of the guide where there is one, else the enlarged input."""

    def restore(self, batch: Batch) -> Tensor:
        return torch.where(batch["has_guide"].view(-1, 1, 1, 1), batch["guide"][:, :1], reference_baseline(batch, 4))

    def training_step(self, batch: Batch, batch_idx: int) -> None: ...


class Pairs(LightningDataModule):
    """Five smooth pairs under given conditions; the guide is the target."""

    scale = 4
    size = 64

    def __init__(self, *conditions: Condition) -> None:
        super().__init__()
        self.conditions = conditions
        self.test_names = [f"pairs_{c.suffix}".rstrip("_") for c in conditions]
        self.samples = [self.pair(i) for i in range(5)]

    def pair(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        coarse = torch.rand(1, 1, 12, 12, generator=generator)
        hr = torch.nn.functional.interpolate(coarse, self.size, mode="bicubic")[0].clamp(0, 1)
        return {
            "name": f"{index}",
            "hr": hr,
            "lr": torch.nn.functional.avg_pool2d(hr, 4),
            "guide": hr.expand(3, -1, -1),
            "has_lr": torch.tensor(True),
            "has_guide": torch.tensor(True),
            "radiometry": Radiometry(),
        }

    def test_dataloader(self) -> list[DataLoader[Any]]:
        return [
            DataLoader([c(s, i, self.samples) for i, s in enumerate(self.samples)], 2, collate_fn=collate)  # type: ignore[arg-type]
            for c in self.conditions
        ]


def run(folder: Path, data: LightningDataModule, *callbacks: Any) -> Guided:
    trainer = Trainer(
        default_root_dir=folder,
        logger=False,
        callbacks=list(callbacks),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    model = Guided(4)
    trainer.test(model, data, verbose=False)
    return model


def test_table_and_picture_of_all_conditions(tmp_path):
    moved = [DisplacedGuide(pixels) for pixels in (0, 2, 8)]
    model = run(tmp_path, Pairs(Complete(), ThermalOnly(), GuideOnly(), ShuffledGuide(), *moved), RobustnessCurve())
    rows = {row["condition"]: row for row in csv.DictReader((tmp_path / "robustness.csv").open())}
    assert list(rows)[:4] == ["complete", "thermal_only", "guide_only", "shuffled_guide"]
    assert [rows[f"displaced_{p}"]["at"] for p in (0, 2, 8)] == ["0", "2", "8"]
    assert rows["displaced_2"]["varied"] == "displacement of the guide" and not rows["complete"]["varied"]
    baseline = next(name for name in rows if name.startswith(BASELINE))
    assert {row["images"] for row in rows.values()} == {"5"}
    summary = model.evaluator.scores.summary()
    for condition, dataset in (("complete", "pairs"), ("guide_only", "pairs_guide_only")):
        for metric in ("psnr", "ssim"):
            assert float(rows[condition][metric]) == pytest.approx(summary[dataset]["Guided"]["all"][metric])
    strongest = max(values["all"]["psnr"] for name, values in summary["pairs"].items() if name != "Guided")
    assert float(rows[baseline]["psnr"]) == pytest.approx(strongest)
    curve = [float(rows[f"displaced_{p}"]["psnr"]) for p in (0, 2, 8)]
    assert curve == sorted(curve, reverse=True) and curve[0] == float(rows["complete"]["psnr"])
    filters = guided_curves(read_levels(tmp_path / "robustness.csv"))["displacement of the guide"]
    assert set(filters) >= {"guided filter", "guided filter, registered"}
    lost = {name: points[0].values["psnr"] - points[-1].values["psnr"] for name, points in filters.items()}
    assert lost["guided filter"] > 1 and lost["guided filter, registered"] < lost["guided filter"]
    picture = np.asarray(Image.open(tmp_path / "robustness.png"))
    assert picture.shape[1] > 1000 and picture.std() > 10
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_misalignments_are_levels_of_the_picture(tmp_path):
    severities = [MisalignedGuide(severity=severity) for severity in ("light", "medium", "strong")]
    run(tmp_path, Pairs(Complete(), *severities, DisplacedGuide(0), DisplacedGuide(4)), RobustnessCurve())
    rows = {row["condition"]: row for row in csv.DictReader((tmp_path / "robustness.csv").open())}
    psnr = [float(rows[name]["psnr"]) for name in ("complete", "combined_light", "combined_medium", "combined_strong")]
    assert psnr == sorted(psnr, reverse=True) and psnr[0] > psnr[3] + 3
    assert all(not rows[f"combined_{severity.severity}"]["varied"] for severity in severities)
    assert (tmp_path / "robustness.png").exists()


def test_each_data_set_has_a_curve(tmp_path):
    class Two(Pairs):
        def test_dataloader(self) -> list[DataLoader[Any]]:
            return super().test_dataloader() * 2

    data = Two(Complete(), DisplacedGuide(0), DisplacedGuide(4))
    data.test_names = [f"{name}{end}" for name in ("one", "two") for end in ("", "_displaced_0", "_displaced_4")]
    run(tmp_path, data, RobustnessCurve())
    assert sorted(path.name for path in tmp_path.glob("robustness*")) == [
        "robustness_one.csv", "robustness_one.png", "robustness_two.csv", "robustness_two.png",
    ]  # fmt: skip
    one, two = (read_levels(tmp_path / f"robustness_{name}.csv") for name in ("one", "two"))
    assert [level.condition for level in one][:3] == ["complete", "displaced_0", "displaced_4"] and one == two
    assert one[2].at == 4 and one[0].at is None and one[0].images == 5
    assert (one[2].varied, one[2].unit) == ("displacement of the guide", "pixels of the target")


def test_worse_inputs_have_a_panel_each_and_the_baseline_suffers_too(tmp_path):
    worse = [NoisyInput(500), NoisyInput(2000), BlurredInput(1.0)]
    model = run(tmp_path, Pairs(Complete(), ThermalOnly(), *worse, DisplacedGuide(4)), RobustnessCurve())
    levels = read_levels(tmp_path / "robustness.csv")
    ours, baselines = curves(levels), curves(levels, baseline=True)
    assert {name: [level.at for level in points] for name, points in ours.items()} == {
        "noise of the input": [0, 500, 2000],
        "blur of the input": [0, 1],
        "displacement of the guide": [0, 4],
    }, "the data as they are begin each curve"
    assert list(baselines) == ["noise of the input", "blur of the input"], "a guide does not reach a baseline"
    summary = model.evaluator.scores.summary()
    name = baselines["noise of the input"][0].condition.removeprefix(BASELINE)
    for number, dataset in enumerate(("pairs", "pairs_netd_500", "pairs_netd_2000")):
        assert ours["noise of the input"][number].values["psnr"] == summary[dataset]["Guided"]["all"]["psnr"]
        assert baselines["noise of the input"][number].values["psnr"] == summary[dataset][name]["all"]["psnr"]
    psnr = [level.values["psnr"] for level in baselines["noise of the input"]]
    assert psnr[0] > psnr[1] > psnr[2] and psnr[0] > psnr[2] + 3
    tall = np.asarray(Image.open(tmp_path / "robustness.png")).shape
    run(tmp_path, Pairs(Complete(), NoisyInput(500)), RobustnessCurve())
    low = np.asarray(Image.open(tmp_path / "robustness.png")).shape
    assert tall[0] == 3 * low[0] and tall[1] == low[1]


def test_without_displacements_there_is_a_table_alone(tmp_path):
    run(tmp_path, Pairs(Complete(), GuideOnly()), RobustnessCurve())
    assert (tmp_path / "robustness.csv").exists() and not (tmp_path / "robustness.png").exists()


def test_one_condition_or_other_data_leave_nothing(tmp_path):
    run(tmp_path, Pairs(Complete()), RobustnessCurve())
    plain = Pairs(Complete(), GuideOnly())
    del plain.conditions
    plain.test_dataloader = lambda: Pairs.test_dataloader(Pairs(Complete(), GuideOnly()))  # type: ignore[method-assign]
    run(tmp_path, plain, RobustnessCurve())
    assert not list(tmp_path.glob("robustness*"))


@pytest.mark.parametrize("size", [64, 272])
def test_sample_pictures_with_and_without_each_camera(tmp_path, monkeypatch, size):
    monkeypatch.setattr(Pairs, "size", size)
    run(tmp_path, Pairs(Complete(), ThermalOnly(), GuideOnly()), SamplePictures(clips=1))
    widths = [
        Image.open(tmp_path / "samples" / name / "0.png").width
        for name in ("pairs", "pairs_thermal_only", "pairs_guide_only")
    ]
    # Guide, input, baseline, output, target and two errors; then without the guide; then without input and baseline.
    assert widths == [round(210 * panels + 80) for panels in (7, 6, 4)]
