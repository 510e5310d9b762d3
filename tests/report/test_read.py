"""What a report reads of runs and sweeps, and what it says of folders that it cannot read."""

import json

import pytest
from made_runs import run_folder, sweep_folder

from lit_thermal.errors import InputError
from lit_thermal.report.read import read_run, read_studies, read_values

VALUES = {"test": {"psnr": {"a": 30.0, "b": 31.0}}}


def test_a_run(tmp_path):
    run = read_run(run_folder(tmp_path / "toy" / "1-test", VALUES, cost={"parameters": 7, "training_steps": 9}))
    assert (run.method, run.values, run.steps, run.gallery) == ("THERIS", VALUES, 9, {})
    assert run.logged == [
        {"step": 1, "train/loss": 0.5, "val/psnr": 20.0},
        {"step": 3, "train/loss": 0.25, "val/psnr": 21.5},
    ]
    bare = run_folder(tmp_path / "toy" / "2-test", VALUES)
    assert read_run(bare).cost == {} and read_run(bare).steps == 4


def test_curves_are_those_of_the_training_whose_checkpoint_was_tested(tmp_path):
    trained = run_folder(tmp_path / "1-fit", VALUES)
    tested = run_folder(tmp_path / "2-test", VALUES)
    (tested / "csv" / "version_0" / "metrics.csv").unlink()
    (tested / "config.yaml").write_text(f"ckpt_path: {trained}/checkpoints/best.ckpt\ntrainer: {{max_steps: -1}}\n")
    run = read_run(tested)
    assert len(run.logged) == 2 and run.steps == 4


def test_a_resumed_log_is_one(tmp_path):
    folder = run_folder(tmp_path / "1-fit", VALUES)
    later = folder / "csv" / "version_10"
    later.mkdir()
    (later / "metrics.csv").write_text("step,val/psnr\n3,22.0\n5,nan\n7,23.0\n")
    assert [(line["step"], line["val/psnr"]) for line in read_run(folder).logged] == [(1, 20.0), (3, 22.0), (7, 23.0)]


def test_values_of_clips_are_those_over_all_frames(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "dataset,clip,method,group,frames,psnr,ssim\nx,c,Toy,all,7,30,0.9\nx,c,Toy,observed,4,31,0.9\n"
        "x,c,bicubic,all,7,1,0.1\nx,d,Toy,all,7,31,\n"
    )
    assert read_values(tmp_path, "Toy") == {"x": {"psnr": {"c": 30.0, "d": 31.0}, "ssim": {"c": 0.9}}}


def test_a_large_table_is_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"dataset": ["x", "x"], "image": ["a", "b"], "method": ["Toy", "Toy"], "psnr": [30.0, None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "metrics.parquet")
    assert read_values(tmp_path, "Toy") == {"x": {"psnr": {"a": 30.0}}}


def test_a_sweep_has_a_row_for_each_point_with_its_seeds(tmp_path):
    points = [
        ("full", {"config": "full.yaml"}, 1, VALUES),
        ("full", {"config": "full.yaml"}, 0, VALUES),
        ("part", {"config": "part.yaml"}, 0, "failed"),
        ("part", {"config": "part.yaml"}, 1, "missing"),
    ]
    (study,) = read_studies([sweep_folder(tmp_path / "s", points)])
    assert (study.stem, study.overrides) == ("theris_ablation", ("--trainer.max_steps=4",))
    assert [(row.name, [run.seed for run in row.runs]) for row in study.rows] == [("full", [0, 1]), ("part", [])]
    assert study.rows[1].missing == ("seed 0 failed", "seed 1 has not finished")


def test_a_metric_that_is_nan_on_an_image_has_no_mean(tmp_path):
    values = {"test": {"psnr": {"a": 30.0, "b": float("nan")}, "ssim": {"a": 0.8, "b": 0.9}}}
    assert read_run(run_folder(tmp_path / "toy" / "1-test", values)).values == {"test": {"ssim": {"a": 0.8, "b": 0.9}}}


def test_a_point_that_diverged_is_missing_and_ends_no_report(tmp_path):
    nothing = {"test": {"psnr": {"a": float("nan"), "b": float("nan")}}}
    points = [("full", {"beta": 0}, 0, VALUES), ("full", {"beta": 0}, 1, nothing), ("part", {"beta": 1}, 0, nothing)]
    (study,) = read_studies([sweep_folder(tmp_path / "s", points)])
    assert [[run.seed for run in row.runs] for row in study.rows] == [[0], []]
    assert [row.missing for row in study.rows] == [("seed 1 diverged",), ("seed 0 diverged",)]
    with pytest.raises(InputError, match="measured to NaN"):
        read_run(run_folder(tmp_path / "toy" / "1-test", nothing))


def test_runs_are_one_study_and_each_sweep_another(tmp_path):
    runs = [run_folder(tmp_path / "x" / f"{n}-test", VALUES) for n in (1, 2)]
    other = run_folder(tmp_path / "y" / "1-test", VALUES)
    sweep = sweep_folder(tmp_path / "s", [("full", {"a": 1}, 0, VALUES)])
    first, second = read_studies([*runs, sweep, other])
    assert first.stem == "theris_ablation" and second.stem is None
    assert [row.name for row in second.rows] == ["x 1-test", "x 2-test", "y"]
    (study,) = read_studies(runs, ["with", "without"])
    assert [row.name for row in study.rows] == ["with", "without"]
    with pytest.raises(InputError, match="1 different names for 2 runs"):
        read_studies(runs, ["same", "same"])


def test_wrong_folders_get_one_sentence(tmp_path):
    def said(path):
        with pytest.raises(InputError) as error:
            read_studies([path])
        return str(error.value)

    assert "there is no folder" in said(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "has neither sweep.json nor metrics.json, so it is neither a sweep nor a tested run" in said(
        tmp_path / "empty"
    )
    run = run_folder(tmp_path / "run", VALUES)
    (run / "metrics.csv").write_text("dataset,image,method,psnr\n")
    assert "has no number of THERIS; run `test` again" in said(run)
    (run / "metrics.csv").unlink()
    assert "no metrics.csv beside it" in said(run)
    (run / "metrics.json").write_text("[]")
    assert "metrics.json is not what `test` writes" in said(run)
    (run / "metrics.json").write_text("{")
    assert "metrics.json cannot be read" in said(run)
    (run / "metrics.json").write_text(json.dumps({"method": None, "results": {}}))
    assert "method is None and must be text; run `test` again" in said(run)
    unfinished = sweep_folder(tmp_path / "s", [("full", {"a": 1}, 0, "missing")])
    assert "no point of the sweep theris_ablation has finished" in said(unfinished)
