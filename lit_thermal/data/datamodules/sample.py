"""One decoded image: counts of target and input, the visible view, and checks that they fit each other."""

import logging
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from lit_thermal.batch import Radiometry
from lit_thermal.errors import InputError

_log = logging.getLogger(__name__)
_black: set[str] = set()
"""Names of black images that were already logged in this process."""


@dataclass(frozen=True)
class Sample:
    """One image, read from files or rendered by the simulator.

    Attributes:
        radiometry: mapping of the counts of both `hr` and `lr` to [0, 1].
        hr: target (H, W), uint8 or uint16 counts; None if there is none.
        lr: thermal input, (h, w) counts; if None, a degradation makes it from `hr`.
        guide: visible view (3, H, W) uint8 at the size of the target; None if there is none.
        tags: words that describe the content of the image; None if unknown.
        missing_lr: whether the thermal input is missing and must not be made from `hr`.
    """

    radiometry: Radiometry
    hr: np.ndarray | None = None
    lr: np.ndarray | None = None
    guide: np.ndarray | None = None
    tags: tuple[str, ...] | None = None
    missing_lr: bool = False


class SampleSource(Protocol):
    """An image that stays on disk, or in the simulator, until it is read."""

    @property
    def name(self) -> str:
        """File stem, for outputs and tables."""

    @property
    def bytes(self) -> int:
        """Size of the decoded image in bytes, for a cache in memory."""

    def read(self) -> Sample:
        """Decode the image."""


@dataclass(frozen=True)
class CachedSample:
    """An image that is kept decoded in memory."""

    name: str
    sample: Sample
    bytes: int

    def read(self) -> Sample:
        """Return the image."""
        return self.sample


def read_sample(source: SampleSource, scale: int, guided: bool) -> Sample:
    """Read an image, check that its parts fit each other and cut its sides to multiples of `scale`.

    An all-black thermal image is valid; the log gets one warning for it.

    Args:
        source: source that reads the image.
        scale: factor by which the target is wider and higher than the input.
        guided: whether to keep the visible view, if it exists.

    Raises:
        InputError: the image is empty, its parts differ in depth, or their sizes do not fit `scale`.
    """
    sample = source.read()
    if not guided:
        sample = replace(sample, guide=None)
    hr, lr, guide = sample.hr, sample.lr, sample.guide
    if hr is None and lr is None and guide is None:
        raise InputError(f"the image {source.name} has no thermal image{' and no guide' if guided else ''}")
    if hr is not None and lr is not None:
        if hr.dtype != lr.dtype:
            raise InputError(
                f"the image {source.name} has an hr of {8 * hr.itemsize} bits and an lr of {8 * lr.itemsize}: "
                "give both the same depth"
            )
        if hr.shape != (scale * lr.shape[0], scale * lr.shape[1]):
            raise InputError(
                f"the image {source.name} has an hr of {size_text(hr)} and an lr of {size_text(lr)}, which is not "
                f"1/{scale} of it each way: set data.scale to their ratio, or leave the image out"
            )
    height, width = target_size(sample, scale)
    if guide is not None and guide.shape[1:] != (height, width):
        raise InputError(
            f"the image {source.name} has a guide of {size_text(guide)}, but its target at data.scale {scale} is "
            f"{width}x{height}: give the guide the size of the target"
        )
    if min(height, width) < scale:
        raise InputError(f"the image {source.name} is {width}x{height}, smaller than data.scale {scale}: leave it out")
    if any(part is not None and not part.any() for part in (hr, lr)) and source.name not in _black:
        _black.add(source.name)
        _log.warning("the thermal image %s is entirely black", source.name)
    rows, columns = (slice(length - length % scale) for length in (height, width))
    return replace(
        sample,
        hr=None if hr is None else hr[rows, columns],
        guide=None if guide is None else guide[:, rows, columns],
    )


def target_size(sample: Sample, scale: int) -> tuple[int, int]:
    """Return the height and width of the restored image."""
    if sample.lr is not None:
        return sample.lr.shape[0] * scale, sample.lr.shape[1] * scale
    picture = sample.hr if sample.hr is not None else sample.guide
    assert picture is not None
    height, width = picture.shape[-2:]
    return height, width


def size_text(picture: np.ndarray) -> str:
    """Return width and height of (..., H, W) counts, for error messages."""
    return f"{picture.shape[-1]}x{picture.shape[-2]}"
