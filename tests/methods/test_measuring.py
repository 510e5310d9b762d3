"""What every method inherits: how images are measured, with a camera missing and under several protocols."""

import csv
import json
import math
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from lit_thermal.batch import Batch, Radiometry, collate
from lit_thermal.errors import InputError
from lit_thermal.evaluation.baselines import TunedBaselines, image_baselines
from lit_thermal.evaluation.guided_baselines import FILTERS, REGISTERED
from lit_thermal.evaluation.protocols import CoReFusionNotebook, CoReFusionTrainer
from lit_thermal.methods.base import SuperResolver
from lit_thermal.metrics.quality import quantize
from lit_thermal.metrics.spectrum import spectrum_distance

ENLARGED = {"nearest", "bilinear", "bicubic (a=-0.75)", "bicubic (a=-0.5)"}
BASELINES = ENLARGED | {f"{name}{end}" for name in FILTERS for end in ("", REGISTERED)}


class Guided(SuperResolver):
    """The mean of the guide where there is one, else the enlarged input."""

    def __init__(self, size: int = 16) -> None:
        super().__init__(4)
        self.size = size
        self.protocols = (CoReFusionTrainer, CoReFusionNotebook)

    def restore(self, batch: Batch) -> Tensor:
        large = torch.nn.functional.interpolate(batch["lr"], self.size, mode="bilinear")
        guide = batch["guide"].mean(dim=1, keepdim=True)[..., : self.size, : self.size]
        return torch.where(batch["has_guide"].view(-1, 1, 1, 1), guide, large)

    def training_step(self, batch: Batch, batch_idx: int) -> None: ...


class Pairs(LightningDataModule):
    """Test sets by name, each a list of samples."""

    scale = 4

    def __init__(self, batch_size: int = 2, **sets: list[dict[str, Any]]) -> None:
        super().__init__()
        self.sets, self.batch_size = sets, batch_size
        self.test_names = list(sets)

    def test_dataloader(self) -> list[DataLoader[Any]]:
        return [DataLoader(s, self.batch_size, collate_fn=collate) for s in self.sets.values()]  # type: ignore[arg-type]


def pair(name: str, lr: bool = True, guide: bool = True) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(int(name))
    hr = torch.nn.functional.interpolate(torch.rand(1, 1, 5, 5, generator=generator), 16, mode="bilinear")[0]
    return {
        "name": name,
        "hr": hr,
        "lr": torch.nn.functional.avg_pool2d(hr, 4) * lr,
        "guide": (hr * 0.98).expand(3, -1, -1) * guide,
        "has_lr": torch.tensor(lr),
        "has_guide": torch.tensor(guide),
        "radiometry": Radiometry(),
    }


