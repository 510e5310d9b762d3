"""Thermal images with or without a visible view: crops to train on, whole images to measure and to restore."""

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lit_thermal.batch import Radiometry
from lit_thermal.data.datamodules.windows import MARGIN
from lit_thermal.data.degradations.degradation import Degradation
from lit_thermal.data.degradations.misalignment import Aligned, Misalignment
from lit_thermal.data.formats.radiometry import beyond, to_values
from lit_thermal.errors import InputError

_log = logging.getLogger(__name__)
_black: set[str] = set()
"""Names of black images that were already logged in this process."""


@dataclass(frozen=True)
class Sample:
    """One image as files or the simulator give it.

    Attributes:
        radiometry: mapping of the counts of both `hr` and `lr` to [0, 1].
        hr: target (H, W), uint8 or uint16 counts; None if there is none.
        lr: thermal input, (h, w) counts; if None, a degradation makes it from `hr`.
        guide: visible view (3, H, W) uint8 at the size of the target; None if there is none.
        tags: words for the content of the image; None if unknown.
        missing_lr: there is no thermal input, and none is to be made from `hr`.
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
        guided: whether to keep the visible view, if there is one.

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
                f"the image {source.name} has an hr of {_size(hr)} and an lr of {_size(lr)}, which is not 1/{scale} "
                "of it each way: set data.scale to their ratio, or leave the image out"
            )
    height, width = target_size(sample, scale)
    if guide is not None and guide.shape[1:] != (height, width):
        raise InputError(
            f"the image {source.name} has a guide of {_size(guide)}, but its target at data.scale {scale} is "
            f"{width}x{height}: give the guide the size of the target"
        )
    if min(height, width) < scale:
        raise InputError(f"the image {source.name} is {width}x{height}, smaller than data.scale {scale}: leave it out")
    if any(picture is not None and not picture.any() for picture in (hr, lr)) and source.name not in _black:
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


class TrainingCrops(Dataset[dict[str, Any]]):
    """Random crops of images, flipped; a pass over the images shows each of them once, in an order of its own.

    A sample depends on the seed and its index alone, whatever worker makes it. The index grows from epoch to epoch
    (`TrainingSampler`), so that no two epochs are alike.

    Args:
        sources: images with a target.
        scale: factor by which the target is wider and higher than the input.
        crop: side of the input crops in LR pixels; 0 takes whole images.
        guided: whether samples have a guide, and flags that tell which camera is present.
        degradation: makes the input of an image that has none. It also sees a margin around the crop.
        augment: flip left to right and upside down, each with probability 0.5.
        samples: length of an epoch.
        seed: seed of all random draws.
        misalignment: random misalignment of the guide; crops and all other draws do not depend on it.
    """

    def __init__(
        self,
        sources: Sequence[SampleSource],
        *,
        scale: int,
        crop: int,
        guided: bool,
        degradation: Degradation,
        augment: bool,
        samples: int,
        seed: int,
        misalignment: Misalignment | None = None,
    ) -> None:
        self.sources, self.scale, self.crop, self.guided = sources, scale, crop, guided
        self.degradation, self.augment, self.samples, self.seed = degradation, augment, samples, seed
        self.misalignment = misalignment or Aligned()
        self._pass, self._order = -1, np.arange(0)

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample: `lr` (1, crop, crop), `hr` (1, crop * scale, crop * scale) and a `guide` of that size."""
        source = self.sources[self._place(index)]
        rng = np.random.default_rng((self.seed, index))
        sample = read_sample(source, self.scale, self.guided)
        if sample.hr is None:
            raise InputError(f"the image {source.name} has no target to train on: leave it out")
        if min(sample.hr.shape) < self.crop * self.scale:
            side = self.crop * self.scale
            raise InputError(
                f"data.crop {self.crop} at scale {self.scale} needs images of at least {side}x{side}, "
                f"but {source.name} is {_size(sample.hr)}"
            )
        if self.augment:
            for axis in (-1, -2):
                if rng.random() < 0.5:
                    sample = _flipped(sample, axis)
        # The third number: as below. The crops are then the same at any misalignment.
        return self._cut(source.name, sample, rng, np.random.default_rng((self.seed, index, 2)))

    def _place(self, index: int) -> int:
        """Return the number of the image that is shown at `index`."""
        number, place = divmod(index, len(self.sources))
        if number != self._pass:
            # A third number keeps these draws apart from those of the samples.
            order = np.random.default_rng((self.seed, number, 1)).permutation(len(self.sources))
            self._pass, self._order = number, order
        return int(self._order[place])

    def _cut(self, name: str, sample: Sample, rng: np.random.Generator, beside: np.random.Generator) -> dict[str, Any]:
        """Return a random crop as a sample: on whole LR pixels if the input is a file, anywhere if it is made."""
        assert sample.hr is not None
        step = self.scale
        sides = [self.crop * step or length for length in sample.hr.shape]
        grid = 1 if sample.lr is None else step
        first = [
            grid * int(rng.integers((length - side) // grid + 1))
            for length, side in zip(sample.hr.shape, sides, strict=True)
        ]
        rows, columns = (slice(start, start + side) for start, side in zip(first, sides, strict=True))
        hr = _thermal(sample.hr[rows, columns], sample.radiometry)
        if sample.lr is not None:
            y, x = (slice(s.start // step, s.stop // step) for s in (rows, columns))
            lr = _thermal(sample.lr[y, x], sample.radiometry)
        elif sample.missing_lr:
            lr = torch.zeros(1, *(side // step for side in sides))
        else:
            lr = self._degrade(sample.hr, sample.radiometry, (rows, columns), int(rng.integers(2**31)))
        guide = None if sample.guide is None else self._guide_window(sample.guide, (rows, columns), beside)
        return _item(name, sample, lr, hr, guide, scale=step, guided=self.guided)

    def _guide_window(self, guide: np.ndarray, window: tuple[slice, slice], beside: np.random.Generator) -> Tensor:
        """Return a window of a guide (3, H, W), misaligned at random if requested."""
        if isinstance(self.misalignment, Aligned):
            return _colours(guide[:, window[0], window[1]])
        return self.misalignment(_colours(guide), beside, window=window)

    def _degrade(self, counts: np.ndarray, radiometry: Radiometry, window: tuple[slice, slice], seed: int) -> Tensor:
        """Return the input (1, h, w) for a window of a target (H, W), degraded with a margin around it."""
        step = self.scale
        low = [min(MARGIN, s.start // step) for s in window]
        high = [min(MARGIN, (length - s.stop) // step) for s, length in zip(window, counts.shape, strict=True)]
        around = tuple(slice(s.start - a * step, s.stop + b * step) for s, a, b in zip(window, low, high, strict=True))
        lr = self.degradation(_thermal(counts[around], radiometry), scale=step, seed=seed)
        return lr[:, low[0] : lr.shape[1] - high[0], low[1] : lr.shape[2] - high[1]].contiguous()


class WholeImages(Dataset[dict[str, Any]]):
    """Whole images, their sides cut to multiples of the scale, to measure on or to restore.

    Args:
        sources: the images.
        scale: factor by which the target is wider and higher than the input.
        guided: whether samples have a guide, and flags that tell which camera is present.
        degradation: makes the input of an image that has a target only; its seed comes from the name of the image.
        seed: seed of all random draws.
        target: samples have `hr`; without it an image needs none.
    """

    def __init__(
        self,
        sources: Sequence[SampleSource],
        *,
        scale: int,
        guided: bool,
        degradation: Degradation,
        seed: int,
        target: bool = True,
    ) -> None:
        self.sources, self.scale, self.guided = sources, scale, guided
        self.degradation, self.seed, self.target = degradation, seed, target

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample: `lr` (1, h, w), `guide` (3, scale * h, scale * w) and, if requested, `hr` of that size."""
        source = self.sources[index]
        sample = read_sample(source, self.scale, self.guided)
        # measured as it is, also where it goes beyond the range of the input
        hr = None if sample.hr is None else _thermal(sample.hr, sample.radiometry, clip=False)
        if hr is None and self.target:
            raise InputError(f"the image {source.name} has no target to measure against: leave it out")
        if sample.lr is not None:
            lr = _thermal(sample.lr, sample.radiometry)
        elif hr is not None and not sample.missing_lr:
            seed = (zlib.crc32(source.name.encode()) + self.seed) % 2**31
            lr = self.degradation(hr.clamp(0, 1), scale=self.scale, seed=seed)
        else:
            height, width = target_size(sample, self.scale)
            lr = torch.zeros(1, height // self.scale, width // self.scale)
        hr = hr if self.target else None
        guide = None if sample.guide is None else _colours(sample.guide)
        item = _item(source.name, sample, lr, hr, guide, scale=self.scale, guided=self.guided)
        # Of an input that was made of a target nothing is put back: that would show what the camera did not see.
        if sample.lr is not None and (outside := beyond(sample.lr, sample.radiometry)).any():
            item["beyond"] = outside[None]
        return item if self.target else item | {"source": getattr(source, "file", None)}


def _item(
    name: str, sample: Sample, lr: Tensor, hr: Tensor | None, guide: Tensor | None, *, scale: int, guided: bool
) -> dict[str, Any]:
    """Return the keys of a sample; an absent camera is all zeros, and its flag is False."""
    item: dict[str, Any] = {"lr": lr}
    if hr is not None:
        item["hr"] = hr
    if guided:
        height, width = (scale * length for length in lr.shape[-2:])
        item["guide"] = torch.zeros(3, height, width) if guide is None else guide
        item["has_lr"] = torch.tensor(not sample.missing_lr and (sample.lr is not None or sample.hr is not None))
        item["has_guide"] = torch.tensor(guide is not None)
    item |= {"radiometry": sample.radiometry, "name": name}
    if sample.tags is not None:
        item["tags"] = list(sample.tags)
    return item


def _flipped(sample: Sample, axis: int) -> Sample:
    """Return all images of a sample, flipped along an axis."""
    hr, lr, guide = (None if part is None else np.flip(part, axis) for part in (sample.hr, sample.lr, sample.guide))
    return replace(sample, hr=hr, lr=lr, guide=guide)


def _thermal(counts: np.ndarray, radiometry: Radiometry, clip: bool = True) -> Tensor:
    """Return counts (H, W) as values (1, H, W)."""
    return to_values(np.ascontiguousarray(counts), radiometry, clip)[None]


def _colours(guide: np.ndarray) -> Tensor:
    """Return levels (3, H, W) as values."""
    return torch.from_numpy(np.ascontiguousarray(guide)).float() / 255


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[-1]}x{picture.shape[-2]}"
