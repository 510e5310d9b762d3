import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from standin import Blend, Enlarge, stand_for_a_checkpoint

from lit_thermal.batch import Radiometry
from lit_thermal.cli import upscale as verb
from lit_thermal.data.formats.clips import open_clip
from lit_thermal.data.formats.frames import read_frame, read_header
from lit_thermal.data.formats.video_file import VideoWriter
from lit_thermal.errors import InputError
from lit_thermal.inference import upscale as upscale_module


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_for_a_checkpoint(monkeypatch)


def images(count: int, height: int, width: int, bits: int) -> np.ndarray:
    """Smooth moving frames, so that enlarging and reducing them again loses little."""
    t, y, x = np.mgrid[:count, :height, :width]
    wave = np.sin(0.3 * x + 0.2 * t) * np.cos(0.25 * y)
    return (2900 + 120 * wave).astype(np.uint16) if bits == 16 else (128 + 100 * wave).astype(np.uint8)


def write_folder(folder: Path, frames: np.ndarray, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        path = folder / f"{index:04d}{suffix}"
        tifffile.imwrite(path, frame) if suffix == ".tif" else Image.fromarray(frame).save(path)
    return folder


def run(source: Path, target: Path, *options: str) -> int:
    return verb.main([str(source), "-o", str(target), "--model", "x.ckpt", *options])


@pytest.mark.parametrize(("suffix", "bits"), [(".png", 8), (".png", 16), (".tif", 16), (".tif", 8)])
def test_a_folder_becomes_a_folder_of_the_same_depth_and_a_video(tmp_path: Path, suffix: str, bits: int) -> None:
    frames = images(6, 21, 30, bits)
    target = tmp_path / "new" / "out"
    assert run(write_folder(tmp_path / "in", frames, suffix), target) == 0
    names = sorted(p.name for p in target.iterdir())
    assert names == [f"{i:06d}{suffix}" for i in range(11)] + ["video.mp4"]
    assert read_header(target / names[0]) == (84, 120, bits)
    restored = np.stack([read_frame(target / name) for name in names[:-1]]).astype(np.int64)
    # Bicubic weights of an observed frame keep its mean over each block of 4x4 within a little.
    blocks = restored[::2].reshape(6, 21, 4, 30, 4).mean((2, 4))
    assert np.abs(blocks - frames)[:, 2:-2, 2:-2].max() < (4 if bits == 16 else 3)
    video = open_clip(target / "video.mp4")
    assert (video.length, video.size, video.fps) == (11, (84, 120), 25.0)
    shown = np.stack(list(video)).astype(int)
    assert shown.max() > 215 and shown.min() < 40
    if bits == 16:  # one fixed mapping for all frames: the video is the frames up to a gain and an offset
        assert np.corrcoef(shown.ravel(), restored.ravel())[0, 1] > 0.99
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out"]


def test_a_video_becomes_a_video_at_twice_the_rate(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "in.mp4", (32, 48), 12.5) as writer:
        for frame in images(7, 32, 48, 8):
            writer.write(frame)
    assert run(tmp_path / "in.mp4", tmp_path / "out.mkv") == 0
    video = open_clip(tmp_path / "out.mkv")
    assert (video.length, video.size, video.fps) == (13, (128, 192), 25.0)
    assert run(tmp_path / "in.mp4", tmp_path / "out", "--fps", "10", "--tile", "24", "--overlap", "12") == 0
    assert open_clip(tmp_path / "out" / "video.mp4").fps == 10
    assert len(list((tmp_path / "out").glob("*.png"))) == 13


def test_what_is_there_is_not_lost(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", images(5, 16, 16, 8))
    assert run(source, tmp_path / "out") == 0
    with pytest.raises(InputError, match=r"not empty.*--overwrite"):
        run(source, tmp_path / "out")
    short = write_folder(tmp_path / "short", images(4, 16, 16, 8))
    assert run(short, tmp_path / "out", "--overwrite") == 0
    assert len(list((tmp_path / "out").iterdir())) == 7 + 1
    (tmp_path / "out" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match=r"thesis\.txt"):
        run(source, tmp_path / "out", "--overwrite")
    for target in (source, tmp_path):
        with pytest.raises(InputError, match="is or holds INPUT"):
            run(source, target, "--overwrite")
    recorded = write_folder(tmp_path / "recorded", images(0, 16, 16, 8))
    Image.fromarray(images(1, 16, 16, 8)[0]).save(recorded / "000000.png")
    with pytest.raises(InputError, match=r"000000\.png, which upscale did not write"):
        run(source, recorded, "--overwrite")
    (tmp_path / "old.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match="exists"):
        run(source, tmp_path / "old.mp4")
    assert run(source, tmp_path / "old.mp4", "--overwrite") == 0
    with pytest.raises(InputError, match="is a file"):
        run(source, tmp_path / "out" / "thesis.txt")
    assert len(list(source.iterdir())) == 5


def test_an_error_half_way_leaves_nothing(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", images(12, 16, 16, 8))
    data = bytearray((source / "0009.png").read_bytes())
    data[60:80] = bytes(20)  # the header and the end are whole, the pixels are not
    (source / "0009.png").write_bytes(data)
    for target in ("out", "out.mp4", "new/deep/out", "new/deep/out.mp4"):
        with pytest.raises(InputError, match=r"0009\.png"):
            run(source, tmp_path / target)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_an_output_that_cannot_be_written_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_folder(tmp_path / "in", images(4, 8, 8, 8))
    (tmp_path / "file").write_text("x")
    for target in ("file/out", "file/out.mp4"):
        with pytest.raises(InputError, match=r"OUTPUT .*out.* cannot be written \(.*\)"):
            run(source, tmp_path / target)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lit_thermal.inference.output.write_frame", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device"):
        run(source, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "in"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--temporal_scale", "4"], "trained for a temporal scale of 2, not 4"),
        (["--temporal_scale", "0"], "at least 1"),
        (["--tile", "16"], "below --tile"),
        (["--fps", "0"], "above 0"),
        (["--fps", "nan"], "above 0"),
        (["--fps", "inf"], "above 0"),
        (["--fps", "1e300"], "at most 100,000"),
        (["--device", "cuda:77"], "cannot be used on this machine"),
        (["--device", "warp"], "cannot be used on this machine"),
        (["--temporal", "2"], "no option --temporal"),
    ],
)
def test_wrong_options_are_one_sentence(tmp_path: Path, options: list[str], words: str) -> None:
    source = write_folder(tmp_path / "in", images(4, 8, 8, 8))
    with pytest.raises(InputError, match=words):
        run(source, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_an_untrained_scale_can_be_allowed(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", images(4, 8, 8, 8))
    assert run(source, tmp_path / "out", "--temporal_scale", "4", "--allow_untrained_scale") == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 13


def test_a_method_of_images_restores_each_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_for_a_checkpoint(monkeypatch, Enlarge)
    with VideoWriter(tmp_path / "in.mp4", (32, 48), 12.5) as writer:
        for frame in images(2, 32, 48, 8):
            writer.write(frame)
    assert run(tmp_path / "in.mp4", tmp_path / "out.mp4", "--batch", "3", "--tile", "16", "--overlap", "8") == 0
    video = open_clip(tmp_path / "out.mp4")
    assert (video.length, video.size, video.fps) == (2, (128, 192), 12.5)
    blocks = video.read(0, 1)[0].reshape(32, 4, 48, 4).mean((1, 3))
    assert np.abs(blocks - images(2, 32, 48, 8)[0])[2:-2, 2:-2].mean() < 3
    with pytest.raises(InputError, match="restores each frame on its own and adds none"):
        run(tmp_path / "in.mp4", tmp_path / "twice.mp4", "--temporal_scale", "2")


def test_wrong_inputs_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="does not exist"):
        run(tmp_path / "none", tmp_path / "out")
    with pytest.raises(InputError, match=r"has 2 frames.*at least 3"):
        run(write_folder(tmp_path / "two", images(2, 8, 8, 8)), tmp_path / "out")
    with pytest.raises(InputError, match="holds nothing to restore; it is empty"):
        run(tmp_path / "empty", tmp_path / "out")


SCRIPT = """
import sys
from pathlib import Path
import torch
from lit_thermal.inference.upscale import open_input, upscale
from standin import Blend

torch.set_num_threads(1)
source, target = Path(sys.argv[1]), Path(sys.argv[2])
with open_input(source, target, False) as clip:
    written = upscale(clip, target, Blend(), temporal_scale=2)
# Not ru_maxrss: that starts at what the process that started this one had.
status = Path("/proc/self/status")
print(written, status.read_text().split("VmHWM:")[1].split()[0] if status.exists() else 0)
"""


def start(*arguments: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    peaks = []
    for count in (70, 700):
        with VideoWriter(tmp_path / f"{count}.mp4", (48, 64), 25) as writer:
            for index in range(count):
                writer.write(images(1, 48, 64, 8)[0] if index % 2 else np.zeros((48, 64), np.uint8))
        process = start(str(tmp_path / f"{count}.mp4"), str(tmp_path / f"out{count}.mp4"))
        output = process.communicate()[0].split()
        assert int(output[0]) == 2 * count - 1
        peaks.append(int(output[1]))
    print(f"peak for 70 frames {peaks[0]} KiB, for 700 frames {peaks[1]} KiB")
    assert peaks[1] < 1.1 * peaks[0]


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process")
def test_a_killed_run_leaves_no_output_and_runs_again(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "in", images(400, 48, 64, 8))
    process = start(str(source), str(tmp_path / "out"))
    deadline = time.monotonic() + 60
    while not (parts := list(tmp_path.glob(".out.*.part"))) or len(list(parts[0].iterdir())) < 20:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    with pytest.raises(InputError, match=r"another process is using OUTPUT .*out"):
        run(source, tmp_path / "out")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out").exists() and parts[0].is_dir()
    for file in list(source.iterdir())[5:]:
        file.unlink()
    assert run(source, tmp_path / "out") == 0
    assert len(list((tmp_path / "out").iterdir())) == 2 * 5 - 1 + 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize("level", [0, 65535])
def test_a_dead_pixel_changes_nothing_elsewhere_and_comes_back(tmp_path: Path, level: int) -> None:
    clean = images(6, 21, 30, 16)
    dead = clean.copy()
    dead[:, 9, 12] = level
    found = []
    for name, frames in (("clean", clean), ("dead", dead)):
        assert run(write_folder(tmp_path / name, frames), tmp_path / f"{name}_out") == 0
        files = sorted((tmp_path / f"{name}_out").glob("*.png"))
        found.append(np.stack([read_frame(file) for file in files]).astype(int))
    assert (found[1][:, 36:40, 48:52] == level).all()
    away = np.abs(found[1] - found[0])
    away[:, 36 - 16 : 40 + 16, 48 - 16 : 52 + 16] = 0
    assert away.max() <= 1


def test_what_is_hot_in_one_frame_comes_back_in_it_and_after(tmp_path: Path) -> None:
    frames = images(6, 21, 30, 16)
    frames[3, 9, 12] = 50000
    assert run(write_folder(tmp_path / "in", frames), tmp_path / "out") == 0
    hot = [(read_frame(file) == 50000).sum() for file in sorted((tmp_path / "out").glob("*.png"))]
    assert hot == [0] * 6 + [16, 16] + [0] * 3


def test_the_range_is_that_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = images(4, 16, 16, 16).astype(np.float32) / 10  # 278 to 302 K
    tifffile.imwrite(tmp_path / "in.tif", frames, photometric="minisblack")
    used: list[Radiometry] = []
    real = upscale_module.to_values

    def noted(counts: np.ndarray, radiometry: Radiometry, clip: bool = True) -> torch.Tensor:
        used.append(radiometry)
        return real(counts, radiometry, clip)

    monkeypatch.setattr(upscale_module, "to_values", noted)
    for trained, given, gain in (("kelvin 270..330", (), 6000), ("kelvin 270..330", ("--normalize", "full"), 65535)):
        used.clear()
        monkeypatch.setattr(Blend, "normalize", trained)
        assert run(tmp_path / "in.tif", tmp_path / "out", "--overwrite", *given) == 0
        assert {radiometry.gain for radiometry in used} == {gain} and used[0].unit == "linear"
    restored = read_frame(tmp_path / "out" / "000000.png")
    assert np.abs(restored.reshape(16, 4, 16, 4).mean((1, 3)) / 100 - frames[0])[2:-2, 2:-2].max() < 0.1
    with pytest.raises(InputError, match="--normalize is 'kelvin'"):
        run(tmp_path / "in.tif", tmp_path / "out2", "--normalize", "kelvin")
    monkeypatch.setattr(Blend, "normalize", "celsius 1..2")
    with pytest.raises(InputError, match=r"the mapping that x\.ckpt was trained with is 'celsius 1\.\.2'"):
        run(tmp_path / "in.tif", tmp_path / "out2")
    with pytest.raises(InputError, match="does not say how its counts become temperatures"):
        run(write_folder(tmp_path / "in", images(4, 16, 16, 16)), tmp_path / "out3", "--normalize", "kelvin 270..330")
