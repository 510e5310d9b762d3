"""Files of any kind through `upscale`: the result has the kind, depth, temperatures and tags of its input."""

import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from standin import Blend, Enlarge, stand_for_a_checkpoint
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "data" / "formats"))
from camera_samples import flir_jpeg, irg, scene

from lit_thermal.batch import Batch
from lit_thermal.cli import upscale as verb
from lit_thermal.data.formats import camera_files
from lit_thermal.data.formats.sidecar import write_scale
from lit_thermal.data.formats.thermogram import CENTIKELVIN
from lit_thermal.data.formats.video_file import VideoWriter
from lit_thermal.errors import InputError

FILES = Path(__file__).parents[3] / "shared" / "data" / "radiometric_files"


class Repeat(Enlarge):
    """Repeats each pixel, so that restored pixels must be exactly those of the input."""

    def restore(self, batch: Batch) -> Tensor:
        return batch["lr"].repeat_interleave(4, -1).repeat_interleave(4, -2)


class Guided(Repeat):
    takes_guide = True
    guides: list = []  # noqa: RUF012

    def restore(self, batch: Batch) -> Tensor:
        Guided.guides += [batch["guide"]] if "guide" in batch else [None]
        return super().restore(batch)


class Drawing(Repeat):
    draws = True

    def restore(self, batch: Batch) -> Tensor:
        from lit_thermal.generative.noise import SeededNoise

        restored = super().restore(batch)
        return (restored + 0.01 * SeededNoise.of(batch["name"], 0)(restored)).clamp(0, 1)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_for_a_checkpoint(monkeypatch, Repeat)


def run(*words: object) -> int:
    return verb.main([*map(str, words), "--model", "x.ckpt"])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def large(pixels: np.ndarray) -> np.ndarray:
    return pixels.repeat(4, -1).repeat(4, -2)


