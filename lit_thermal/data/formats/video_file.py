"""Video files by FFmpeg's libraries: gray clips that are read frame by frame, and a writer for playback."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from lit_thermal.data.formats.video_decode import decode, gray, is_transposed, truncated
from lit_thermal.data.formats.video_packets import Packets
from lit_thermal.errors import InputError
from lit_thermal.files import replacing

VIDEO_SUFFIXES = frozenset({".avi", ".mp4", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".webm", ".wmv"})
CONTAINERS = {".mp4": "mp4", ".avi": "avi", ".mkv": "matroska"}
"""Suffixes of videos that can be written, and FFmpeg's names of their formats."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoClip:
    """One video file. Counts are luma over the full range, 0 to 255, or 0 to 65535 for more than 8 bits.

    Frames are upright, as in a player. A dropped frame, for which an AVI has only an empty place, repeats the frame
    before it.
    """

    path: Path
    length: int
    size: tuple[int, int]
    bits: int
    fps: float | None
    stamps: tuple[int, ...]
    """Time stamps of the frames in display order; empty if the file does not have them."""
    base: Fraction = Fraction(1)
    """Length of one unit of `stamps` in seconds."""
    aspect: Fraction = Fraction(1)
    """Pixel aspect ratio of the file, width over height."""
    repeats: tuple[int, ...] = ()
    """Number of times that each stored frame is shown in the clip; empty if all are shown once."""

    starts_anywhere: bool = False
    """Whether time 0 has no meaning, for example if stamps come from a broadcast's clock."""

    @property
    def name(self) -> str:
        """Name of the file without its suffix."""
        return self.path.stem

    @classmethod
    def open(cls, path: Path) -> "VideoClip":
        """Open a video: count its frames by the container's packets, and decode the first frame.

        If a packet may hold no frame, or half a frame, all frames are decoded to count them.

        Raises:
            InputError: the file is not a video, contains no frame, or is truncated or in colour.
        """
        packets = Packets.read(path)
        first = next(decode(path), None)
        if first is None:
            raise InputError(f"{path} holds no video frame")
        if first.interlaced_frame:
            log.warning(
                "%s is interlaced: each frame mixes two moments and is restored as it is; "
                "'ffmpeg -i IN -vf bwdif OUT' separates them",
                path,
            )
        stamps = packets.stamps
        if not packets.are_frames or first.interlaced_frame:
            stamps = tuple(frame.pts for frame in decode(path))
        known = [stamp for stamp in stamps if stamp is not None]
        timed = len(known) == len(stamps) and known == sorted(known) and (known[0] < known[-1] or len(known) == 1)
        order: tuple[int, ...] = tuple(known) if timed else ()
        repeats: tuple[int, ...] = ()
        if packets.places and timed:
            order, repeats = _filled(order, packets.places)
        image = gray(first, path)
        return cls(
            path=path,
            length=len(order) or len(stamps),
            size=(image.shape[0], image.shape[1]),
            bits=16 if image.dtype == np.uint16 else 8,
            fps=float(packets.rate) if packets.rate else None,
            stamps=order,
            base=packets.base,
            aspect=1 / packets.aspect if is_transposed(first) else packets.aspect,
            repeats=repeats,
            starts_anywhere=packets.format in ("avi", "mpegts", "mpeg"),
        )

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return frames `start` to `stop - 1` as (T, H, W) uint8 or uint16 counts, by decoding from a key frame."""
        found: dict[int, np.ndarray] = {}
        if self.stamps and not self.repeats:
            wanted = {stamp: start + index for index, stamp in enumerate(self.stamps[start:stop])}
            for frame in decode(self.path, self.stamps[start]):
                if frame.pts in wanted:
                    found[wanted[frame.pts]] = self._image(frame, wanted[frame.pts])
                if frame.pts is None or frame.pts >= self.stamps[stop - 1]:
                    break
        if len(found) < stop - start:  # no time stamps, or the seek ended after the start: count from the beginning
            found = dict(zip(range(start, stop), islice(self, start, stop), strict=True))
        return np.stack([found[index] for index in range(start, stop)])

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every frame in turn, (H, W) uint8 or uint16.

        Raises:
            InputError: fewer frames can be decoded than the file declares, or their size changes.
        """
        count = 0
        for index, frame in enumerate(decode(self.path)):
            if count == self.length:
                return
            image = self._image(frame, count)
            for _ in range(self.repeats[index] if index < len(self.repeats) else 1):
                yield image
                count += 1
        if count < self.length:
            raise truncated(self.path, f"only {count} of {self.length} frames can be decoded")

    def _image(self, frame: av.VideoFrame, index: int) -> np.ndarray:
        image = gray(frame, self.path)
        if image.shape != self.size:
            raise InputError(
                f"frames of a clip must have one size, but {self.path} changes from {self.size[1]}x{self.size[0]}"
                f" to {image.shape[1]}x{image.shape[0]} at frame {index}: split it there"
            )
        if (image.dtype == np.uint16) != (self.bits == 16):
            raise InputError(
                f"frames of a clip must have one depth, but {self.path} changes it at frame {index}: split it there"
            )
        return image


