"""Outputs of `upscale`: held by one process, replaced whole, at the times of the input's frames."""

import logging
import os
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from standin import stand_for_a_checkpoint

sys.path.append(str(Path(__file__).parents[1] / "data" / "formats"))
from video_seeds import drop_frames, make_video, ramp

from lit_thermal.cli import upscale as verb
from lit_thermal.data.formats.clips import open_clip
from lit_thermal.data.formats.video_file import VideoClip
from lit_thermal.errors import InputError
from lit_thermal.inference import output
from lit_thermal.inference.timing import Timing


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_for_a_checkpoint(monkeypatch)


def run(source: Path, target: Path, *options: str) -> int:
    return verb.main([str(source), "-o", str(target), "--model", "x.ckpt", *options])


def times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


PAUSE = [0, 40, 80, 120, 1120, 1160, 1200, 1213]


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out"])
def test_frames_keep_their_times(tmp_path: Path, kind: str, target: str, caplog: pytest.LogCaptureFixture) -> None:
    source = make_video(tmp_path / f"a.{kind}", ramp(8), stamps=PAUSE, rate=10)
    with caplog.at_level(logging.WARNING):
        assert run(source, tmp_path / target) == 0
    assert "not equally spaced (steps of 0.013 to 1.000 s)" in caplog.text
    seen = times(tmp_path / "out" / "video.mp4" if target == "out" else tmp_path / target)
    between = [value for a, b in pairwise(PAUSE) for value in (a, (a + b) / 2)] + [PAUSE[-1]]
    assert seen == pytest.approx([value / 1000 for value in between], abs=0.6e-3)


def test_a_start_offset_and_reordered_frames_keep_their_times(tmp_path: Path) -> None:
    stamps = [500 + 40 * index for index in range(9)]
    source = make_video(tmp_path / "a.mp4", ramp(9), stamps=stamps, options={"bf": "3"})
    assert run(source, tmp_path / "out.mp4") == 0
    assert times(tmp_path / "out.mp4") == pytest.approx([0.5 + 0.02 * index for index in range(17)], abs=1e-4)
    assert open_clip(tmp_path / "out.mp4").fps == pytest.approx(50, abs=0.01)