def test_counts_of_a_flir_jpeg_stay_what_they_are(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[271] = "a camera"
    exif.get_ifd(34853)[1] = "N"
    source = flir_jpeg(tmp_path / "a.jpg", scene(), exif=exif)
    for options, name in (((), "a.png"), (("--format", "tif"), "a.tif")):
        assert run(source, "-o", tmp_path / "out", *options) == 0
        read, result = camera_files.read(source), camera_files.read(tmp_path / "out" / name)
        assert np.array_equal(result.image, large(read.image)) and result.radiometry == read.radiometry
        assert np.abs(result.kelvin("object") - large(read.kelvin("object"))).max() < 1e-3
        with Image.open(tmp_path / "out" / name) as image:
            assert image.getexif()[271] == "a camera" and image.getexif().get_ifd(34853)[1] == "N"
        for file in names(tmp_path / "out"):
            (tmp_path / "out" / file).unlink()


def test_float_kelvin_stay_float(tmp_path: Path) -> None:
    kelvin = (280 + 20 * np.random.default_rng(0).random((12, 16))).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", kelvin, photometric="minisblack")
    assert run(tmp_path / "a.tif", "-o", tmp_path / "out") == 0
    result = camera_files.read(tmp_path / "out" / "a.tif")
    assert result.pixels.dtype == np.float32 and np.abs(result.image - large(kelvin)).max() < 1e-3
    assert run(tmp_path / "a.tif", "-o", tmp_path / "b.png") == 0
    assert np.abs(camera_files.read(tmp_path / "b.png").kelvin()[0] - large(kelvin)).max() < 0.0051


@pytest.mark.parametrize("normalize", ["robust", "minmax", "full", "kelvin 270..330"])
def test_centikelvin_return_within_half_a_count(tmp_path: Path, normalize: str) -> None:
    counts = (28000 + 10 * scene() % 3000).astype(np.uint16)
    counts[3, 4] = 0  # a dead pixel
    Image.fromarray(counts).save(tmp_path / "a.png")
    write_scale(tmp_path / "a.png", CENTIKELVIN)
    assert run(tmp_path / "a.png", "-o", tmp_path / "out", "--normalize", normalize) == 0
    result = camera_files.read(tmp_path / "out" / "a.png")
    assert np.array_equal(result.image, large(counts))
    assert np.abs(result.kelvin()[0] - large(counts) * 0.01).max() < 0.005


@pytest.mark.parametrize(
    ("name", "kept"), [("a.png", "a.png"), ("a.bmp", "a.bmp"), ("a.tif", "a.tif"), ("a.jpg", "a.png")]
)
def test_eight_bits_stay_eight_bits(tmp_path: Path, name: str, kept: str, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = (scene() // 70).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / name)
    assert run(tmp_path / name, "-o", tmp_path / "out") == 0
    assert names(tmp_path / "out") == [kept]
    said = "no radiometric data: restored as gray values" in capsys.readouterr().out
    assert said == (name == "a.jpg")
    with Image.open(tmp_path / "out" / kept) as image:
        assert image.mode == "L" and image.size == (128, 96)


def test_a_folder_a_list_and_a_video_of_which_some_are_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(scene(16 + 2 * (number == 3))).save(folder / f"{number}.png")
    (folder / "5.png").write_text("not an image")
    colours = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(colours).save(folder / "6.png")
    tifffile.imwrite(folder / "7.tif", np.full((8, 8), np.nan, np.float32))
    tifffile.imwrite(folder / "pages.tif", np.stack([scene(8)] * 12), photometric="minisblack")
    with VideoWriter(folder / "film.mp4", (16, 16), 10) as writer:
        for frame in range(3):
            writer.write(np.full((16, 16), 40 * frame, np.uint8))
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "notes.md").write_text("x")
    assert run(folder, "-o", tmp_path / "out", "--batch", "3") == 2
    outcome = capsys.readouterr()
    errors = outcome.err.splitlines()
    assert all(line.startswith("error: ") for line in errors) and len(errors) == 5
    for name in ("5.png", "6.png is in colour", "7.tif", "empty.mp4"):
        assert sum(name in line for line in errors[:-1]) == 1, name
    assert errors[-1].startswith("error: 4 of 11 were not restored: ")
    assert names(tmp_path / "out") == ["0.png", "1.png", "2.png", "3.png", "4.png", "film.mp4", "pages.tif"]
    assert tifffile.imread(tmp_path / "out" / "pages.tif").shape == (12, 32, 128)
    assert np.array_equal(camera_files.read(tmp_path / "out" / "3.png").image, large(scene(18)))
    # what is finished stays, and the rest is tried again
    before = (tmp_path / "out" / "0.png").stat().st_mtime_ns
    (folder / "5.png").unlink()
    Image.fromarray(scene(16)).save(folder / "5.png")
    (tmp_path / "in.txt").write_text("# images\nin/0.png\nin/5.png\n\n")
    assert run(tmp_path / "in.txt", "-o", tmp_path / "out") == 0
    assert "1 finished by an earlier run" in capsys.readouterr().out
    assert (tmp_path / "out" / "0.png").stat().st_mtime_ns == before and (tmp_path / "out" / "5.png").exists()


def test_names_that_meet_or_leave_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x/a.png", "y/a.png", "y/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(scene()).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("x/a.png\ny/a.png\nx/../y/b.png\n")
    assert run(tmp_path / "list.txt", "-o", tmp_path / "out") == 2
    assert "have the same name, so that both would be written to" in capsys.readouterr().err
    assert names(tmp_path / "out") == ["b.png"] and names(tmp_path) == ["list.txt", "out", "x", "y"]
    with pytest.raises(InputError, match=r"OUTPUT .*b\.png is INPUT .*b\.png"):
        run(tmp_path / "y" / "b.png", "-o", tmp_path / "y")
    with pytest.raises(InputError, match="is named as a file, but there are 2 inputs"):
        run(tmp_path / "y", "-o", tmp_path / "c.png")
    write_scale(tmp_path / "y" / "b.png", CENTIKELVIN)
    with pytest.raises(InputError, match=r"would replace .*b\.json, which belongs to INPUT"):
        run(tmp_path / "y" / "b.png", "-o", tmp_path / "y" / "b.tif")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png", "out"], "the output is given by -o: write `lit_thermal upscale INPUT"),
        (["none.png", "-o", "out"], "INPUT 'none.png' does not exist"),
        (["a.png", "-o", "out", "--palette", "plasmma"], "there is no such colour map"),
        (["a.png", "-o", "out", "--samples", "3"], "holds Repeat, which draws nothing at random"),
        (["a.png", "-o", "out", "--guide", "a.png"], "holds Repeat, which reads no guide"),
        (["a.png", "-o", "out", "--fidelity", "2"], "from 0 to 1"),
        (["a.png", "-o", "out", "--shard", "5/4"], "--shard 5/4 must be I/N"),
        (["a.png", "-o", "out", "--batch", "0"], "--batch 0 must be at least 1"),
        (["a.png", "-o", "out", "--temporal_scale", "2"], "restores each frame on its own and adds none"),
        (["a.png", "-o", "a.jpg"], "cannot hold the result"),
        (["bomb.png", "-o", "out"], "declares 40000x40000 pixels, more than the limit"),
        (["pages.tif", "-o", "one.png"], "is named as an image"),
        (["a.png", "-o", "file/out"], "cannot be written"),
        (["a.png", "-o", "out", "--normalize", "kelvin 270..330"], "does not say how its counts become temperatures"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(scene()).save("a.png")
    Path("file").write_text("x")
    tifffile.imwrite("pages.tif", np.stack([scene(8)] * 12), photometric="minisblack")
    data = bytearray(Path("a.png").read_bytes())
    data[16:24] = struct.pack(">II", 40000, 40000)  # the size in the header
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    Path("bomb.png").write_bytes(data)
    with pytest.raises(InputError, match=message):
        run(*words)
    assert names(tmp_path) == ["a.png", "bomb.png", "file", "pages.tif"]


def test_a_full_disk_half_way_leaves_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4):
        Image.fromarray(scene()).save(tmp_path / "in" / f"{number}.png")
    write, count = Path.write_bytes, 0

    def full(path: Path, data: bytes) -> int:
        nonlocal count
        count += 1
        if count > 2:
            write(path, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert run(tmp_path / "in", "-o", tmp_path / "out") == 2
    assert capsys.readouterr().err.count("No space left on device") == 2
    assert names(tmp_path / "out") == ["0.png", "1.png"]


def test_shards_share_the_work(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(7):
        Image.fromarray(scene()).save(tmp_path / "in" / f"{number}.png")
    seen: list[list[str]] = []
    for part in ("2/3", "1/3", "3/3"):
        assert run(tmp_path / "in", "-o", tmp_path / "out", "--shard", part) == 0
        seen.append(names(tmp_path / "out"))
    assert seen[0] == ["1.png", "4.png"] and len(seen[1]) == 5 and len(seen[2]) == 7


def test_guides_are_paired_by_stem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_for_a_checkpoint(monkeypatch, Guided)
    for folder in ("in", "visible"):
        (tmp_path / folder).mkdir()
    for name in "abc":
        Image.fromarray(scene()).save(tmp_path / "in" / f"{name}.png")
    for name, level in {"a": 51, "b": 255, "z": 0}.items():
        Image.new("RGB", (64, 48), (level,) * 3).save(tmp_path / "visible" / f"{name}.jpg", quality=100)
    Guided.guides.clear()
    assert run(tmp_path / "in", "-o", tmp_path / "out", "--guide", tmp_path / "visible") == 2
    assert "has no image named c" in capsys.readouterr().err
    assert [round(float(guide.mean()), 2) for guide in Guided.guides] == [0.2, 1.0]
    with pytest.raises(InputError, match="is one file for 3 images"):
        run(tmp_path / "in", "-o", tmp_path / "two", "--guide", tmp_path / "visible" / "a.jpg")


def test_the_embedded_photo_is_found_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_for_a_checkpoint(monkeypatch, Guided)
    y, x = np.mgrid[:192, :256] / 4.0
    view = 0.5 + 0.25 * np.sin(x / 3 + y / 5) + 0.25 * np.sin(y / 2 - x / 9)
    # the thermal view is the middle of the photo, moved by 3 thermal pixels right and 2 down
    thermal = view[24 + 8 : 24 + 8 + 144, 32 + 12 : 32 + 12 + 192].reshape(36, 4, 48, 4).mean((1, 3))
    photo = np.stack([np.rint(255 * (1 - view)).astype(np.uint8)] * 3, -1)
    irg(tmp_path / "a.irg", 280 + 20 * thermal, photo)
    Guided.guides.clear()
    assert run(tmp_path / "a.irg", "-o", tmp_path / "out", "--guide", "embedded") == 0
    assert "the embedded photo was registered, 1.3" in capsys.readouterr().out
    found = Guided.guides[0][0].mean(0).numpy().reshape(36, 4, 48, 4).mean((1, 3))
    assert np.abs(found - (1 - thermal))[4:-4, 4:-4].mean() < 0.02
    flir_jpeg(tmp_path / "b.jpg", scene())
    assert run(tmp_path / "b.jpg", "-o", tmp_path / "out", "--guide", "embedded") == 0
    assert "embeds no visible photo: restored from the thermal image alone" in capsys.readouterr().out
    assert Guided.guides[-1] is None


def test_samples_become_a_mean_and_a_deviation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_for_a_checkpoint(monkeypatch, Drawing)
    kelvin = (280 + 20 * np.random.default_rng(0).random((24, 32))).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", kelvin, photometric="minisblack")
    assert run(tmp_path / "a.tif", "-o", tmp_path / "out", "--samples", "40", "--normalize", "kelvin 270..310") == 0
    assert names(tmp_path / "out") == ["a.json", "a.tif", "a_std.tif"]
    spread = tifffile.imread(tmp_path / "out" / "a_std.tif")
    assert spread.dtype == np.float32 and spread.mean() == pytest.approx(0.4, rel=0.05)
    assert np.abs(camera_files.read(tmp_path / "out" / "a.tif").image - large(kelvin)).std() < 0.08


def test_check_fidelity_and_palette(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Bright(Repeat):
        def restore(self, batch: Batch) -> Tensor:
            return (super().restore(batch) * 0.5 + 0.25).clamp(0, 1)

    stand_for_a_checkpoint(monkeypatch, Bright)
    source = flir_jpeg(tmp_path / "a.jpg", scene())
    apart = []
    for share in ("0", "0.5", "1"):
        out = tmp_path / share
        assert run(source, "-o", out, "--check", "--fidelity", share, "--palette", "inferno") == 0
        said = capsys.readouterr().out
        apart.append(float(said.split("differs from the input by ")[1].split(" K on average")[0]))
        assert "(Bicubic)" in said and names(out) == ["a.json", "a.png", "a_view.png"]
    assert apart[0] > 1.5 * apart[1] > 3 * apart[2]
    with Image.open(out / "a_view.png") as view:
        assert view.mode == "RGB" and view.width > 128 and view.height >= 96
    assert json.loads((out / "a.json").read_text())["planck"]["R1"] == 16000


def test_a_method_of_video_restores_a_single_image_in_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_for_a_checkpoint(monkeypatch, Blend)
    Image.fromarray(scene()).save(tmp_path / "a.png")
    assert run(tmp_path / "a.png", "-o", tmp_path / "out") == 0
    restored = camera_files.read(tmp_path / "out" / "a.png").image.astype(int)
    assert np.abs(restored.reshape(24, 4, 32, 4).mean((1, 3)) - scene())[2:-2, 2:-2].max() < 12


def test_half_precision_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Asks(Repeat):
        def restore(self, batch: Batch) -> Tensor:
            assert torch.is_autocast_enabled("cpu")
            return super().restore(batch)

    stand_for_a_checkpoint(monkeypatch, Asks)
    Image.fromarray(scene()).save(tmp_path / "a.png")
    assert run(tmp_path / "a.png", "-o", tmp_path / "out", "--precision", "bf16") == 0


@pytest.mark.skipif(not FILES.is_dir(), reason="needs the shared data")
def test_real_files_of_cameras_keep_their_temperatures(tmp_path: Path) -> None:
    pytest.importorskip("flyr")
    pytest.importorskip("infiray_irg")
    sources = sorted(path for path in FILES.iterdir() if path.suffix in (".jpg", ".irg"))
    assert run(*sources, "-o", tmp_path / "out") == 0
    for source in sources:
        read = camera_files.read(source)
        result = camera_files.read(
            next(p for p in (tmp_path / "out").iterdir() if p.stem == source.stem and p.suffix != ".json")
        )
        assert result.knows_kelvin
        step = 0.0 if read.pixels.dtype.kind == "u" else 1e-3
        assert np.abs(result.pixels.astype(float) - large(read.pixels.astype(float))).max() <= step
