"""Number, times and completeness of the frames of a video, from its packets, without decoding."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from lit_thermal.data.formats.video_decode import opened, truncated
from lit_thermal.errors import InputError, reading

_REORDERED = 16
"""Largest distance in H.264 and HEVC between a frame's positions in storage and in display order."""
_NOT_CODED = 10
"""Size in bytes up to which a packet may contain only a repetition of the last frame."""


@dataclass(frozen=True)
class Packets:
    """The packets of the first video stream of a file."""

    format: str
    """FFmpeg's name of the container format."""
    stamps: tuple[int | None, ...]
    """Time stamps of the displayed packets, sorted if `are_frames`, else in storage order."""
    base: Fraction
    """Length of one unit of `stamps` in seconds."""
    rate: Fraction | None
    """Frames per second by the header."""
    aspect: Fraction
    """Pixel aspect ratio, width over height."""
    are_frames: bool
    """Whether each packet is certainly one frame."""
    places: int
    """Number of frame places in an AVI, including empty ones of dropped frames; 0 for other formats."""

    @classmethod
    def read(cls, path: Path) -> "Packets":
        """Read all packets.

        Raises:
            InputError: the file is not a video, or contains fewer frames than its header declares.
        """
        stamps: list[int | None] = []
        total, end, smallest, started, early = 0, 0, 2**31, False, False
        with opened(path) as (container, stream):
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                total += 1
                if packet.is_corrupt:
                    raise truncated(path, f"frame {total - 1} is incomplete")
                # Packets before the first key frame, or hidden by the container, are never displayed.
                started = started or packet.is_keyframe
                if packet.is_discard or not started:
                    continue
                stamps.append(packet.pts)
                smallest = min(smallest, packet.size)
                if packet.pts is not None:
                    end = max(end, packet.pts + (packet.duration or 0))
                    early = early or packet.pts < (stamps[0] or 0)
            kind, codec, promised = container.format.name, stream.codec_context.name, int(stream.frames)
            base = Fraction(stream.time_base or 1)
            rate = stream.average_rate or stream.guessed_rate or None
            aspect = Fraction(stream.codec_context.sample_aspect_ratio or 1)
            index, duration = stream.index, _duration(stream)
        if not total:
            raise InputError(f"{path} holds no video frame")
        places = _check_total(path, kind, index, total, promised)
        if duration is not None and end * base < duration * Fraction(99, 100) - 2 / (rate or 1):
            raise truncated(path, f"it ends after {float(end * base):.2f} of {float(duration):.2f} s")
        known = [stamp for stamp in stamps if stamp is not None]
        order = sorted(known)
        are_frames = (
            len(stamps) == len(known) == len(set(known))
            and len(known) > 0
            and not early
            and smallest > _NOT_CODED
            and codec != "vp8"  # some of its frames are never displayed
            and _is_reordered(known, order)
        )
        return cls(
            kind, tuple(order) if are_frames else tuple(stamps), base, rate, aspect or Fraction(1), are_frames, places
        )


def _check_total(path: Path, kind: str, index: int, total: int, promised: int) -> int:
    """Check the number of packets against the header; returns the number of frame places in an AVI."""
    places = 0
    if kind == "avi":
        places = max(total, _avi_places(path, index))
    if max(total, places) >= promised - promised // 100:
        return places
    if kind.startswith("mov"):
        # An edit list may hide frames of the file.
        with opened(path, ignore_editlist="1") as (container, stream):
            total = sum(packet.size > 0 for packet in container.demux(stream))
    if max(total, places) < promised - promised // 100:
        raise truncated(path, f"it holds only {max(total, places)} of {promised} frames")
    return places


def _avi_places(path: Path, index: int) -> int:
    """Count the chunks of one stream of an AVI; those of dropped frames have no bytes."""
    count, kinds = 0, (b"%02ddc" % index, b"%02ddb" % index)
    with reading(path, "a video"), path.open("rb") as file:
        length = path.stat().st_size
        while len(head := file.read(8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] in (b"RIFF", b"LIST"):
                file.seek(4, 1)
                continue
            file.seek(size + size % 2, 1)
            count += head[:4] in kinds and file.tell() <= length + 1
    return count


def _is_reordered(known: list[int], order: list[int]) -> bool:
    """Return whether stamps ascend apart from the codec's reordering; they jump if a clock was set back."""
    place = {stamp: index for index, stamp in enumerate(order)}
    return all(abs(place[stamp] - index) <= _REORDERED for index, stamp in enumerate(known))


def _duration(stream: Any) -> Fraction | None:
    """Return the end of the stream in seconds, which the writer of a Matroska file records at the end, or None."""
    text = next((v for k, v in stream.metadata.items() if k.upper().startswith("DURATION")), None)
    try:
        hours, minutes, seconds = str(text).split(":")
        return Fraction(int(hours) * 3600 + int(minutes) * 60) + Fraction(seconds)
    except (ValueError, ZeroDivisionError):
        return None
