"""What is counted, how it is averaged, and what is written."""

import csv
import hashlib
import json
import math
import socket
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from lit_thermal.batch import Radiometry
from lit_thermal.errors import InputError
from lit_thermal.evaluation import records, tables
from lit_thermal.evaluation.records import compare
from lit_thermal.evaluation.scores import Scores, Targets
from lit_thermal.evaluation.statistics import mean_interval
from lit_thermal.metrics import psnr, quantize, ssim

SHAPE = (1, 16, 18)
EIGHT = [Radiometry()]
WIDE = Radiometry(0.0, 65535.0, 16)


def noisy(target: Tensor, level: float, seed: int) -> Tensor:
    return (target + level * torch.randn(target.shape, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)


def clip(seed: int, frames: int) -> Tensor:
    return torch.rand(frames, *SHAPE, generator=torch.Generator().manual_seed(seed))


def window(first: int, clips: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Frames first to first + 6: their numbers, which are observed, the targets."""
    numbers = torch.arange(first, first + 7).expand(len(clips), 7)
    return numbers, numbers % 2 == 0, torch.stack([c[first : first + 7] for c in clips])


def fill(scores: Scores, level: float = 0.02) -> dict[str, dict[str, Tensor]]:
    """Two clips of 11 frames in windows from 0 and (right-aligned) 4; returns what should count."""
    clips = [clip(0, 11), clip(1, 11)]
    expected = {}
    for first in (0, 4):
        numbers, observed, target = window(first, clips)
        for method, factor in (("Ours", 1.0), ("bilinear", 3.0), ("nearest", 5.0)):
            restored = noisy(target, level * factor, seed=first)
            targets = Targets("simulated", ["a", "b"], numbers, observed, target, [Radiometry()] * 2)
            scores.add(targets, method, restored)
            if method == "Ours":
                values = quantize(restored, 255), quantize(target, 255)
                expected[first] = {"psnr": psnr(*values), "ssim": ssim(*values)}
    return {m: torch.cat([expected[0][m], expected[4][m][:, 3:]], dim=1) for m in ("psnr", "ssim")}


def test_frames_count_once_and_groups_and_clips_are_averaged() -> None:
    scores = Scores()
    expected = fill(scores)
    summary = scores.summary()["simulated"]
    assert list(summary) == ["Ours", "bilinear", "nearest"] == scores.methods
    even = torch.arange(11) % 2 == 0
    for metric, values in expected.items():
        for group, kept in (("all", even | ~even), ("observed", even), ("interpolated", ~even)):
            assert summary["Ours"][group][metric] == pytest.approx(values[:, kept].mean().item(), abs=1e-4)
    assert len([r for r in scores.rows if r.method == "Ours"]) == 22


def test_clips_weigh_the_same_whatever_their_length() -> None:
    scores = Scores()
    short, long = clip(0, 7), clip(1, 7)
    for first, frames in ((0, 7), (7, 7), (14, 7)):
        numbers = torch.arange(first, first + frames)[None]
        targets = Targets("d", ["long"], numbers, numbers % 2 == 0, long[None], [Radiometry()])
        scores.add(targets, "M", noisy(long[None], 0.01, 0))
    numbers = torch.arange(7)[None]
    targets = Targets("d", ["short"], numbers, numbers % 2 == 0, short[None], [Radiometry()])
    scores.add(targets, "M", noisy(short[None], 0.1, 0))
    found = scores.clips()["d"]["M"]["all"]
    mean = (found["long"]["psnr"] + found["short"]["psnr"]) / 2
    assert scores.summary()["d"]["M"]["all"]["psnr"] == pytest.approx(mean)
    assert found["long"]["psnr"] > found["short"]["psnr"] + 15


def test_the_earliest_window_counts_in_whatever_order_they_come() -> None:
    results = []
    for order in ((0, 4), (4, 0)):
        scores = Scores()
        for first in order:
            numbers, observed, target = window(first, [clip(0, 11)])
            targets = Targets("d", ["a"], numbers, observed, target, [Radiometry()])
            scores.add(targets, "M", noisy(target, 0.02, first))
        results.append(scores.rows)
    assert results[0] == results[1]


def test_images_have_the_group_all_only_and_no_measures_of_time() -> None:
    scores = Scores()
    target = torch.rand(3, 1, *SHAPE)
    one = torch.zeros(3, 1, dtype=torch.long)
    targets = Targets("images", ["a", "b", "c"], one, one == 0, target, [*EIGHT, *EIGHT, WIDE])
    scores.add(targets, "M", noisy(target, 0.02, 0))
    summary = scores.summary()["images"]["M"]
    assert list(summary) == ["all"]
    assert set(summary["all"]) == {
        "psnr",
        "ssim",
        "spectrum_distance",
        "feature_distance",
        "counts_mae",
        "order_violations",
        "hot_edge_error",
    }


def test_measures_of_time_belong_to_the_frames_that_have_neighbours() -> None:
    scores = Scores()
    numbers, observed, target = window(0, [clip(0, 7)])
    scores.add(Targets("d", ["a"], numbers, observed, target, [Radiometry()]), "M", noisy(target, 0.02, 0))
    has = {name: [r.frame for r in scores.rows if name in r.values] for name in scores.rows[3].values}
    assert "spectrum_distance" not in has
    assert has["temporal_difference"] == [1, 2, 3, 4, 5, 6]
    assert has["heat_residual"] == has["heat_residual_of_target"] == [1, 2, 3, 4, 5]
    assert has["profile_error"] == has["psnr"] == list(range(7))


def test_values_are_rounded_to_the_counts_of_each_file() -> None:
    target = torch.full((2, 1, *SHAPE), 0.5)
    restored = target + 1e-3
    scores = Scores()
    one = torch.zeros(2, 1, dtype=torch.long)
    scores.add(Targets("d", ["8", "16"], one, one == 0, target, [Radiometry(), WIDE]), "M", restored)
    found = scores.clips()["d"]["M"]["all"]
    assert found["8"]["psnr"] == 100  # both are 128 of 255
    assert found["16"]["psnr"] == pytest.approx(60, abs=0.1)
    targets = Targets("narrow", ["16"], one[:1], one[:1] == 0, target[:1], [Radiometry(0, 300, 16)])
    scores.add(targets, "M", restored[:1])
    assert scores.clips()["narrow"]["M"]["all"]["16"]["psnr"] == 100


def test_written_record_equals_recomputation(tmp_path: Path) -> None:
    scores = Scores()
    fill(scores)
    config = {"class_path": "THERIS", "init_args": {"scale": 4, "blocks": [1, 2]}}
    records.write(scores, tmp_path / "run", 1.5, config)
    record = json.loads((tmp_path / "run" / "metrics.json").read_text())
    lines = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))

    for method, groups in record["results"]["simulated"].items():
        for group, metrics in groups.items():
            for name, value in metrics.items():
                kept = [r for r in scores.rows if r.method == method and name in r.values]
                if group != "all":
                    kept = [r for r in kept if r.observed == (group == "observed")]
                clips = [[r.values[name] for r in kept if r.clip == c] for c in ("a", "b")]
                assert value == pytest.approx(sum(sum(v) / len(v) for v in clips) / 2)
                column = [float(x[name]) for x in lines if x["method"] == method and x["group"] == group]
                assert value == pytest.approx(sum(column) / 2)
    assert {(x["group"], x["frames"]) for x in lines} == {("all", "11"), ("observed", "6"), ("interpolated", "5")}
    assert record["data"]["simulated"] == {
        "clips": 2,
        "all": 22,
        "observed": 12,
        "interpolated": 10,
        "sizes": [[16, 18]],
        "bits": [8],
        "frames": {"a": "0-10", "b": "0-10"},
    }
    assert record["protocol"]["data_range"] == 1.0 and record["protocol"]["crop"] == 0
    assert record["protocol"]["heat_residual"] == {"diffusivity": 0.1, "alpha": 100.0}
    assert record["seconds"] == 1.5 and record["method"] == "Ours" and record["model"] == config
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    assert record["config_digest"] == digest
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["metrics.csv", "metrics.json"]


def test_the_record_has_intervals_over_clips_and_what_was_skipped(tmp_path: Path) -> None:
    scores = Scores()
    fill(scores)
    scores.cost = {"parameters": 3}
    records.write(scores, tmp_path, 0.0, None)
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["cost"] == {"parameters": 3} and set(record["skipped"]) >= {"ms_ssim"}
    for method, groups in record["results"]["simulated"].items():
        ends = record["intervals"]["simulated"][method]
        assert set(ends) == {"all"} and set(ends["all"]) == set(groups["all"])
        values = [clip["psnr"] for clip in scores.clips()["simulated"][method]["all"].values()]
        assert ends["all"]["psnr"] == pytest.approx(mean_interval(values)[1:])
        assert ends["all"]["psnr"][0] < groups["all"]["psnr"] < ends["all"]["psnr"][1]


def test_a_large_table_is_parquet_where_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    scores = Scores()
    fill(scores)
    records.write(scores, tmp_path, 0.0, None)
    lines = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    monkeypatch.setattr("lit_thermal.evaluation.records.LARGE", len(lines) - 1)
    records.write(scores, tmp_path, 0.0, None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.json", "metrics.parquet"]
    found = parquet.read_table(tmp_path / "metrics.parquet").to_pylist()
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in found] == lines
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    records.write(scores, tmp_path, 0.0, None)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.csv", "metrics.json"]
    assert "pip install 'lit_thermal[metrics]' for Parquet" in caplog.text


def test_comparison_names_the_strongest_baseline_and_the_clips_below(tmp_path: Path) -> None:
    scores = Scores()
    fill(scores)
    numbers, observed, target = window(0, [clip(2, 7)])
    for method, level in (("Ours", 0.1), ("bilinear", 0.05), ("nearest", 0.2)):
        targets = Targets("simulated", ["lost"], numbers, observed, target, [Radiometry()])
        scores.add(targets, method, noisy(target, level, 0))
    found = compare(scores)["simulated"]
    assert found.strongest == "bilinear"
    assert found.below == ["lost"]
    summary = scores.summary()["simulated"]
    for group in ("all", "observed", "interpolated"):
        gain = summary["Ours"][group]["psnr"] - summary["bilinear"][group]["psnr"]
        assert found.gain[group] == pytest.approx(gain)


def test_a_variant_is_ours_in_another_way_and_no_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = torch.zeros(3, 1, dtype=torch.long)
    target = torch.rand(3, 1, *SHAPE, generator=torch.Generator().manual_seed(0))
    scores = Scores()
    for method, level in (("Ours", 0.1), ("Ours mean of 4", 0.02), ("bilinear", 0.15), ("nearest", 0.2)):
        variant = method == "Ours mean of 4"
        restored = noisy(target, level, 1)
        targets = Targets("d", ["a", "b", "c"], one, one == 0, target, [Radiometry()] * 3)
        scores.add(targets, method, restored, variant=variant)
    scores.gather()
    assert (scores.variants, scores.baselines) == (["Ours mean of 4"], ["bilinear", "nearest"])
    found, summary = compare(scores)["d"], scores.summary()["d"]
    # Though it is better than ours, ours is not compared with it.
    assert (found.strongest, found.below) == ("bilinear", [])
    strongest = summary["bilinear"]["all"]["psnr"]
    assert found.gain["all"] == pytest.approx(summary["Ours"]["all"]["psnr"] - strongest)
    assert found.variants == {
        "Ours mean of 4": {"all": pytest.approx(summary["Ours mean of 4"]["all"]["psnr"] - strongest)}
    }
    tables.show(scores)
    text = capsys.readouterr().out
    assert f"Ours mean of 4: {found.variants['Ours mean of 4']['all']:+.2f} dB" in text
    assert "Spectrum distance" in text and f"{summary['Ours']['all']['spectrum_distance']:.4f}" in text
    records.write(scores, tmp_path, 0.0, None)
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["method"] == "Ours" and record["against_baselines"]["d"]["variants"] == found.variants
    assert record["results"]["d"]["Ours mean of 4"]["all"]["spectrum_distance"] > 0
    assert "spectrum_distance" in record["protocol"]["text"]
    assert (
        (tmp_path / "metrics.csv")
        .read_text()
        .startswith("dataset,image,method,psnr,ssim,spectrum_distance,feature_distance,counts_mae,")
    )
    # Without any baseline there is nothing to compare with.
    alone = Scores()
    for method in ("Ours", "Ours mean of 4"):
        restored, variant = noisy(target, 0.1, 1), method != "Ours"
        targets = Targets("d", ["a", "b", "c"], one, one == 0, target, [Radiometry()] * 3)
        alone.add(targets, method, restored, variant=variant)
    assert compare(alone) == {} and alone.baselines == []


def test_nan_counts_as_below_and_is_written_as_null(tmp_path: Path) -> None:
    scores = Scores()
    target = torch.rand(1, 1, *SHAPE)
    one = torch.zeros(1, 1, dtype=torch.long)
    scores.add(Targets("d", ["a"], one, one == 0, target, [Radiometry()]), "Ours", torch.full_like(target, math.nan))
    scores.add(Targets("d", ["a"], one, one == 0, target, [Radiometry()]), "nearest", noisy(target, 0.1, 0))
    assert compare(scores)["d"].below == ["a"]
    records.write(scores, tmp_path, 0.0, None)
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert record["results"]["d"]["Ours"]["all"]["psnr"] is None
    assert record["config_digest"] is None


def test_a_table_for_each_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    scores = Scores()
    fill(scores)
    target = torch.rand(1, 1, *SHAPE)
    one = torch.zeros(1, 1, dtype=torch.long)
    scores.add(Targets("images", ["x"], one, one == 0, target, [Radiometry()]), "Ours", noisy(target, 0.02, 0))
    tables.show(scores)
    text = capsys.readouterr().out
    first, second = text.split("images: 1 image;")
    assert "simulated: 2 clips, 22 frames (12 observed, 10 interpolated)" in first
    assert [w in first for w in ("Ours", "bilinear", "nearest", "observed", "interpolated")] == [True] * 5
    assert "clips below their strongest baseline: 0 of 2" in first
    assert not any(word in second for word in ("below", "observed", "clip", "frame", "blend"))
    value = scores.summary()["simulated"]["Ours"]["interpolated"]
    assert f"{value['psnr']:.2f} / {value['ssim']:.4f}" in first


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = Scores()
    fill(scores)
    records.write(scores, tmp_path, 0.0, None)
    before = (tmp_path / "metrics.json").read_text()

    def fail(*args: object, **options: object) -> int:
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(InputError, match="disk is full"):
        records.write(scores, tmp_path, 9.0, None)
    assert (tmp_path / "metrics.json").read_text() == before


def test_gather_in_one_process_changes_nothing() -> None:
    scores = Scores()
    fill(scores)
    before = scores.rows
    scores.gather()
    scores.gather()
    assert scores.rows == before


def test_an_empty_run_writes_an_empty_record(tmp_path: Path) -> None:
    scores = Scores()
    scores.gather()
    tables.show(scores)
    records.write(scores, tmp_path, 0.0, None)
    assert json.loads((tmp_path / "metrics.json").read_text())["results"] == {}


def _rank(rank: int, port: int, folder: str) -> None:
    """One of two processes: each sees one window of both clips, and the last batch twice."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    scores = Scores()
    first = 4 if rank == 0 else 0  # the later window on the first rank
    numbers, observed, target = window(first, [clip(0, 11), clip(1, 11)])
    for _ in range(2):
        targets = Targets("d", ["a", "b"], numbers, observed, target, [Radiometry()] * 2)
        scores.add(targets, "Ours", noisy(target, 0.02, first))
    scores.gather()
    torch.save([list(row) for row in scores.rows], f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_ranks_agree_with_a_single_process(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # forked, since a spawned process takes seconds to import what this one has
    multiprocessing.start_processes(_rank, args=(port, str(tmp_path)), nprocs=2, start_method="fork")
    single = Scores()
    for first in (0, 4):
        numbers, observed, target = window(first, [clip(0, 11), clip(1, 11)])
        targets = Targets("d", ["a", "b"], numbers, observed, target, [Radiometry()] * 2)
        single.add(targets, "Ours", noisy(target, 0.02, first))
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == [list(row) for row in single.rows]
