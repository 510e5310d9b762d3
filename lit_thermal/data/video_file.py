"""Video files through FFmpeg's libraries: gray clips that are read frame by frame, and a writer for playback."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from lit_thermal.data.frames import GRAY_TOLERANCE, reduce_to_gray
from lit_thermal.errors import InputError

VIDEO_SUFFIXES = frozenset({".avi", ".mp4", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".webm", ".wmv"})
_CONTAINERS = {".mp4": "mp4", ".avi": "avi", ".mkv": "matroska"}


@dataclass(frozen=True)
class VideoClip:
    """One video file. Counts are luma over the full range, 0 to 255 (or 65535 above 8 bit)."""

    path: Path
    length: int
    size: tuple[int, int]
    bits: int
    fps: float | None
    stamps: tuple[int, ...]
    """Time stamps of the frames in the order of display; empty where the file does not give them."""

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    @classmethod
    def open(cls, path: Path) -> "VideoClip":
        """Read the container's packets, which counts the frames, and decode the first one.

        Raises:
            InputError: the file is not a video, holds no frame, is truncated or in colour.
        """
        stamps: list[int | None] = []
        total = 0
        with _opened(path) as (container, stream):
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                total += 1
                if packet.is_corrupt:
                    raise _truncated(path, f"frame {total - 1} is cut")
                # What comes before the first key frame, or is hidden by the container, is never shown.
                if not packet.is_discard and (stamps or packet.is_keyframe):
                    stamps.append(packet.pts)
            expected = _expected_frames(container, stream)
            rate = stream.average_rate or stream.guessed_rate
        if total < expected - expected // 100:
            raise _truncated(path, f"it holds {total} of {expected} frames")
        if not stamps:
            raise InputError(f"{path} holds no video frame")
        first = next(_decode(path))[1]
        known = [stamp for stamp in stamps if stamp is not None]
        order = tuple(sorted(known)) if len(set(known)) == len(stamps) else ()
        bits = 16 if first.dtype == np.uint16 else 8
        size = (first.shape[0], first.shape[1])
        return cls(path, len(stamps), size, bits, float(rate) if rate else None, order)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop - 1` as (T, H, W) uint8 or uint16 counts, from the key frame before them."""
        found: dict[int, np.ndarray] = {}
        if self.stamps:
            wanted = {stamp: start + index for index, stamp in enumerate(self.stamps[start:stop])}
            for stamp, image in _decode(self.path, self.stamps[start]):
                if stamp in wanted:
                    found[wanted[stamp]] = image
                if stamp is None or stamp >= self.stamps[stop - 1]:
                    break
        if len(found) < stop - start:  # no time stamps, or the seek landed behind: count from the beginning
            for index, (_, image) in enumerate(_decode(self.path)):
                if start <= index:
                    found[index] = image
                if index == stop - 1:
                    break
        if missing := [index for index in range(start, stop) if index not in found]:
            raise _truncated(self.path, f"frame {missing[0]} of {self.length} does not decode")
        return np.stack([found[index] for index in range(start, stop)])

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every frame in turn, (H, W) uint8 or uint16.

        Raises:
            InputError: fewer frames decode than the file holds, or their size changes.
        """
        count = 0
        for _, image in _decode(self.path):
            if image.shape != self.size:
                raise InputError(
                    f"frames of a clip must have one size, but {self.path} changes from {self.size[1]}x{self.size[0]}"
                    f" to {image.shape[1]}x{image.shape[0]} at frame {count}: split it there"
                )
            if count == self.length:
                return
            yield image
            count += 1
        if count < self.length:
            raise _truncated(self.path, f"{count} of {self.length} frames decode")


class VideoWriter:
    """Write gray frames as a video that common players show; a context manager.

    H.264 in yuv420p with limited range, or MPEG-4 where FFmpeg was built without libx264. The file is
    written beside its place and moved there at the end; after an error nothing is left.

    Args:
        path: .mp4, .avi or .mkv file.
        size: (height, width) of the frames; an odd side gets one more row or column.
        fps: frames per second.

    Raises:
        InputError: the suffix is not one of the three.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float) -> None:
        if path.suffix.lower() not in _CONTAINERS:
            raise InputError(f"videos are written as {', '.join(_CONTAINERS)}, which {path} is not")
        self.path = path
        self._part = path.with_name(f".{path.name}.part")
        self._container = av.open(str(self._part), "w", format=_CONTAINERS[path.suffix.lower()])
        rate = Fraction(fps).limit_denominator(1001)
        height, width = size
        if "libx264" in av.codecs_available:
            stream: Any = self._container.add_stream("libx264", rate=rate, options={"crf": "16", "preset": "fast"})
        else:
            stream = self._container.add_stream("mpeg4", rate=rate)
            stream.bit_rate = int(height * width * max(1.0, fps))
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        stream.codec_context.color_range = 1
        self._stream = stream

    def write(self, image: np.ndarray) -> None:
        """Append one frame, (H, W) uint8 of full range."""
        height, width = self._stream.height, self._stream.width
        padded = np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1])), mode="edge")
        luma = np.round(16 + padded.astype(np.float32) * (219 / 255)).astype(np.uint8)
        planes = np.full((height * 3 // 2, width), 128, np.uint8)
        planes[:height] = luma
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode())
            self._container.close()
            if kind is None:
                os.replace(self._part, self.path)
        finally:
            self._part.unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream; FFmpeg's errors become sentences."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path} holds no video stream")
            yield container, container.streams.video[0]
    except av.error.FFmpegError as error:
        if not path.exists():
            raise InputError(f"{path} does not exist") from error
        raise _truncated(path, str(error.strerror or error)) from error


def _decode(path: Path, stamp: int | None = None) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield (time stamp, (H, W) counts) from the key frame before `stamp`, or from the beginning."""
    with _opened(path) as (container, stream):
        if stamp is not None:
            container.seek(stamp, stream=stream, backward=True)
        for index, frame in enumerate(container.decode(stream)):
            # Right after a seek, frames that refer to what was skipped are flagged and not asked for.
            if frame.is_corrupt and stamp is None:
                raise _truncated(path, f"frame {index} is damaged")
            yield frame.pts, _luma(frame, path)


def _luma(frame: av.VideoFrame, path: Path) -> np.ndarray:
    """(H, W) uint8 or uint16 of full range.

    Raises:
        InputError: the frame is in colour.
    """
    form = frame.format
    bits = form.components[0].bits
    if form.is_rgb or form.has_palette:
        pixels = frame.to_ndarray(format="rgb24" if bits <= 8 else "rgb48le")
        return reduce_to_gray(pixels, GRAY_TOLERANCE * (1 if bits <= 8 else 257), str(path))
    if not form.is_planar and len(form.components) > 1:
        frame = frame.reformat(format="yuv422p" if bits <= 8 else "yuv422p16le")
        bits = frame.format.components[0].bits
    planes = [_plane(frame, index, bits) for index in range(len(frame.planes))]
    for chroma in planes[1:3]:
        worst = int(np.abs(chroma.astype(np.int32) - 2 ** (bits - 1)).max())
        if worst > GRAY_TOLERANCE * 2 ** (bits - 8):
            raise InputError(
                f"{path} is in colour (chroma is up to {worst} levels from neutral): thermal frames are gray, "
                "so undo the colour map, or convert it with 'ffmpeg -i IN -vf format=gray OUT'"
            )
    luma = planes[0]
    full = frame.color_range == 2 or (form.name.startswith(("yuvj", "gray")) and frame.color_range != 1)
    if full and bits in (8, 16):
        return luma
    low, width = (0.0, 2.0**bits - 1) if full else (16.0 * 2 ** (bits - 8), 219.0 * 2 ** (bits - 8))
    top = 255 if bits == 8 else 65535
    spread = np.clip(np.round((luma.astype(np.float32) - low) * (top / width)), 0, top)
    return spread.astype(np.uint8 if bits == 8 else np.uint16)


def _plane(frame: av.VideoFrame, index: int, bits: int) -> np.ndarray:
    """One plane without its padding; interleaved chroma (nv12) stays interleaved."""
    plane: Any = frame.planes[index]
    width = plane.width * (2 if index and frame.format.name.startswith("nv") else 1)
    kind = np.dtype(np.uint8 if bits <= 8 else ">u2" if frame.format.is_big_endian else "<u2")
    rows = np.frombuffer(plane, kind).reshape(-1, plane.line_size // kind.itemsize)[: plane.height]
    return rows[:, :width].astype(kind.newbyteorder("="))


def _expected_frames(container: Any, stream: Any) -> int:
    """How many frames the header promises; 0 where it does not say."""
    if stream.frames:
        return int(stream.frames)
    # Matroska: the writer notes the duration of each stream when it is done.
    duration = next((v for k, v in stream.metadata.items() if k.upper().startswith("DURATION")), None)
    if duration is None or not stream.average_rate:
        return 0
    hours, minutes, seconds = duration.split(":")
    return int((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * stream.average_rate + 0.01)


def _truncated(path: Path, detail: str) -> InputError:
    return InputError(f"{path} cannot be read as a video ({detail}): it is truncated or damaged, replace or remove it")
