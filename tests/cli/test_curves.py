import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lit_thermal.cli.dispatch import main

HEAD = "condition,varied,at,unit,psnr,ssim,images\n"
GUIDE = "displacement of the guide"


def table(folder: Path, best: float, images: int = 5, name: str = "robustness.csv", levels=(0, 1, 2, 4, 8)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"complete,,,,{best},{best / 50},{images}", f"thermal_only,,,,{best - 3},0.6,{images}"]
    rows += [f"displaced_{p},{GUIDE},{p},pixels of the target,{best - p / 3},{0.9 - p / 50},{images}" for p in levels]
    rows += [f"combined_strong,,,,{best - 2},0.7,{images}", f"baseline: bicubic,,,,30.0,0.61,{images}"]
    (folder / name).write_text(HEAD + "\n".join(rows) + "\n")
    return folder


def noise(folder: Path, best: float, guide: bool = False) -> Path:
    """A run under noise, and under displaced guides too."""
    table(folder, best, levels=(0, 4) if guide else ())
    rows = [f"{name},noise of the input,{n},mK,{top - n / 50},0.5,5" for name, top in
            (("netd", best), ("baseline: bicubic", 29.0)) for n in (0, 50, 100)]  # fmt: skip
    with (folder / "robustness.csv").open("a") as file:
        file.write("\n".join(rows) + "\n")
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["curves", *map(str, words)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1
    return err


def test_several_runs_in_one_picture(tmp_path, capsys):
    runs = [table(tmp_path / "three_m_ti" / "1-test", 34.0), table(tmp_path / "corefusion" / "2-test", 33.0)]
    assert main(["curves", *map(str, runs), "--out", str(tmp_path / "new" / "curves.png")]) == 0
    assert "2 runs in" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "new" / "curves.csv").open()))
    assert {row["run"] for row in rows} == {"three_m_ti", "corefusion"} and len(rows) == 18
    assert rows[4] == {
        "run": "three_m_ti", "condition": "displaced_2", "varied": GUIDE, "at": "2", "unit": "pixels of the target",
        "psnr": str(34 - 2 / 3), "ssim": "0.86", "images": "5",
    }  # fmt: skip
    picture = np.asarray(Image.open(tmp_path / "new" / "curves.png"))
    assert picture.shape[1] > 1000 and picture.std() > 10


def test_what_all_runs_vary_has_a_row_of_panels_each(tmp_path):
    runs = [noise(tmp_path / "one" / "1-test", 33.0, guide=True), noise(tmp_path / "two" / "1-test", 31.0, guide=True)]
    heights = []
    for last in (runs[1], noise(tmp_path / "three" / "1-test", 30.0)):
        assert main(["curves", str(runs[0]), str(last), "--out", str(tmp_path / "c.png")]) == 0
        heights.append(Image.open(tmp_path / "c.png").height)
    assert heights[0] == 2 * heights[1], "a guide is displaced in both runs, and then in one alone"


def test_names(tmp_path):
    runs = [table(tmp_path / "same" / f"{n}-test", 30.0 + n) for n in (1, 2)]

    def named(*words: str) -> list[str]:
        assert main(["curves", *map(str, runs), "--out", str(tmp_path / "c.png"), *words]) == 0
        return list(dict.fromkeys(row["run"] for row in csv.DictReader((tmp_path / "c.csv").open())))

    assert named() == ["same 1-test", "same 2-test"]
    assert named("--names", "with", "without") == ["with", "without"]
    # a table itself
    runs[0] = runs[0] / "robustness.csv"
    assert named() == ["same 1-test", "same 2-test"]


def test_mistakes(tmp_path, capsys):
    run, out = table(tmp_path / "a" / "1-test", 34.0), ("--out", tmp_path / "c.png")
    assert "there is no run folder" in said(capsys, tmp_path / "none", *out)
    (tmp_path / "bare").mkdir()
    assert "bare holds no robustness.csv; run `test` with -c test/noise (or test/blur" in said(
        capsys, tmp_path / "bare", *out
    )
    assert "c.jpg must end in .png" in said(capsys, run, "--out", tmp_path / "c.jpg")
    assert "gives 1 different names for 2 runs; give each its own" in said(
        capsys, run, run, *out, "--names", "same", "same"
    )
    few = table(tmp_path / "b" / "1-test", 33.0, levels=(4,))
    assert "has no quantity with the two degrees that a curve needs: run `test` with -c" in said(capsys, few, *out)
    other = table(tmp_path / "c" / "1-test", 33.0, images=6)
    assert "were measured on different numbers of images" in said(capsys, run, other, *out)
    noisy = noise(tmp_path / "d" / "1-test", 30.0)
    message = said(capsys, run, noisy, *out)
    assert (
        "the runs vary different quantities" in message and f"{GUIDE}; " in message and "noise of the input" in message
    )
    table(tmp_path / "a" / "1-test", 34.0, name="robustness_irvi.csv")
    assert "has one table for each data set; name one of" in said(capsys, run, *out)
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    assert (
        "wrong.csv is not a table of RobustnessCurve; its columns are condition, varied, at, unit, psnr, ssim, images"
        in said(capsys, tmp_path / "wrong.csv", *out)
    )
    assert "the following arguments are required: RUN, --out" in said(capsys)
    assert not (tmp_path / "c.png").exists()