def test_a_constant_rate_that_is_asked_for_is_given(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", ramp(8), stamps=PAUSE)
    with pytest.raises(InputError, match=r"AVI cannot hold: let OUTPUT end in \.mp4 or \.mkv, or give --fps"):
        run(source, tmp_path / "out.avi")
    for name in ("out.avi", "out.mp4"):
        assert run(source, tmp_path / name, "--fps", "10") == 0
        assert open_clip(tmp_path / name).fps == 10 and open_clip(tmp_path / name).length == 15
    assert names(tmp_path) == ["a.mp4", "out.avi", "out.mp4"]


def clip_of(stamps: tuple[int, ...], fps: float | None = 25.0, base: Fraction = Fraction(1, 1000)) -> VideoClip:
    return VideoClip(Path("a.mkv"), len(stamps), (8, 8), 8, fps, stamps, base)


def test_times_rounded_by_the_container_are_a_constant_rate() -> None:
    timing = Timing.of(clip_of((0, 33, 67, 100, 133, 167), 30.0), 2, None)
    assert (timing.fps, timing.tick, timing.remark) == (60.0, None, "")
    assert Timing.of(clip_of((0, 40, 80, 120), 10.0), 2, None).fps == 50
    assert Timing.of(clip_of((0, 1, 2, 4, 5), 10.0, Fraction(1, 10)), 1, None).tick == Fraction(1, 10)


def test_times_that_are_missing_or_before_zero() -> None:
    unknown = Timing.of(VideoClip(Path("a.ts"), 5, (8, 8), 8, 25.0, ()), 2, None)
    assert unknown.fps == 50 and unknown.tick is None and "no increasing times" in unknown.remark
    early = Timing.of(clip_of((-80, -40, 0, 500)), 2, None)
    assert [early.stamp(index) for index in range(7)] == [0, 40, 80, 120, 160, 660, 1160]
    assert early.tick == Fraction(1, 2000)


def test_frames_of_one_time_are_written_after_each_other(tmp_path: Path) -> None:
    with output.VideoWriter(tmp_path / "a.mp4", (16, 16), 25, tick=Fraction(1, 1000)) as writer:
        for stamp in (0, 40, 40, 39, 120):
            writer.write(np.zeros((16, 16), np.uint8), stamp)
    assert times(tmp_path / "a.mp4") == pytest.approx([0, 0.04, 0.041, 0.042, 0.12])


def test_a_turned_video_is_restored_upright_with_its_pixels_shape(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", ramp(4), turn=(90, False, False), aspect=Fraction(4, 3))
    assert run(source, tmp_path / "out.mp4") == 0
    clip = open_clip(tmp_path / "out.mp4")
    assert isinstance(clip, VideoClip) and clip.size == (256, 192) and clip.aspect == Fraction(3, 4)
    blocks = clip.read(0, 1)[0].reshape(64, 4, 48, 4).mean((1, 3))
    assert np.abs(blocks - np.rot90(ramp(4)[0])).mean() < 4


def test_a_dropped_frame_keeps_its_place(tmp_path: Path) -> None:
    source = drop_frames(make_video(tmp_path / "a.avi", ramp(12), "mjpeg", "yuvj420p"), {3, 11})
    assert run(source, tmp_path / "out.mp4") == 0
    assert times(tmp_path / "out.mp4") == pytest.approx([0.02 * index for index in range(23)], abs=1e-4)


def test_one_process_at_a_time_has_an_output(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", ramp(5))
    for target in (tmp_path / "out", tmp_path / "new" / "out.mp4"):
        with output.claimed(source, target, False):
            with pytest.raises(InputError, match=rf"another process is using OUTPUT {target}"):
                run(source, target)
            assert names(target.parent)[0] == f".{target.name}.lock"
        assert run(source, target) == 0
        with pytest.raises(InputError, match="--overwrite"):
            run(source, target)
    assert names(tmp_path) == ["a.mp4", "new", "out"] and names(tmp_path / "new") == ["out.mp4"]


def test_the_old_result_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long, short = make_video(tmp_path / "a.mp4", ramp(9)), make_video(tmp_path / "b.mp4", ramp(4))
    assert run(long, tmp_path / "out") == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    rename = os.rename

    def fails(source: Path, target: Path) -> None:
        if str(source).endswith(".part"):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(InputError, match=r"OUTPUT .*out cannot be written \(No space left on device\)"):
        run(short, tmp_path / "out", "--overwrite")
    monkeypatch.undo()
    stand_for_a_checkpoint(monkeypatch)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert names(tmp_path) == ["a.mp4", "b.mp4", "out"]
    assert run(short, tmp_path / "out", "--overwrite") == 0
    assert len(names(tmp_path / "out")) == 7 + 1


def test_a_run_killed_between_its_last_two_moves_gives_back_the_old_result(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", ramp(4))
    assert run(source, tmp_path / "out") == 0
    os.rename(tmp_path / "out", tmp_path / ".out.0123abcd.old")
    (tmp_path / ".out.0123abcd.part").mkdir()
    (tmp_path / ".out2.0123abcd.part").mkdir()
    with pytest.raises(InputError, match="not empty"):
        run(source, tmp_path / "out")
    assert names(tmp_path) == [".out2.0123abcd.part", "a.mp4", "out"] and len(names(tmp_path / "out")) == 8


@pytest.mark.parametrize("target", ["x" * 251, "x" * 251 + ".mp4", "é" * 125])
def test_a_name_as_long_as_a_file_may_have(tmp_path: Path, target: str) -> None:
    assert run(make_video(tmp_path / "a.mp4", ramp(4)), tmp_path / target) == 0
    assert len(names(tmp_path)) == 2


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("x" * 256, "has 256 bytes, more than the limit of 255 for a file"),
        ("a\0b", "cannot be written|is not a valid file name"),
        ("loop", "cannot be written"),
        ("pipe", "neither a file nor a folder"),
        ("out.mov", "videos are written as .mp4, .avi, .mkv"),
        ("out.png", "is named as an image"),
        ("folder.mp4", "is a folder"),
        ("a.mp4", "is or holds INPUT"),
        ("link.mp4", "is or holds INPUT"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="makes pipes and links")
def test_wrong_outputs_are_refused_before_the_model_is_loaded(
    tmp_path: Path, target: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "a.mp4", ramp(4))
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = names(tmp_path)
    monkeypatch.setattr("lit_thermal.weights.load_model", lambda path: pytest.fail("the model is loaded"))
    with pytest.raises(InputError, match=words):
        run(source, tmp_path / target)
    with pytest.raises(InputError, match="is a pipe or a device"):
        run(tmp_path / "pipe", tmp_path / "out")
    assert names(tmp_path) == before


def test_a_frame_in_colour_is_reported_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3)[: 3 if number == 5 else 2])
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "in" / f"{number}.png")
    monkeypatch.setattr("lit_thermal.weights.load_model", lambda path: pytest.fail("it was loaded"))
    with pytest.raises(InputError, match=r"5\.png is in colour"):
        run(tmp_path / "in", tmp_path / "out")
    assert names(tmp_path) == ["in"]