def _filled(order: tuple[int, ...], places: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the time stamps of all places of an AVI, and the number of places of each frame; empty if all have one."""
    span = order[-1] - order[0] + 1
    if len(set(order)) < len(order) or not len(order) < places or span > places:
        return order, ()
    stop = order[0] + places
    return tuple(range(order[0], stop)), tuple(b - a for a, b in pairwise((*order, stop)))


class VideoWriter:
    """Context manager that writes gray frames as a video for common players.

    The video is H.264 in yuv420p with limited range, or MPEG-4 if FFmpeg was built without libx264. It is written to a
    temporary file next to `path`, which replaces `path` at the end and is removed after an error.

    Args:
        path: path of the .mp4, .avi or .mkv file.
        size: height and width of the frames; an odd side is padded by one row or column.
        fps: frames per second.
        tick: length in seconds of one unit of the stamps passed to `write`; None if frames follow each other at `fps`.
        aspect: pixel aspect ratio, width over height, for players.

    Raises:
        InputError: the suffix is not one of these, or the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        fps: float,
        tick: Fraction | None = None,
        aspect: Fraction = Fraction(1),
    ) -> None:
        if path.suffix.lower() not in CONTAINERS:
            raise InputError(f"{path} cannot be written as a video: use the suffix {', '.join(CONTAINERS)}")
        self.path = path
        self._size, self._aspect = size, aspect
        self._rate = Fraction(fps).limit_denominator(1001) or Fraction(1, 1001)
        self._codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        # the time base of MPEG-4 is at least 1/65535 second
        finest = Fraction(1, 65535 if self._codec == "mpeg4" else 1_000_000)
        self._tick = None if tick is None else max(tick, finest)
        self._ratio = Fraction(1) if tick is None else tick / max(tick, finest)
        self._last = -1

    def write(self, image: np.ndarray, stamp: int | None = None) -> None:
        """Append one frame, (H, W) uint8 of full range, to be shown at `stamp` ticks, by default after the last."""
        height, width = self._stream.height, self._stream.width
        padded = np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1])), mode="edge")
        luma = np.round(16 + padded.astype(np.float32) * (219 / 255)).astype(np.uint8)
        planes = np.full((height * 3 // 2, width), 128, np.uint8)
        planes[:height] = luma
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        # a container does not take two frames with the same time
        self._last = max(self._last + 1, 0 if stamp is None else round(stamp * self._ratio))
        frame.pts, frame.time_base = self._last, self._tick or 1 / self._rate
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> "VideoWriter":
        self._opened = self._open()
        self._opened.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, trace)

    @contextmanager
    def _open(self) -> Iterator[None]:
        with replacing(self.path) as part:
            self._container = av.open(f"file:{part}", "w", format=CONTAINERS[self.path.suffix.lower()])
            try:
                self._stream = self._add_stream()
                yield
                self._container.mux(self._stream.encode())
            except BaseException:
                # only the first error is raised, not those that follow from it
                with suppress(Exception):
                    self._container.close()
                raise
            self._container.close()

    def _add_stream(self) -> Any:
        height, width = self._size
        # No B-frames, so that frames are in display order: for others, a container shifts the times.
        options = {"crf": "16", "preset": "fast", "bf": "0"} if self._codec == "libx264" else {}
        stream: Any = self._container.add_stream(self._codec, rate=self._rate, options=options)
        if self._codec == "mpeg4":
            stream.bit_rate = int(height * width * max(1.0, float(self._rate)))
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        stream.codec_context.color_range = 1
        if self._aspect != 1:
            stream.codec_context.sample_aspect_ratio = self._aspect
        if self._tick is not None:
            stream.codec_context.time_base = stream.time_base = self._tick
        return stream
