"""Display times of the frames of a restored video."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from lit_thermal.data.formats.cptv_file import CptvClip
from lit_thermal.data.formats.frames import Clip
from lit_thermal.data.formats.video_file import VideoClip

DEFAULT_FPS = 25.0
"""Frame rate of the video if the input has none, such as a folder of frames."""
_EVEN = Fraction(1, 50)
"""Largest deviation of equally spaced frames, as a fraction of the time between frames."""
_ROUNDING = Fraction(1, 900)
"""Largest deviation in seconds: Matroska rounds times to 1/1000 s."""
_NOTED = Fraction(1, 20)
"""Smallest deviation of a step that is reported, as a fraction of the mean step."""


@dataclass(frozen=True)
class Timing:
    """Times of output frames, either at a constant rate from 0 or derived from the time stamps of the input frames."""

    fps: float
    """Frames per second, on average."""
    tick: Fraction | None = None
    """Duration in seconds of one unit of the output's time stamps; None for a constant frame rate."""
    stamps: Sequence[int] = ()
    """Time stamps of the input frames, in units of `tick * scale` seconds."""
    scale: int = 1
    """Output frames per input frame."""
    remark: str = ""
    """Note for the user about irregular times of the input, or an empty string."""

    @classmethod
    def of(cls, clip: Clip, scale: int, fps: float | None) -> "Timing":
        """Return the times for the output of a clip.

        Args:
            clip: input clip.
            scale: number of output frames per input frame.
            fps: constant frame rate; None keeps the times of the input.
        """
        if fps:
            return cls(fps)
        if not isinstance(clip, (VideoClip, CptvClip)):
            return cls(DEFAULT_FPS)
        stamps, nominal = clip.stamps, scale * clip.fps if clip.fps else DEFAULT_FPS
        if len(stamps) < 2 or len(stamps) != clip.length:
            return cls(
                nominal,
                remark=f"its frames have no increasing times, so the video shows {nominal:g} frames per second; "
                "--fps sets it",
            )
        step = Fraction(stamps[-1] - stamps[0], len(stamps) - 1)
        rate = _rate(1 / (step * clip.base), clip.fps)
        furthest = max(abs(stamp - stamps[0] - index * step) for index, stamp in enumerate(stamps))
        even = furthest <= max(_EVEN * step, min(Fraction(1), _ROUNDING / clip.base))
        start = 0 if clip.starts_anywhere else max(0, stamps[0])
        if even and start == 0:
            return cls(float(scale * rate))
        steps = [after - before for before, after in pairwise(stamps)]
        remark = ""
        if not even and max(max(steps) - step, step - min(steps)) > _NOTED * step:
            remark = (
                f"its frames are not equally spaced (steps of {float(min(steps) * clip.base):.3f} to "
                f"{float(max(steps) * clip.base):.3f} s): the model takes them as equally spaced, the video keeps "
                "their times"
            )
        moved = tuple(stamp - stamps[0] + start for stamp in stamps)
        return cls(float(scale * rate), clip.base / scale, moved, scale, remark)

    def stamp(self, index: int) -> int | None:
        """Return the time stamp of an output frame in units of `tick`; None for a constant frame rate."""
        if self.tick is None:
            return None
        before, share = divmod(index, self.scale)
        after = self.stamps[min(before + 1, len(self.stamps) - 1)]
        return self.stamps[before] * (self.scale - share) + after * share


def _rate(measured: Fraction, stated: float | None) -> Fraction:
    """Return the stated frame rate if the time stamps agree with it, otherwise the measured rate."""
    if stated and abs(measured - Fraction(stated)) < measured / 100:
        return Fraction(stated)
    return measured.limit_denominator(1001)
