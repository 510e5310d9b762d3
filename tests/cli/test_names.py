"""Names from input to output to evaluation, and what is reported before long work."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

CONFIG = """experiment: toy
model: {class_path: StandIn, init_args: {scale: 2}}
data: {class_path: ImageFolder, init_args: {root: data, scale: 2, num_workers: 0}}
trainer: {max_steps: 2, accelerator: cpu, enable_progress_bar: false, enable_model_summary: false, logger: false}
"""
STEMS = ("a b", "a_b", "a?b", "日本語", "😀", "-dash", "50%", 'it\'s "q"', "new\nline", "t\tab", "x" * 251, "Case")
STEMS += (
    "case",
    "dot.",
    "sp ",
    "con",
    "1²2",
    "\u202ertl",
    "e\u0301x",
    "v1.0.tar",
    "$x_$",
    "[b]",
    "a\\b",
    "*",
    "\u200b",
)


@pytest.fixture
def images(folder):
    """Writes images (height, width) of random levels into a folder of `data`; returns nothing."""
    (folder / "toy.yaml").write_text(CONFIG)

    def write(place: str, names, height: int = 24, width: int = 28, colours: int = 0) -> None:
        for seed, name in enumerate(names):
            shape = (height, width, colours) if colours else (height, width)
            pixels = np.random.default_rng(seed).integers(1, 256, shape).astype(np.uint8)
            path = folder / "data" / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)

    return write


def predictions(folder: Path) -> Path:
    return next(folder.glob("runs/toy/*predict*/predictions"))


def test_hostile_names_come_out_and_are_matched(folder, run, images):
    images("test/hr", [f"{stem}.png" for stem in STEMS])
    found = run("predict", "-c", "toy.yaml")
    assert found.code == 0, found.err
    out = predictions(folder)
    assert sorted(os.listdir(out)) == sorted(os.listdir("data/test/hr")) and len(os.listdir(out)) == len(STEMS)
    found = run(
        "evaluate", "--pred", f"ours={out}", f"[/b]={out}", "--hr", "data/test/hr", "--out", "out", "--name", "[/c]"
    )
    assert found.code == 0, found.err
    assert "[/b]" in found.out and "[/c]: " in found.out
    assert (folder / "out" / "metrics.csv").read_text(encoding="utf-8").count("ours") == len(STEMS)


@pytest.mark.parametrize("names", [("a.png", "a.tif"), ("\u00e9.png", "e\u0301.png")])
def test_inputs_that_would_have_one_output_are_refused(folder, run, images, names):
    images("test/hr", ["b.png", *names])
    found = run("predict", "-c", "toy.yaml")
    assert found.code == 2 and "which have the same stem: rename or remove one" in found.err
    assert not list(folder.glob("runs/toy/*"))


def test_the_format_is_kept(folder, run, images):
    images("predict", ["a.png", "b.jpg", "c.bmp"])
    tifffile.imwrite("data/predict/d.tif", np.arange(24 * 28, dtype=np.uint16).reshape(24, 28), description="hot")
    found = run("predict", "-c", "toy.yaml")
    assert found.code == 0 and "restored JPEG images are written as PNG" in found.err
    out = predictions(folder)
    assert sorted(os.listdir(out)) == ["a.png", "b.png", "c.bmp", "d.tif"]
    with tifffile.TiffFile(out / "d.tif") as file:
        assert file.pages[0].description == "hot" and file.pages[0].dtype == np.uint16


@pytest.mark.parametrize(
    ("place", "size", "colours", "message"),
    [
        ("train", 20, 0, "needs images of at least 32x32, but bad is 20x20 (1 of 3 training images)"),
        ("val", 48, 3, "bad.png is in colour"),
        ("val", 8, 0, "SSIM needs targets of 11 x 11 or more, and of the val data bad is 8 x 8"),
        ("test", 8, 0, "SSIM needs targets of 11 x 11 or more, and of the test data bad is 8 x 8"),
        ("test", 48, 3, "bad.png is in colour"),
    ],
)
def test_what_an_image_cannot_be_is_reported_before_training(folder, run, images, place, size, colours, message):
    for split in ("train", "val", "test"):
        images(f"{split}/hr", ["a.png", "b.png"], 48, 48)
    images(f"{place}/hr", ["bad.png"], size, size, colours)
    found = run("fit", "-c", "toy.yaml", "--data.crop=16", "--data.batch_size=1", "--then_test=true")
    assert found.code == 2 and message in found.err, found.err
    assert not list(folder.glob("runs/toy/*"))


def test_targets_are_cut_as_predictions_are(folder, run, images):
    images("test/hr", ["a.png", "b.png"], 126, 190)
    words = ("-c", "toy.yaml", "--data.scale=4", "--model.scale=4")
    assert run("predict", *words).code == run("test", *words).code == 0
    out = predictions(folder)
    assert Image.open(out / "a.png").size == (188, 124)
    found = run("evaluate", "--pred", f"StandIn={out}", "--hr", "data/test/hr", "--out", "out")
    assert found.code == 0, found.err
    assert "2 targets are cut to the multiples of the scale that were restored: a of 190x126 to 188x124" in found.out
    lines = [Path(p, "metrics.csv").read_text().splitlines() for p in ("out", next(folder.glob("runs/toy/*test*")))]
    ours, tested = ([line.split(",")[1:] for line in each if "StandIn" in line] for each in lines)
    assert len(ours) == 2 and ours == tested


def test_hot_spots_beyond_the_input_are_measured(folder, run, images):
    (folder / "data/test/lr").mkdir(parents=True)
    (folder / "data/test/hr").mkdir()
    lr = np.random.default_rng(0).integers(20000, 21000, (24, 28)).astype(np.uint16)
    hr = np.kron(lr, np.ones((2, 2), np.uint16))
    hr[5, 5] += 6000
    for kind, pixels in (("lr", lr), ("hr", hr)):
        Image.fromarray(pixels).save(f"data/test/{kind}/a.png")
    assert run("predict", "-c", "toy.yaml").code == run("test", "-c", "toy.yaml").code == 0
    out = predictions(folder)
    words = ("--pred", f"StandIn={out}", "--hr", "data/test/hr", "--lr", "data/test/lr", "--out", "out")
    assert run("evaluate", *words).code == 0
    mine = np.asarray(Image.open(out / "a.png")).astype(float)
    for place in ("out", next(folder.glob("runs/toy/*test*"))):
        head, *rows = (line.split(",") for line in Path(place, "metrics.csv").read_text().splitlines())
        row = next(dict(zip(head, row, strict=True)) for row in rows if "StandIn" in row)
        assert float(row["counts_mae"]) == pytest.approx(np.abs(mine - hr).mean(), rel=1e-5)


def test_places_that_cannot_be_written_are_reported(folder, run, images):
    images("test/hr", ["a.png"])
    Path("file").write_text("")
    found = run("evaluate", "--pred", "data/test/hr", "--hr", "data/test/hr", "--out", "file/out")
    assert found.code == 2 and "error: --out file/out: file is a file; name a folder" in found.err
    for text in ('experiment: "a\\0b"', 'data: {init_args: {root: "a\\0b"}}', 'trainer: {default_root_dir: "a\\0b"}'):
        Path("nul.yaml").write_text(text)
        found = run("predict", "-c", "toy.yaml", "-c", "nul.yaml")
        assert found.code == 2 and "a NUL character" in found.err


def test_colours_are_reported_before_anything_is_measured(folder, run, images, monkeypatch):
    images("hr", ["a.png", "b.png", "c.png"])
    images("pred", ["a.png"])
    images("pred", ["b.png", "c.png"], colours=3)
    monkeypatch.setattr("lit_thermal.inference.measuring.measure", None)
    found = run("evaluate", "--pred", "data/pred", "--hr", "data/hr")
    assert (
        found.code == 2 and "b.png is in colour" in found.err and "2 of the 6 images to measure are wrong" in found.err
    )
