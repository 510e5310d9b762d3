"""Small videos of each kind, for tests of the reader and for mutating."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from lit_thermal.data.formats.clips import open_clip

KINDS = {
    "mp4": ("libx264", "yuv420p"),
    "mov": ("mpeg4", "yuv420p"),
    "avi": ("mjpeg", "yuvj420p"),
    "mkv": ("ffv1", "gray16le"),
    "ts": ("mpeg2video", "yuv420p"),
    "webm": ("libvpx", "yuv420p"),
    "wmv": ("wmv2", "yuv420p"),
    "mpg": ("mpeg1video", "yuv420p"),
}
"""Suffix to the codec and the pixel format of its seed."""


def ramp(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames (T, H, W) uint8 of a moving pattern without symmetry, which lossy codecs keep well."""
    t, y, x = np.mgrid[:count, :height, :width]
    return (128 + 60 * np.sin(0.15 * x + 0.3 * t) * np.cos(0.1 * y) + x * 0.6 - y * 0.4).astype(np.uint8)


def make_video(
    path: Path,
    frames: np.ndarray,
    codec: str = "libx264",
    form: str = "yuv420p",
    rate: int = 25,
    stamps: Sequence[int] | None = None,
    base: Fraction = Fraction(1, 1000),
    turn: tuple[int, bool, bool] | None = None,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode gray frames.

    Args:
        path: the suffix says the container.
        frames: (T, H, W) uint8 or uint16.
        codec: FFmpeg's name of the encoder.
        form: pixel format.
        rate: frames per second that the header says.
        stamps: times of the frames in units of `base`.
        base: seconds.
        turn: degrees counterclockwise, whether mirrored left to right, and upside down, for the display matrix.
        aspect: width of a pixel over its height.
        options: of the encoder.
    """
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:], form
        if stamps is not None:
            stream.codec_context.time_base = stream.time_base = base
        if turn is not None:
            stream.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="gray16le" if image.dtype == np.uint16 else "gray")
            frame = frame.reformat(format=form) if frame.format.name != form else frame
            if stamps is not None:
                frame.pts, frame.time_base = stamps[index], base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def drop_frames(path: Path, dropped: set[int]) -> Path:
    """Empty the chunks of some frames of an AVI, as a camera does that dropped them; the index goes."""
    data = path.read_bytes()
    start = data.index(b"movi")
    place, kept, index = start + 4, bytearray(data[: start + 4]), 0
    while data[place : place + 4] in (b"00dc", b"00db"):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        stop = place + 8 + size + size % 2
        kept += data[place : place + 4] + bytes(4) if index in dropped else data[place:stop]
        place, index = stop, index + 1
    kept[start - 4 : start] = struct.pack("<I", len(kept) - start)
    kept[4:8] = struct.pack("<I", len(kept) - 8)
    path.write_bytes(kept)
    return path


def make_seeds(folder: Path) -> list[Path]:
    """Write one whole small video of each kind, and a turned one, one with a dropped frame and one with a pause."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for suffix, (codec, form) in KINDS.items():
        frames = ramp(6, 32, 48)
        frames = frames.astype(np.uint16) * 257 if "16" in form else frames
        made.append(make_video(folder / f"seed.{suffix}", frames, codec, form))
    made.append(make_video(folder / "turned.mp4", ramp(6, 32, 48), turn=(90, False, False)))
    made.append(make_video(folder / "pause.mkv", ramp(6, 32, 48), stamps=[0, 40, 80, 900, 940, 980]))
    made.append(drop_frames(make_video(folder / "dropped.avi", ramp(6, 32, 48), "mpeg4"), {3}))
    return made


def read(path: Path) -> None:
    """Read all of a video as a data set and as `upscale` does."""
    clip = open_clip(path)
    for _, _frame in zip(range(200), clip, strict=False):
        pass
    clip.read(clip.length // 2, min(clip.length, clip.length // 2 + 3))
