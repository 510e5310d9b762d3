"""What the packets of a video tell before any is decoded: frames, their times, and whether some are missing."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from lit_thermal.data.formats.video_decode import opened, truncated
from lit_thermal.errors import InputError, reading

_REORDERED = 16
"""By how many places H.264 and HEVC may store a frame away from where it is shown."""
_NOT_CODED = 10
"""Bytes of a packet that may hold nothing but the word that the last frame stays."""


@dataclass(frozen=True)
class Packets:
    """The packets of the first video stream of a file."""

    format: str
    """FFmpeg's name of the container's format."""
    stamps: tuple[int | None, ...]
    """Time stamps of the packets that are shown: sorted where `are_frames`, else as they are stored."""
    base: Fraction
    """Seconds of one unit of `stamps`."""
    rate: Fraction | None
    """Frames per second, as the header says."""
    aspect: Fraction
    """Width of a pixel over its height."""
    are_frames: bool
    """Whether each packet certainly is one frame."""
    places: int
    """Places of frames in an AVI, of which those of dropped frames are empty; 0 for other formats."""

    @classmethod
    def read(cls, path: Path) -> "Packets":
        """Read all packets.

        Raises:
            InputError: the file is not a video, or holds less than its header promises.
        """
        stamps: list[int | None] = []
        total, end, smallest, started, early = 0, 0, 2**31, False, False
        with opened(path) as (container, stream):
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                total += 1
                if packet.is_corrupt:
                    raise truncated(path, f"frame {total - 1} is cut")
                # What comes before the first key frame, or is hidden by the container, is never shown.
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
            and codec != "vp8"  # some of its frames are never shown
            and _is_reordered(known, order)
        )
        return cls(
            kind, tuple(order) if are_frames else tuple(stamps), base, rate, aspect or Fraction(1), are_frames, places
        )


def _check_total(path: Path, kind: str, index: int, total: int, promised: int) -> int:
    """Check the number of packets against the header's; returns the places of frames in an AVI."""
    places = 0
    if kind == "avi":
        places = max(total, _avi_places(path, index))
    if max(total, places) >= promised - promised // 100:
        return places
    if kind.startswith("mov"):
        # An edit list may leave out what the file holds.
        with opened(path, ignore_editlist="1") as (container, stream):
            total = sum(packet.size > 0 for packet in container.demux(stream))
    if max(total, places) < promised - promised // 100:
        raise truncated(path, f"it holds {max(total, places)} of {promised} frames")
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
    """Whether stamps run on but for the places by which a codec reorders frames; a clock that was set back jumps."""
    place = {stamp: index for index, stamp in enumerate(order)}
    return all(abs(place[stamp] - index) <= _REORDERED for index, stamp in enumerate(known))


def _duration(stream: Any) -> Fraction | None:
    """Seconds at which the stream ends, which the writer of a Matroska file notes when it is done."""
    text = next((v for k, v in stream.metadata.items() if k.upper().startswith("DURATION")), None)
    try:
        hours, minutes, seconds = str(text).split(":")
        return Fraction(int(hours) * 3600 + int(minutes) * 60) + Fraction(seconds)
    except (ValueError, ZeroDivisionError):
        return None
