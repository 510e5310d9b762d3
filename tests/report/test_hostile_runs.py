"""Run folders that somebody edited: one sentence with the file's name, and nothing of what is outside them."""

import csv
import json
import os
import re

import numpy as np
import pytest
from made_runs import run_folder, sweep_folder
from PIL import Image

from lit_thermal.cli.dispatch import main
from lit_thermal.errors import InputError
from lit_thermal.report.page import write_report
from lit_thermal.report.read import read_studies

VALUES = {"simulated": {"psnr": {"a": 30.0, "b": 31.5}, "ssim": {"a": 0.9, "b": 0.95}}}


@pytest.fixture
def run(tmp_path):
    """A run with pictures, beside a picture that is none of its own."""
    Image.fromarray(np.full((24, 32), 77, np.uint8)).save(tmp_path / "secret.png")
    return run_folder(tmp_path / "exp" / "1-test", VALUES, gallery=True)


def said(run, out=None):
    with pytest.raises(InputError) as error:
        write_report(read_studies([run]), out or run.parents[1] / "report")
    assert not (run.parents[1] / "report" / "index.html").exists()
    return str(error.value)


def gallery(run, **files):
    path = run / "gallery" / "gallery.json"
    record = json.loads(path.read_text())
    record["datasets"]["simulated"][0]["files"].update(files)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("name", ["{0}/secret.png", "../../../secret.png", "simulated/../../../../secret.png", "a\0b"])
def test_pictures_outside_of_the_run_are_not_shown(run, tmp_path, name):
    for kind in ("hr", "guide"):
        gallery(run, **{kind: [name.format(tmp_path)]})
        assert "gallery.json names" in said(run)


def test_links_that_lead_out_of_the_run_are_not_followed(run, tmp_path):
    picture = run / "gallery" / "simulated" / "a" / "hr.png"
    picture.unlink()
    picture.symlink_to(tmp_path / "secret.png")
    assert "hr.png leads out of" in said(run)
    (run / "gallery").rename(tmp_path / "elsewhere")
    (run / "gallery").symlink_to(tmp_path / "elsewhere")
    assert "gallery.json leads out of" in said(run)
    (run / "gallery").unlink()
    (run / "metrics.csv").unlink()
    (run / "metrics.csv").symlink_to("/etc/hostname")
    assert "metrics.csv leads out of" in said(run)


def test_what_is_no_picture_is_not_shown(run):
    picture = run / "gallery" / "simulated" / "a" / "restored.png"
    picture.write_text("%!PS-Adobe-3.0 EPSF-3.0")
    assert "restored.png is listed in gallery.json but is not a PNG" in said(run)
    Image.fromarray(np.zeros((12, 32), np.uint8)).save(picture)
    assert "differ in size" in said(run)
    gallery(run, restored=["simulated/a/secret.txt"])
    assert "does not exist" in said(run)
    gallery(run, restored=[])
    assert "no result of a" in said(run)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("25.0", "Infinity", "metrics.json has Infinity"),
        ("25.0", '"25"', "psnr is '25' and must be a number"),
        ("25.0", "1e308", "psnr is 1e+308 and must be a number from -1e+30 to 1e+30"),
        ("25.0", "9" * 5000, "a number of 5000 digits"),
        ('"method"', '"methods"', "the key method is missing"),
        ('"images": 2', '"images": -2', "data.simulated.images is -2"),
        ('"method"', '"method": "x", "method"', "the key 'method' twice"),
        ("Gray", "\\ud800", "half a character"),
    ],
)
def test_an_edited_record_is_reported_by_its_key(run, old, new, says):
    file = run / "metrics.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    assert says in said(run)


@pytest.mark.parametrize("name", ["metrics.json", "metrics.csv", "gallery/gallery.json", "robustness.csv"])
def test_records_that_are_pipes_folders_or_empty(run, name):
    for make in (os.mkfifo, os.mkdir, lambda path: open(path, "w").close()):
        if os.path.isdir(run / name):
            os.rmdir(run / name)
        elif os.path.lexists(run / name):
            os.unlink(run / name)
        make(run / name)
        if name != "robustness.csv" or make is not os.mkfifo:
            assert name.rsplit("/", 1)[-1] in said(run)
        os.path.isdir(run / name) or os.unlink(run / name)