def run(tmp_path: Path, data: LightningDataModule, model: SuperResolver) -> dict[str, Any]:
    trainer = Trainer(
        default_root_dir=tmp_path,
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    found = trainer.test(model, data, verbose=False)
    return json.loads((tmp_path / "metrics.json").read_text()) | {"logged": {k: v for f in found for k, v in f.items()}}


def conditions(count: int = 3) -> dict[str, list[dict[str, Any]]]:
    return {
        "pairs": [pair(str(i)) for i in range(count)],
        "pairs_thermal_only": [pair(str(i), guide=False) for i in range(count)],
        "pairs_guide_only": [pair(str(i), lr=False) for i in range(count)],
    }


def test_every_set_and_method_is_measured_under_every_protocol(tmp_path):
    record = run(tmp_path, Pairs(**conditions()), Guided())
    protocols = record["protocols"]
    assert set(protocols) == {"pairs", "pairs_thermal_only", "pairs_guide_only"}
    assert set(protocols["pairs"]) == {"Guided"} | BASELINES == set(protocols["pairs_thermal_only"])
    assert set(protocols["pairs_guide_only"]) == {"Guided"} == set(record["results"]["pairs_guide_only"])
    assert set(protocols["pairs"]["bilinear"]) == {"trainer", "notebook"} == set(record["protocol"]["others"])
    hr = torch.stack([pair(str(i))["hr"] for i in range(3)])
    notebook = CoReFusionNotebook()
    notebook.update(hr * 0.98, hr)
    assert protocols["pairs"]["Guided"]["notebook"] == pytest.approx(notebook.compute(), abs=1e-4)
    # A baseline is an image of its own, as it would be written: the papers' were enlarged by OpenCV in 8 bits.
    for protocol in (CoReFusionTrainer(), CoReFusionNotebook()):
        for sample in (pair(str(i)) for i in range(3)):
            large = image_baselines(sample["lr"][None], 4)["bilinear"]
            protocol.update((255 * large).round() / 255, sample["hr"][None])
        assert protocols["pairs"]["bilinear"][protocol.name] == pytest.approx(protocol.compute(), abs=1e-6)
    assert record["logged"]["test/pairs/psnr_notebook"] == pytest.approx(notebook.compute()["psnr"], abs=1e-3)
    assert record["data"]["pairs"] == {"images": 3, "sizes": [[16, 16]], "bits": [8], "names": ["0", "1", "2"]}
    table = (tmp_path / "metrics.csv").read_text()
    assert table.startswith(
        "dataset,image,method,psnr,ssim,spectrum_distance,feature_distance,counts_mae,order_violations,hot_edge_error\npairs,0,"
    )
    distance = spectrum_distance(quantize(hr * 0.98, 255), quantize(hr, 255)).mean()
    assert record["results"]["pairs"]["Guided"]["all"]["spectrum_distance"] == pytest.approx(float(distance), abs=1e-6)
    assert record["logged"]["test/pairs/spectrum_distance"] == pytest.approx(float(distance), abs=1e-6)


def test_measures_and_baselines_do_not_depend_on_the_precision_of_the_model(tmp_path):
    class HalfBatches(Guided):
        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            with torch.autocast("cpu", torch.bfloat16):
                super().validation_step(batch, batch_idx)

        def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
            with torch.autocast("cpu", torch.bfloat16):
                return super().test_step(batch, batch_idx, dataloader_idx)

    found = [run(tmp_path, Pairs(**conditions()), kind()) for kind in (Guided, HalfBatches)]
    for key in ("results", "protocols"):
        for whole, half in zip(*(record[key].values() for record in found), strict=True):
            assert {m: v for m, v in whole.items() if m in BASELINES} == {m: half[m] for m in half if m in BASELINES}
        assert found[0][key]["pairs"]["Guided"] == found[1][key]["pairs"]["HalfBatches"]
    scores = []
    for kind in (Guided, HalfBatches):
        model = kind()
        model.validation_step(collate([pair("0"), pair("1")]), 0)
        scores.append([row.values for row in model.evaluator.scores.rows])
    assert scores[0] == scores[1]


def test_one_table_for_a_set_and_one_for_its_conditions(tmp_path, capsys):
    run(tmp_path, Pairs(**conditions()), Guided())
    text = " ".join(capsys.readouterr().out.split())  # captions are folded to the width of their table
    assert "pairs: 3 images; PSNR in dB / SSIM" in text
    assert "Guided on the 3 images of pairs under other conditions" in text
    assert "pairs: thermal metrics, lower is better" in text and "error in counts" in text
    # The strongest baseline stands in both tables, the others in the first.
    assert text.count("notebook") == 3 and text.count("bilinear") == 1 and text.count("bicubic (a=-0.75)") == 1
    assert "Error at hot edges" in text and re.search(r"Guided │ \S+ │ \S+ │ \S+ │ │ guided filter │", text)
    assert "no thermal input" in text and "images below their strongest baseline: 1 of 3" in text
    assert re.search(
        r"over the strongest baseline: \+\S+ dB, trainer \+\S+ dB, notebook \+\S+ dB", " ".join(text.split())
    )
    assert not any(word in text for word in ("clips", "frames", "blend"))


def test_samples_without_a_thermal_input_have_no_baselines(tmp_path, capsys):
    mixed = [pair("0"), pair("1", lr=False), pair("2"), pair("3", lr=False)]
    record = run(tmp_path, Pairs(mixed=mixed), Guided())
    lines = [line.split(",")[1:3] for line in (tmp_path / "metrics.csv").read_text().splitlines()[1:]]
    assert {name for name, method in lines if method == "bilinear"} == {"0", "2"}
    assert {name for name, method in lines if method == "Guided"} == {"0", "1", "2", "3"}
    alone = run(tmp_path, Pairs(mixed=[mixed[0], mixed[2]]), Guided())
    for key in ("results", "protocols"):
        assert record[key]["mixed"]["bilinear"] == alone[key]["mixed"]["bilinear"]
    assert record["against_baselines"]["mixed"]["gain"] == pytest.approx(alone["against_baselines"]["mixed"]["gain"])
    assert "the 2 images with a thermal input" in capsys.readouterr().out


def test_a_baseline_of_nothing_is_nan_and_nothing_is_tuned_on_it():
    batch = collate([pair("0", lr=False), pair("1")])
    baselines = TunedBaselines(4)
    alone = TunedBaselines(4)
    baselines.tune([collate([pair("0", lr=False)]), batch])
    alone.tune([collate([pair("1")])])
    assert baselines.sigmas == alone.sigmas
    found = baselines(batch)
    assert set(found) >= ENLARGED
    for name, large in found.items():
        assert large[0].isnan().all()
        torch.testing.assert_close(large[1:], alone(collate([pair("1")]))[name])
    assert baselines(collate([pair("0", lr=False)])) == {}


def test_callbacks_get_what_was_restored(tmp_path):
    model = Guided()
    seen = []
    model.test_step = lambda *args: seen.append(SuperResolver.test_step(model, *args)) or seen[-1]  # type: ignore[method-assign]
    run(tmp_path, Pairs(pairs=[pair("0")]), model)
    assert next(iter(seen[0])) == "Guided" and set(seen[0]) == {"Guided"} | BASELINES
    torch.testing.assert_close(seen[0]["Guided"][0], pair("0")["hr"] * 0.98)


class Several(Guided):
    """Also restores the guide as bright as the target, and darker."""

    def variants(self, batch: Batch) -> dict[str, Tensor]:
        return {"mean of 4": self.restore(batch) / 0.98 + 1e-4, "darker": 0.5 * self.restore(batch)}


def test_variants_are_measured_beside_and_are_no_baselines(tmp_path, capsys):
    mixed = [pair("0"), pair("1", lr=False), pair("2")]
    plain = run(tmp_path / "plain", Pairs(mixed=mixed), Guided())
    capsys.readouterr()
    record = run(tmp_path, Pairs(mixed=mixed), Several())
    names = ["Several", "Several mean of 4", "Several darker"]
    for key in ("results", "protocols"):
        assert list(record[key]["mixed"])[:3] == names and set(record[key]["mixed"]) == {*names} | BASELINES
        assert record[key]["mixed"]["Several"] == plain[key]["mixed"]["Guided"]
        assert record[key]["mixed"]["bilinear"] == plain[key]["mixed"]["bilinear"]
    ours, without = record["against_baselines"]["mixed"], plain["against_baselines"]["mixed"]
    assert ours | {"variants": {}} == without and set(ours["variants"]) == set(names[1:])
    assert (
        ours["variants"]["Several mean of 4"]["all"] > ours["gain"]["all"] > ours["variants"]["Several darker"]["all"]
    )
    lines = [line.split(",")[1:3] for line in (tmp_path / "metrics.csv").read_text().splitlines()[1:]]
    for name in names:  # measured where the thermal input is absent, too
        assert [image for image, method in lines if method == name] == ["0", "1", "2"]
    text = capsys.readouterr().out
    assert all(name in text for name in names) and "images below their strongest baseline: 0 of 2" in text
    # The protocols get a variant as the network gave it, like ours, and not rounded as the baselines are.
    notebook = CoReFusionNotebook()
    hr = torch.stack([sample["hr"] for sample in mixed])
    notebook.update(hr * 0.98 / 0.98 + 1e-4, hr)
    assert record["protocols"]["mixed"]["Several mean of 4"]["notebook"] == pytest.approx(notebook.compute(), abs=1e-3)
    assert record["logged"] == pytest.approx(plain["logged"], abs=1e-6), "logged are the numbers of ours"


def test_a_variant_of_another_size_is_one_sentence(tmp_path):
    class Small(Guided):
        def variants(self, batch: Batch) -> dict[str, Tensor]:
            return {"small": batch["lr"]}

    with pytest.raises(InputError, match=r"Small small restores 0 to 4 x 4 and its target is 16 x 16"):
        run(tmp_path, Pairs(pairs=[pair("0")]), Small())


def test_a_black_image_is_finite_and_reported_once(tmp_path):
    black = [pair(str(i)) | {"hr": torch.zeros(1, 16, 16), "lr": torch.zeros(1, 4, 4)} for i in range(3)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record = run(tmp_path, Pairs(pairs=[pair("7"), *black]), Guided())
    reported = [str(w.message) for w in caught if "all black" in str(w.message)]
    assert len(reported) == 1 and "target 0 of pairs" in reported[0]
    numbers = [v for p in record["protocols"]["pairs"].values() for m in p.values() for v in m.values()]
    assert all(v is not None and math.isfinite(v) for v in numbers)


def test_a_target_of_another_size_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"Guided restores 0 to 12 x 12 and its target is 16 x 16; .* 4 times"):
        run(tmp_path, Pairs(pairs=[pair("0")]), Guided(size=12))


def test_displaced_targets_are_measured_both_ways_and_by_group(tmp_path):
    def moved(name: str, down: int, groups: list[str]) -> dict[str, Any]:
        sample = pair(name)
        hr = torch.roll(sample["hr"], down, -2)
        return sample | {"hr": hr, "displacement": torch.tensor([down, 0]), "groups": groups}

    pairs = [moved("1", 3, ["motion blur"]), moved("2", -2, []), moved("3", 0, ["motion blur"])]
    record = run(tmp_path, Pairs(pairs=pairs), Guided())
    ours = record["results"]["pairs"]["Guided"]
    assert ours["all"]["psnr_registered"] > ours["all"]["psnr_unregistered"] + 3
    hr = pairs[0]["hr"][:, 3:]
    # The guide is the target before it was moved, a little darker.
    expected = -10 * (quantize(hr[None] * 0.98, 255)[0] - quantize(hr[None], 255)[0]).square().mean().log10()
    with (tmp_path / "metrics.csv").open() as table:
        assert float(next(csv.DictReader(table))["psnr_registered"]) == pytest.approx(float(expected), abs=1e-3)
    logged = record["logged"]
    assert logged["test/pairs/psnr_registered_motion_blur"] == pytest.approx(ours["motion blur"]["psnr_registered"])
    for method in BASELINES:
        assert {"psnr_registered", "ssim_registered"} <= set(record["results"]["pairs"][method]["motion blur"])
    assert record["data"]["pairs"]["displacements"] == {"1": [3, 0], "2": [-2, 0], "3": [0, 0]}


def test_a_target_smaller_than_the_window_of_ssim_is_named(tmp_path):
    small = pair("1") | {"hr": torch.zeros(1, 8, 8), "lr": torch.zeros(1, 2, 2), "guide": torch.zeros(3, 8, 8)}
    with pytest.raises(InputError, match=r"^the target of 1 is 8 x 8, and SSIM needs 11 x 11 or more: leave it out or"):
        run(tmp_path, Pairs(a=[small]), Guided(8))


class Trained(Guided):
    """One number that is trained for steps which take no time."""

    def __init__(self) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.zeros(()))
        self.frozen = torch.nn.Parameter(torch.zeros(5), requires_grad=False)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.level.square()


