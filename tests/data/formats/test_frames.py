import io
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.clips import find_clips, open_clip
from lit_thermal.data.formats.frames import RESTORED_TOLERANCE, FolderClip, read_frame, read_header, write_frame
from lit_thermal.data.formats.radiometry import clip_radiometry, display_range, histogram, percentile, to_values
from lit_thermal.data.formats.video_file import VideoClip, VideoWriter
from lit_thermal.errors import InputError


def counts(*shape: int, bits: int = 8, seed: int = 0) -> np.ndarray:
    kind = np.uint16 if bits == 16 else np.uint8
    return np.random.default_rng(seed).integers(0, 2**bits, shape, dtype=kind)


def ramp(frames: int, height: int, width: int) -> np.ndarray:
    """A smooth moving pattern that lossy codecs keep well."""
    t, y, x = np.mgrid[:frames, :height, :width]
    return (128 + 100 * np.sin(0.15 * x + 0.3 * t) * np.cos(0.1 * y)).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 16])
def test_what_is_written_reads_back_exactly(tmp_path: Path, suffix: str, bits: int) -> None:
    image = counts(7, 11, bits=bits)
    for radiometry in (Radiometry(0.0, 2.0**bits - 1, bits), Radiometry(-40.0, 2.0**bits + 77, bits)):
        path = tmp_path / f"a{suffix}"
        write_frame(path, to_values(image, radiometry)[None], radiometry)
        assert np.array_equal(read_frame(path), image) and read_frame(path).dtype == image.dtype
        assert read_header(path) == (7, 11, bits)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(InputError, match=r"\.jpg"):
        write_frame(tmp_path / "a.jpg", torch.zeros(2, 2), Radiometry())


@pytest.mark.parametrize("bits", [8, 16])
def test_three_equal_channels_are_one(tmp_path: Path, bits: int) -> None:
    image = counts(9, 6, bits=bits)
    three = np.repeat(image[..., None], 3, -1)
    tifffile.imwrite(tmp_path / "a.tif", three, photometric="rgb")
    tifffile.imwrite(tmp_path / "planar.tif", np.moveaxis(three, -1, 0), photometric="rgb", planarconfig="separate")
    names = ["a.tif", "planar.tif"]
    if bits == 8:
        Image.fromarray(three).save(tmp_path / "a.png")
        Image.fromarray(image).convert("P").save(tmp_path / "palette.png")
        Image.fromarray(three).convert("RGBA").save(tmp_path / "alpha.png")
        Image.fromarray(image).save(tmp_path / "lzw.tif", compression="tiff_lzw")
        names += ["a.png", "palette.png", "alpha.png", "lzw.tif"]
    else:
        frame = av.VideoFrame.from_ndarray(three, format="rgb48le")
        (tmp_path / "a.png").write_bytes(png_of(frame))
        names.append("a.png")
    for name in names:
        assert np.array_equal(read_frame(tmp_path / name), image), name
    three[0, 0, 1] ^= 1
    tifffile.imwrite(tmp_path / "a.tif", three, photometric="rgb")
    with pytest.raises(InputError, match="in colour"):
        read_frame(tmp_path / "a.tif")


def test_gray_of_16_bit_with_alpha_keeps_its_depth(tmp_path: Path) -> None:
    pixels = counts(8, 9, 2, bits=16)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 9, 8, 16, 4, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    png = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    assert np.array_equal(read_frame(tmp_path / "a.png"), pixels[..., 0])


def png_of(frame: av.VideoFrame) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="image2pipe") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "rgb48be"
        container.mux(stream.encode(frame.reformat(format="rgb48be")))
        container.mux(stream.encode())
    return buffer.getvalue()


