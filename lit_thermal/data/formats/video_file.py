"""Video files through FFmpeg's libraries: gray clips that are read frame by frame, and a writer for playback."""

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
"""Suffixes of the videos that are written, and FFmpeg's names of their formats."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoClip:
    """One video file. Counts are luma over the full range, 0 to 255 (or 65535 above 8 bit).

    Frames are upright, as a player shows them. A frame that the camera dropped, of which an AVI keeps the place alone,
    is the one before it once more.
    """

    path: Path
    length: int
    size: tuple[int, int]
    bits: int
    fps: float | None
    stamps: tuple[int, ...]
    """Time stamps of the frames in the order of display; empty where the file does not give them."""
    base: Fraction = Fraction(1)
    """Seconds of one unit of `stamps`."""
    aspect: Fraction = Fraction(1)
    """Width of a pixel over its height, as the file says."""
    repeats: tuple[int, ...] = ()
    """How many frames of the clip each frame of the file is; empty where each is one."""

    starts_anywhere: bool = False
    """Whether time 0 means nothing, as where stamps are those of a broadcast's clock."""

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    @classmethod
    def open(cls, path: Path) -> "VideoClip":
        """Read the container's packets, which counts the frames, and decode the first one.

        Where a packet may hold no frame, or half of one, all frames are decoded to count them.

        Raises:
            InputError: the file is not a video, holds no frame, is truncated or in colour.
        """
        packets = Packets.read(path)
        first = next(decode(path), None)
        if first is None:
            raise InputError(f"{path} holds no video frame")
        if first.interlaced_frame:
            log.warning(
                "%s is interlaced: its frames mix two moments, which are restored as they are; "
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
        """Frames `start` to `stop - 1` as (T, H, W) uint8 or uint16 counts, from the key frame before them."""
        found: dict[int, np.ndarray] = {}
        if self.stamps and not self.repeats:
            wanted = {stamp: start + index for index, stamp in enumerate(self.stamps[start:stop])}
            for frame in decode(self.path, self.stamps[start]):
                if frame.pts in wanted:
                    found[wanted[frame.pts]] = self._image(frame, wanted[frame.pts])
                if frame.pts is None or frame.pts >= self.stamps[stop - 1]:
                    break
        if len(found) < stop - start:  # no time stamps, or the seek landed behind: count from the beginning
            found = dict(zip(range(start, stop), islice(self, start, stop), strict=True))
        return np.stack([found[index] for index in range(start, stop)])

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every frame in turn, (H, W) uint8 or uint16.

        Raises:
            InputError: fewer frames decode than the file holds, or their size changes.
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
            raise truncated(self.path, f"{count} of {self.length} frames decode")

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
    """Return the stamps of all places of an AVI and how many each of its frames takes; nothing where none is empty."""
    span = order[-1] - order[0] + 1
    if len(set(order)) < len(order) or not len(order) < places or span > places:
        return order, ()
    stop = order[0] + places
    return tuple(range(order[0], stop)), tuple(b - a for a, b in pairwise((*order, stop)))


class VideoWriter:
    """Write gray frames as a video that common players show; a context manager.

    H.264 in yuv420p with limited range, or MPEG-4 where FFmpeg was built without libx264. The file is
    written beside its place and moved there at the end; after an error nothing is left.

    Args:
        path: .mp4, .avi or .mkv file.
        size: (height, width) of the frames; an odd side gets one more row or column.
        fps: frames per second.
        tick: seconds of one unit of the stamps that `write` is given; none where frames follow at `fps`.
        aspect: width of a pixel over its height, which players heed.

    Raises:
        InputError: the suffix is not one of the three, or the file cannot be written.
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
            raise InputError(f"videos are written as {', '.join(CONTAINERS)}, which {path} is not")
        self.path = path
        self._size, self._aspect = size, aspect
        self._rate = Fraction(fps).limit_denominator(1001) or Fraction(1, 1001)
        self._codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        # MPEG-4 counts time in at most 65535 parts of a second
        finest = Fraction(1, 65535 if self._codec == "mpeg4" else 1_000_000)
        self._tick = None if tick is None else max(tick, finest)
        self._ratio = Fraction(1) if tick is None else tick / max(tick, finest)
        self._last = -1

    def write(self, image: np.ndarray, stamp: int | None = None) -> None:
        """Append one frame, (H, W) uint8 of full range, to be shown at `stamp` ticks; none is the next in turn."""
        height, width = self._stream.height, self._stream.width
        padded = np.pad(image, ((0, height - image.shape[0]), (0, width - image.shape[1])), mode="edge")
        luma = np.round(16 + padded.astype(np.float32) * (219 / 255)).astype(np.uint8)
        planes = np.full((height * 3 // 2, width), 128, np.uint8)
        planes[:height] = luma
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        # a container takes no two frames of one time
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
                # what stopped the writing is told, and no error that follows from it
                with suppress(Exception):
                    self._container.close()
                raise
            self._container.close()

    def _add_stream(self) -> Any:
        height, width = self._size
        # Frames in the order of display: a container shifts the times of others.
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
