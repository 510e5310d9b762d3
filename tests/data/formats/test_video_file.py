"""Videos as cameras, phones and editors write them."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from video_seeds import drop_frames, make_seeds, make_video, ramp, read

from lit_thermal.data.formats.clips import open_clip
from lit_thermal.data.formats.pixels import check_pixels
from lit_thermal.data.formats.video_file import VideoClip
from lit_thermal.errors import InputError


def shown(path: Path) -> tuple[VideoClip, np.ndarray]:
    clip = open_clip(path)
    assert isinstance(clip, VideoClip)
    frames = np.stack(list(clip)).astype(int)
    assert clip.length == len(frames) and clip.size == frames.shape[1:]
    middle = clip.read(clip.length // 3, clip.length // 3 + 3)
    assert np.array_equal(middle, frames[clip.length // 3 :][:3])
    return clip, frames


TURNS = [
    ((90, False, False), lambda image: np.rot90(image)),
    ((180, False, False), lambda image: np.rot90(image, 2)),
    ((270, False, False), lambda image: np.rot90(image, 3)),
    ((0, True, False), lambda image: image[:, ::-1]),
    ((0, False, True), lambda image: image[::-1]),
    ((90, True, False), lambda image: image[::-1, ::-1].T),
]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(("turn", "expected"), TURNS)
def test_frames_are_upright_as_a_player_shows_them(tmp_path: Path, suffix: str, turn: tuple, expected) -> None:
    frames = ramp(6)
    clip, seen = shown(make_video(tmp_path / f"a.{suffix}", frames, turn=turn, aspect=Fraction(4, 3)))
    truth = np.stack([expected(image) for image in frames])
    assert clip.size == truth.shape[1:]
    assert np.abs(seen - truth).mean() < 2
    assert clip.aspect == (Fraction(3, 4) if turn[0] % 180 else Fraction(4, 3))


def test_a_matrix_that_is_written_by_hand_turns_too(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", ramp(4))
    data = bytearray(path.read_bytes())
    place = data.index(struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30), data.index(b"tkhd"))
    data[place : place + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)
    path.write_bytes(data)
    assert np.abs(shown(path)[1] - np.rot90(ramp(4), 3, (1, 2))).mean() < 2
    data[place : place + 36] = bytes(32) + struct.pack(">i", 1 << 30)  # no matrix that means anything
    path.write_bytes(data)
    assert open_clip(path).size == (48, 64)
    data[place : place + 36] = struct.pack(">9i", 46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a multiple of 90 degrees"):
        open_clip(path)


@pytest.mark.parametrize(("codec", "form"), [("mjpeg", "yuvj420p"), ("mpeg4", "yuv420p"), ("ffv1", "gray")])
@pytest.mark.parametrize("dropped", [{5}, {3, 4, 9}, {10, 11}, {1, 11}])
def test_a_dropped_frame_of_an_avi_is_the_one_before_it(tmp_path: Path, codec: str, form: str, dropped: set) -> None:
    path = make_video(tmp_path / "a.avi", ramp(12), codec, form, options={"g": "1"})
    _, whole = shown(path)
    clip, seen = shown(drop_frames(path, dropped))
    assert clip.length == 12 and clip.stamps == tuple(range(12)) and clip.fps == 25
    last = [max(i for i in range(k + 1) if i not in dropped) for k in range(12)]
    assert np.array_equal(seen, whole[last])


def test_an_avi_that_lacks_frames_at_its_end_is_truncated(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", ramp(12), "mjpeg", "yuvj420p")
    data = bytearray(path.read_bytes())
    place = data.index(b"strh") + 8 + 32
    assert struct.unpack_from("<I", data, place) == (12,)
    struct.pack_into("<I", data, place, 40)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"holds only 12 of 40 frames"):
        open_clip(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_times_are_those_of_the_file(tmp_path: Path, suffix: str) -> None:
    stamps = [0, 40, 80, 120, 1120, 1160, 1200, 1213]
    clip, _ = shown(make_video(tmp_path / f"a.{suffix}", ramp(8), stamps=stamps, rate=10))
    times = [(stamp - clip.stamps[0]) * clip.base for stamp in clip.stamps]
    assert [float(time) for time in times] == pytest.approx([stamp / 1000 for stamp in stamps], abs=1e-4)


def test_an_edit_list_leaves_out_what_it_says(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", ramp(40), options={"g": "10", "bf": "0"})
    _, whole = shown(path)
    data = bytearray(path.read_bytes())
    struct.pack_into(">Ii", data, data.index(b"elst") + 12, 400, 512 * 15)  # 0.4 s from frame 15, no key frame
    path.write_bytes(data)
    clip, seen = shown(path)
    assert clip.length == 10 and np.array_equal(seen, whole[15:25])


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(tmp_path / "a.mp4", ramp(3)).rename(tmp_path / "12:30:05.mp4")
    monkeypatch.chdir(tmp_path)
    assert open_clip(Path("12:30:05.mp4")).length == 3


def test_what_is_no_video_opens_no_other_file(tmp_path: Path) -> None:
    make_video(tmp_path / "secret.ts", ramp(6), "mpeg2video")
    for name, text in (
        ("a.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n"),
        ("b.mkv", "ffconcat version 1.0\nfile secret.ts\n"),
        ("c.avi", "hello\n"),
        ("d.ts", ""),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=rf"{name} cannot be read as a video"):
            open_clip(tmp_path / name)


def test_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "a.mkv", ramp(3), "ffv1", "gray")
    monkeypatch.setenv("LIT_THERMAL_MAX_PIXELS", "3071")
    with pytest.raises(InputError, match=r"a\.mkv declares 64x48 pixels, more than the limit of 3071: .*_MAX_PIXELS"):
        open_clip(path)
    monkeypatch.setenv("LIT_THERMAL_MAX_PIXELS", "3072")
    assert open_clip(path).length == 3
    monkeypatch.setenv("LIT_THERMAL_MAX_PIXELS", "many")
    with pytest.raises(InputError, match="integer above 0"):
        check_pixels(1, 1, "x")
    monkeypatch.delenv("LIT_THERMAL_MAX_PIXELS")
    with pytest.raises(InputError, match="60000x60000"):
        check_pixels(60000, 60000, "x")


def test_every_kind_is_read(tmp_path: Path) -> None:
    for path in make_seeds(tmp_path):
        assert open_clip(path).length == 6, path
        read(path)


def test_a_mutated_video_is_read_or_refused_in_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seeds = [path.read_bytes() for path in make_seeds(tmp_path / "seeds")]
    names = [path.name for path in sorted((tmp_path / "seeds").iterdir())]
    seeds = [(tmp_path / "seeds" / name).read_bytes() for name in names]
    generator = np.random.default_rng(15)
    refused = 0
    for trial in range(200):
        index = trial % len(seeds)
        data = bytearray(seeds[index])
        for _ in range(int(generator.integers(1, 9))):
            # headers, at the beginning and the end, are hit as often as the pixels
            low, high = [(0, len(data)), (0, 600), (len(data) - 900, len(data))][generator.integers(3)]
            place = int(generator.integers(max(0, low), min(high, len(data))))
            size = int(generator.choice([1, 1, 2, 4]))
            data[place : place + size] = generator.choice(
                [b"\xff" * size, bytes(size), generator.bytes(size), b"\x7f" + b"\xff" * (size - 1)]
            )
        if generator.random() < 0.2:
            del data[int(generator.integers(len(data))) :]
        path = tmp_path / f"mutated{Path(names[index]).suffix}"
        path.write_bytes(data)
        try:
            read(path)
        except InputError as error:
            assert path.name in str(error) and "\n" not in str(error)
            refused += 1
    assert 20 < refused < 200
    assert capfd.readouterr() == ("", "")