def test_lossy_gray_may_differ_by_two_levels(tmp_path: Path) -> None:
    three = np.repeat(ramp(1, 32, 32)[0][..., None], 3, -1)
    Image.fromarray(three).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_frame(tmp_path / "a.jpg").astype(int) - three[..., 0]).max() < 8
    three[..., 0] //= 2
    Image.fromarray(three).save(tmp_path / "b.jpg", quality=95)
    with pytest.raises(InputError, match="in colour"):
        read_frame(tmp_path / "b.jpg")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_an_image_cut_anywhere_is_an_error_of_one_sentence(tmp_path: Path, suffix: str) -> None:
    write_frame(tmp_path / f"whole{suffix}", torch.rand(20, 30), Radiometry(0, 65535, 16))
    data = (tmp_path / f"whole{suffix}").read_bytes()
    path = tmp_path / f"cut{suffix}"
    for end in [0, 1, 8, 20, 30, 60, *range(100, len(data) - 40, 97), len(data) - 40]:
        path.write_bytes(data[:end])
        for read in (read_header, read_frame):
            with pytest.raises(InputError, match=f"cut{suffix}") as caught:
                read(path)
            assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="does not exist"):
        read_frame(tmp_path / f"none{suffix}")


def test_other_depths_and_pages_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "f.tif", np.zeros((4, 4), np.float32))
    with pytest.raises(InputError, match="float32, not 8-bit or 16-bit counts: convert it to uint16"):
        read_frame(tmp_path / "f.tif")
    tifffile.imwrite(tmp_path / "n.tif", np.array([[300, np.nan], [np.inf, 301]], np.float32))
    for read in (read_header, read_frame):
        with pytest.raises(InputError, match=r"n\.tif holds float32 with 2 pixels that are NaN or infinite"):
            read(tmp_path / "n.tif")
    tifffile.imwrite(tmp_path / "p.tif", np.zeros((3, 4, 4), np.uint16), photometric="minisblack")
    with pytest.raises(InputError, match="3 pages"):
        read_header(tmp_path / "p.tif")


def write_clip(folder: Path, frames: np.ndarray, first: int = 0) -> None:
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame_{first + index}.png")


def test_a_folder_is_a_clip_in_natural_order(tmp_path: Path) -> None:
    frames = counts(12, 6, 8)
    write_clip(tmp_path / "a", frames)
    (tmp_path / "a" / "._frame_0.png").write_bytes(b"x")
    (tmp_path / "a" / "notes.txt").write_text("x")
    clip = open_clip(tmp_path / "a")
    assert (clip.name, clip.length, clip.size, clip.bits, clip.fps) == ("a", 12, (6, 8), 8, None)
    assert np.array_equal(clip.read(0, 12), frames) and np.array_equal(clip.read(9, 11), frames[9:11])
    assert np.array_equal(np.stack(list(clip)), frames)
    Image.fromarray(frames[0, :4]).save(tmp_path / "a" / "frame_7.png")
    with pytest.raises(InputError, match=r"frame_0\.png is 8x6 with 8 bits and frame_7\.png is 8x4 with 8 bits"):
        FolderClip.open(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="it is empty"):
        open_clip(tmp_path / "empty")
    (tmp_path / "a" / "x.tif").write_bytes(b"x")
    with pytest.raises(InputError, match=r"\.png and \.tif"):
        open_clip(tmp_path / "a")
    with pytest.raises(InputError, match="neither"):
        open_clip(tmp_path / "a" / "notes.txt")