def fit(tmp_path: Path, model: SuperResolver, steps: int, resume: Path | None = None) -> Path:
    trainer = Trainer(
        default_root_dir=tmp_path,
        max_steps=steps,
        logger=False,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    loader = DataLoader([pair("0"), pair("1")], 1, collate_fn=collate)  # type: ignore[arg-type]
    data = LightningDataModule.from_datasets()
    data.train_dataloader = lambda: loader  # type: ignore[method-assign]
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=False)
    trainer.save_checkpoint(tmp_path / f"{steps}.ckpt")
    return tmp_path / f"{steps}.ckpt"


def test_what_training_took_stays_with_the_weights_and_adds_up(tmp_path, monkeypatch):
    clock = iter(range(0, 10**6, 10))
    monkeypatch.setattr("lit_thermal.evaluation.stopwatch.time.perf_counter", lambda: next(clock))
    first = fit(tmp_path, Trained(), 3)
    record = torch.load(first, weights_only=False)["lit_thermal"]
    assert record["training_seconds"] == 10 and record["training_steps"] == 3
    second = fit(tmp_path, Trained(), 5, resume=first)
    model = Trained()
    model.on_load_checkpoint(torch.load(second, weights_only=False))
    assert (model.training_time.seconds, model.training_time.steps) == (20, 5)
    cost = run(tmp_path, Pairs(pairs=[pair("0"), pair("1")], batch_size=1), model)["cost"]
    assert cost == {
        "parameters": 6,
        "trainable_parameters": 1,
        "training_seconds": 20,
        "training_steps": 5,
        "seconds_per_image": 10,
        "peak_memory_bytes": cost["peak_memory_bytes"],
        "device": "cpu",
        "threads": torch.get_num_threads(),
    }
    assert cost["peak_memory_bytes"] > 2**26
    untrained = run(tmp_path, Pairs(pairs=[pair("0")]), Guided())["cost"]
    assert untrained["parameters"] == 0 and untrained["training_seconds"] is None


def test_metrics_that_are_asked_for_are_measured_or_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    model = Guided()
    model.metrics = ("lpips", "musiq")
    monkeypatch.setitem(sys.modules, "pyiqa.utils.download_util", None)
    record = run(tmp_path, Pairs(pairs=[pair("0")]), model)
    assert record["skipped"]["lpips"].startswith("lpips needs frames of at least 31 x 31, and 0 is 16 x 16")
    text = " ".join(capsys.readouterr().out.split())
    assert "lpips not measured: lpips needs frames" in text
    assert "pip install 'lit_thermal[metrics]'" in text
    model.metrics = ("lpisp",)
    with pytest.raises(InputError, match="there is no metric 'lpisp'"):
        run(tmp_path, Pairs(pairs=[pair("0")]), model)