def test_a_configuration_leads_to_no_log_elsewhere(run, tmp_path):
    other = run_folder(tmp_path / "far" / "away" / "1-fit", VALUES)
    (run / "csv" / "version_0" / "metrics.csv").unlink()
    (run / "config.yaml").write_text(f"ckpt_path: {other}/checkpoints/best.ckpt\ntrainer: [1]\n")
    (study,) = read_studies([run])
    assert study.runs[0].logged == []


def test_names_are_neither_markup_nor_formulas_nor_commands(tmp_path):
    data = r"\input{/etc/passwd}$\frac{x$%&#~^[*"
    values = {data: {"=cmd|x": {"=a": 1.0, "<script>alert(1)</script>": 2.0}, "psnr": {"=a": 30.0, "b": 31.0}}}
    run = run_folder(tmp_path / "<b> $x \x1b[31m" / "1", values, method='@SUM(1)"><script>')
    page = write_report(read_studies([run], ["-1+1"]), tmp_path / "out")
    html = page.read_text()
    assert "<script>alert" not in html and '"><script>' not in html and "\x1b" not in html
    for file in (tmp_path / "out" / "tables").glob("*.tex"):
        assert "\\input" not in file.read_text().replace(r"\textbackslash{}input", "")
        assert not re.search(r"^[\[*]", file.read_text(), re.MULTILINE)
    rows = [row for file in (tmp_path / "out" / "tables").glob("*.csv") for row in csv.reader(file.open())]
    assert any(row[0] == "'-1+1" for row in rows)
    assert not any(re.match(r"\s*[=+@-]", cell) and not _is_number(cell) for row in rows for cell in row)


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_tables_of_names_that_files_cannot_tell_apart(tmp_path):
    values = {name: {"psnr": {"a": 30.0, "b": 31.0}} for name in ("Ä", "Ö", "a b", "a_b")}
    write_report(read_studies([run_folder(tmp_path / "run", values)]), tmp_path / "out")
    assert len(list((tmp_path / "out" / "tables").glob("*all*.csv"))) == 4


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"folder": "0-seed0"', '"folder": "../1"', "names the folder '../1'"),
        ('"folder": "0-seed0"', '"folder": "/etc"', "names the folder '/etc'"),
        ('"seed": 0', '"seed": "0"', "points[0].seed is '0'"),
        ('"overrides": [', '"overrides": [1, ', "overrides[0] is 1 and must be text"),
        ('"parameters": {', '"parameters": [', "cannot be read as a record of `sweep`"),
    ],
)
def test_an_edited_sweep_is_reported(tmp_path, old, new, says):
    sweep = sweep_folder(tmp_path / "s", [("full", {"a": 1}, 0, VALUES)])
    file = sweep / "sweep.json"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=re.escape(says)):
        read_studies([sweep])


def test_a_point_that_leads_elsewhere_is_reported(tmp_path):
    sweep = sweep_folder(tmp_path / "s", [("full", {"a": 1}, 0, VALUES)])
    point = sweep / "0-seed0" / "point.json"
    for run in ("../..", str(tmp_path), "a/b"):
        point.write_text(json.dumps({"state": "finished", "run": run}))
        with pytest.raises(InputError, match="names the folder"):
            read_studies([sweep])
    (sweep / "0-seed0").rename(tmp_path / "elsewhere")
    (sweep / "0-seed0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="leads out of"):
        read_studies([sweep])


def test_too_many_rows_for_a_page(tmp_path):
    with pytest.raises(InputError, match="301 folders are too many"):
        read_studies([tmp_path / str(n) for n in range(301)])


def test_a_folder_that_cannot_be_written_is_reported_first(run, capsys):
    assert main(["report", str(run), "--out", "/proc/report"]) == 2
    assert "--out /proc/report cannot be written" in capsys.readouterr().err