def encode(path: Path, frames: np.ndarray, codec: str, form: str, rate: int = 30, **options: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], form
        for image in frames:
            source = "gray16le" if image.dtype == np.uint16 else "gray" if image.ndim == 2 else "rgb24"
            frame = av.VideoFrame.from_ndarray(image, format=source)
            container.mux(stream.encode(frame if source == form else frame.reformat(format=form)))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "form"),
    [("a.mkv", "ffv1", "gray"), ("a.avi", "ffv1", "gray"), ("b.mkv", "ffv1", "gray16le"), ("a.mov", "png", "gray")],
)
def test_a_lossless_video_reads_back_exactly(tmp_path: Path, name: str, codec: str, form: str) -> None:
    bits = 16 if "16" in form else 8
    frames = counts(9, 38, 50, bits=bits)
    clip = open_clip(encode(tmp_path / name, frames, codec, form))
    assert (clip.length, clip.size, clip.bits, clip.fps) == (9, (38, 50), bits, 30.0)
    assert np.array_equal(np.stack(list(clip)), frames)
    assert np.array_equal(clip.read(4, 8), frames[4:8])


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
@pytest.mark.parametrize("options", [{"g": "12", "bf": "2"}, {"g": "4", "bf": "0"}])
def test_reading_a_part_of_a_video_equals_reading_all(tmp_path: Path, name: str, options: dict) -> None:
    frames = ramp(40, 48, 64)
    clip = open_clip(encode(tmp_path / name, frames, "mpeg4", "yuv420p", **options))
    whole = np.stack(list(clip))
    assert clip.length == len(whole) == 40
    for start, stop in [(0, 7), (5, 12), (11, 13), (33, 40), (39, 40), (0, 40)]:
        assert np.array_equal(clip.read(start, stop), whole[start:stop])


def test_our_video_is_gray_h264_of_full_contrast(tmp_path: Path) -> None:
    frames = ramp(30, 47, 63)
    frames[:, :8], frames[:, -8:] = 0, 255
    with VideoWriter(tmp_path / "a.mp4", (47, 63), 50.0) as writer:
        assert not (tmp_path / "a.mp4").exists()
        for frame in frames:
            writer.write(frame)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.pix_fmt == "yuv420p"
    clip = VideoClip.open(tmp_path / "a.mp4")
    assert (clip.length, clip.size, clip.fps) == (30, (48, 64), 50.0)
    back = np.stack(list(clip))[:, :47, :63]
    assert np.abs(back.astype(int) - frames).mean() < 2
    assert back[:, :6].max() < 8 and back[:, -6:].min() > 247


def test_a_failed_video_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(tmp_path / "a.mp4", (32, 32), 25) as writer:
        writer.write(np.zeros((32, 32), np.uint8))
        raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mkv", "libx264"), ("b.avi", "ffv1")]
)
def test_a_truncated_video_is_an_error_of_one_sentence(tmp_path: Path, name: str, codec: str) -> None:
    path = encode(tmp_path / name, ramp(60, 48, 64), codec, "gray" if codec == "ffv1" else "yuv420p")
    data = path.read_bytes()
    for part in (0.0, 0.01, 0.3, 0.6, 0.9):
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(InputError, match=name) as caught:
            list(open_clip(path))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="does not exist"):
        open_clip(tmp_path / "none.mp4")


def test_a_colour_video_is_refused_and_equal_channels_are_not(tmp_path: Path) -> None:
    frames = np.repeat(ramp(6, 32, 48)[..., None], 3, -1)
    clip = open_clip(encode(tmp_path / "gray.mkv", frames, "ffv1", "bgr0"))
    assert np.array_equal(clip.read(0, 6), frames[..., 0])
    frames[..., 2] //= 3
    for name, codec, form in [("a.mkv", "ffv1", "bgr0"), ("a.mp4", "libx264", "yuv420p")]:
        with pytest.raises(InputError, match="in colour"):
            open_clip(encode(tmp_path / name, frames, codec, form))


def test_clips_of_a_folder_have_one_name_each(tmp_path: Path) -> None:
    write_clip(tmp_path / "b", counts(2, 4, 4))
    (tmp_path / "notes").mkdir()
    for name in ("a10.mp4", "a9.avi", "readme.txt", ".hidden.mp4"):
        (tmp_path / name).write_bytes(b"")
    assert list(find_clips(tmp_path)) == ["a9", "a10", "b"]
    (tmp_path / "b.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds b and b\.mp4, which have the same stem"):
        find_clips(tmp_path)


