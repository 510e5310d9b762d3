"""Decoding of video files by FFmpeg's libraries: packets, and gray frames that are upright as in a player."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np

from lit_thermal.data.formats.gray_image import GRAY_TOLERANCE, reduce_to_gray
from lit_thermal.data.formats.pixels import check_pixels, max_pixels
from lit_thermal.errors import InputError, reading

CUT = "it is truncated or damaged, replace or remove it"
# FFmpeg detects formats by content: without this list, a text file named .mp4 could be a playlist of other files.
_FORMATS = "avi,matroska,webm,mov,mp4,mpegts,mpeg,mpegvideo,m4v,asf,h264,hevc"


@contextmanager
def opened(path: Path, **options: str) -> Iterator[tuple[Any, Any]]:
    """Open a video file and yield its container and its first video stream.

    Args:
        path: path of the file; no other file is opened, even if the file refers to it.
        **options: options of FFmpeg's reader.

    Raises:
        InputError: the file is not a video, holds no video stream, or declares too many pixels; or the body raised an
            exception of FFmpeg for damaged files.
    """
    limit = str(min(max_pixels(), 2**31 - 1))
    with reading(path, "a video", CUT):
        try:
            # without "file:", FFmpeg takes the text before a colon for a protocol
            container = av.open(
                f"file:{path}",
                options=options,
                container_options={"protocol_whitelist": "file", "format_whitelist": _FORMATS},
                metadata_errors="replace",
            )
        except av.error.ArgumentError as error:
            raise InputError(
                f"{path} cannot be read as a video (it is not an AVI, Matroska, MP4, MPEG or ASF file): replace it, or "
                "convert it with ffmpeg"
            ) from error
        with container:
            stream = next((s for s in container.streams.video if not _is_cover(s)), None)
            if stream is None:
                raise InputError(f"{path} holds no video stream")
            if stream.codec_context is None:
                raise InputError(f"{path} holds video of a codec that is not supported: convert it with ffmpeg")
            check_pixels(stream.codec_context.width, stream.codec_context.height, path)
            stream.codec_context.options = {"max_pixels": limit}
            yield container, stream


def decode(path: Path, stamp: int | None = None) -> Iterator[av.VideoFrame]:
    """Yield the frames in display order, from the key frame before `stamp` or from the beginning.

    Raises:
        InputError: same as in `opened`, or a frame is damaged.
    """
    with opened(path) as (container, stream):
        if stamp is not None:
            container.seek(stamp, stream=stream, backward=True)
        index = 0
        for packet in container.demux(stream):
            if packet.size == 0 and packet.dts is not None:  # a dropped frame, which a decoder would take for the end
                continue
            for frame in packet.decode():
                # Right after a seek, frames that refer to skipped ones are marked as corrupt; callers do not use them.
                if frame.is_corrupt and stamp is None:
                    raise truncated(path, f"frame {index} is damaged")
                yield frame
                index += 1


def gray(frame: av.VideoFrame, path: Path) -> np.ndarray:
    """Return a frame as (H, W) uint8 or uint16 of full range, rotated and mirrored by the file's display matrix.

    Raises:
        InputError: the frame is in colour, or its rotation is not a multiple of 90 degrees.
    """
    with reading(path, "a video", CUT):
        return _upright(_luma(frame, path), _matrix(frame), path)


def truncated(path: Path, detail: str) -> InputError:
    """Return the error for an incomplete video."""
    return InputError(f"{path} cannot be read as a video ({detail}): {CUT}")


def is_transposed(frame: av.VideoFrame) -> bool:
    """Return whether a frame is rotated by 90 or 270 degrees, which swaps width and height."""
    a, b, c, d = _matrix(frame)
    return abs(b) + abs(c) > abs(a) + abs(d)


def _is_cover(stream: Any) -> bool:
    """Return whether a stream is an attached picture, such as a thumbnail."""
    return "attached_pic" in str(getattr(stream, "disposition", ""))


def _matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return (a, b, c, d) of the display matrix: a pixel at (x, y) is shown at (a x + c y, b x + d y)."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(data, np.int32).tolist()
    return (a, b, c, d) if any((a, b, c, d)) else (1, 0, 0, 1)


def _upright(image: np.ndarray, matrix: tuple[int, int, int, int], path: Path) -> np.ndarray:
    a, b, c, d = matrix
    straight, across = abs(a) + abs(d), abs(b) + abs(c)
    if min(straight, across) > 0.01 * max(straight, across) or (a * d == 0 and b * c == 0):
        raise InputError(
            f"the frames of {path} are to be displayed rotated by an angle that is not a multiple of 90 degrees: "
            "apply the rotation with 'ffmpeg -i IN OUT'"
        )
    if across > straight:
        image, rows, columns = image.T, b, c
    else:
        rows, columns = d, a
    image = image[::-1] if rows < 0 else image
    image = image[:, ::-1] if columns < 0 else image
    return np.ascontiguousarray(image)


def _luma(frame: av.VideoFrame, path: Path) -> np.ndarray:
    """Return the luma of a frame, (H, W) uint8 or uint16 of full range.

    Raises:
        InputError: the frame is in colour.
    """
    form = frame.format
    bits = form.components[0].bits
    if form.is_rgb or form.has_palette:
        pixels = frame.to_ndarray(format="rgb24" if bits <= 8 else "rgb48le")
        return reduce_to_gray(pixels, GRAY_TOLERANCE * (1 if bits <= 8 else 257), str(path))
    if bits > 16:
        raise InputError(f"{path} has {bits} bits per pixel; at most 16 are supported: convert it with ffmpeg")
    if bits < 8:
        return frame.to_ndarray(format="gray")
    if not form.is_planar and len(form.components) > 1:
        frame = frame.reformat(format="yuv422p" if bits <= 8 else "yuv422p16le")
        bits = frame.format.components[0].bits
    planes = [_plane(frame, index, bits) for index in range(len(frame.planes))]
    for chroma in planes[1:3]:
        worst = int(np.abs(chroma.astype(np.int32) - 2 ** (bits - 1)).max())
        if worst > GRAY_TOLERANCE * 2 ** (bits - 8):
            raise InputError(
                f"{path} is in colour (chroma is up to {worst} levels from neutral), but thermal frames are gray: "
                "undo the colour map, or convert it with 'ffmpeg -i IN -vf format=gray OUT'"
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
    """Return one plane without padding; interleaved chroma (nv12) stays interleaved."""
    plane: Any = frame.planes[index]
    width = plane.width * (2 if index and frame.format.name.startswith("nv") else 1)
    kind = np.dtype(np.uint8 if bits <= 8 else ">u2" if frame.format.is_big_endian else "<u2")
    rows = np.frombuffer(plane, kind).reshape(-1, plane.line_size // kind.itemsize)[: plane.height]
    return rows[:, :width].astype(kind.newbyteorder("="))