def test_the_range_of_a_clip_is_fixed_and_invertible(tmp_path: Path) -> None:
    frames = (2700 + counts(5, 20, 30, seed=3).astype(np.uint16) // 2).astype(np.uint16)
    frames[2, 3, 4] = 9000
    write_clip(tmp_path / "a", frames)
    clip = open_clip(tmp_path / "a")
    exact = clip_radiometry(clip, "minmax")
    values = to_values(frames, exact)
    assert exact.bits == 16 and values.min() > 0 and values.max() < 1
    assert np.array_equal(exact.to_counts(values).round().numpy(), frames)
    assert values.max() - values.min() == pytest.approx(1 / 1.1, rel=1e-3)
    narrow = clip_radiometry(clip, "percentile")
    assert narrow.gain < 0.1 * exact.gain and to_values(frames, narrow).max() == 1
    assert clip_radiometry(clip, "full") == Radiometry(0.0, 65535.0, 16)
    low, high = display_range(histogram(clip, 16), exact)
    assert 0 < low < high < 0.1
    flat = np.full((3, 4, 4), 7, np.uint16)
    write_clip(tmp_path / "flat", flat)
    assert clip_radiometry(open_clip(tmp_path / "flat")).gain > 0


def test_percentiles_of_a_histogram() -> None:
    image = counts(50, 40, bits=16, seed=1)
    table = histogram([image[:20], image[20:]], 16)
    assert table.sum() == image.size
    assert percentile(table, 0) == image.min() and percentile(table, 100) == image.max()
    assert percentile(table, 50) == np.percentile(image, 50, method="inverted_cdf")


def test_values_that_are_no_numbers_are_not_written(tmp_path):
    values = torch.rand(4, 5)
    values[1, 2] = torch.nan
    with pytest.raises(InputError, match=r"a\.png: 1 of 20 restored pixels are NaN .* another checkpoint"):
        write_frame(tmp_path / "a.png", values, Radiometry())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bits", [8, 16])
def test_channels_of_restored_images_may_differ_by_three_levels(
    tmp_path: Path, bits: int, caplog: pytest.LogCaptureFixture
) -> None:
    step = 257 if bits == 16 else 1
    gray = np.clip(counts(9, 6, bits=bits).astype(int), 0, 2**bits - 1 - 3 * step)
    three = np.stack([gray, gray + step, gray + 3 * step], -1).astype(np.uint16 if bits == 16 else np.uint8)
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, three, photometric="rgb")
        found = read_frame(tmp_path / name, RESTORED_TOLERANCE)
        assert np.array_equal(found, np.rint(three.mean(-1))) and found.dtype == three.dtype
        with pytest.raises(InputError, match="in colour"):
            read_frame(tmp_path / name)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and "channels that differ by up to 3 8-bit levels: they are averaged" in said[0]
    three[0, 0, 2] += 1
    tifffile.imwrite(tmp_path / "a.tif", three, photometric="rgb")
    with pytest.raises(InputError, match="in colour"):
        read_frame(tmp_path / "a.tif", RESTORED_TOLERANCE)


def test_transparency_is_reported_and_is_no_colour(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gray, alpha = counts(6, 7), counts(6, 7, seed=1)
    both = np.stack([gray, alpha], -1)
    tifffile.imwrite(tmp_path / "a.tif", both, photometric="minisblack", extrasamples=["unassalpha"])
    assert np.array_equal(read_frame(tmp_path / "a.tif"), gray)
    assert "a.tif has transparent pixels" in caplog.text


def test_a_picture_beside_measurements_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    colour = np.stack([ramp(1, 32, 32)[0], ramp(1, 32, 32)[0] // 2, ramp(1, 32, 32)[0]], -1)
    for name, image in (("gray.jpg", colour[..., 0]), ("colour's.jpg", colour)):
        Image.fromarray(image).save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[:2] + b"\xff\xe1\0\x0aFLIR\0\1\0\0" + data[2:])
    assert read_frame(tmp_path / "gray.jpg").shape == (32, 32)
    assert "gray.jpg is read as its 8-bit picture only; it has records of a FLIR camera, but no radio" in caplog.text
    with pytest.raises(InputError, match=r"in colour .* FLIR camera, but no radiometric data among them"):
        read_frame(tmp_path / "colour's.jpg")
