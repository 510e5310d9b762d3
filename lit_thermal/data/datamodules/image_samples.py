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
"""Names of the images that this process has warned of."""


@dataclass(frozen=True)
class Shot:
    """One picture as files or the simulator give it.

    Attributes:
        radiometry: of `hr` and `lr` alike.
        hr: target (H, W), uint8 or uint16 counts; None where there is none.
        lr: what the camera gave, (h, w) counts; None: a degradation makes it of `hr`.
        guide: visible view (3, H, W) uint8 at the size of the target; None where there is none.
        tags: words for what is to be seen; None where nobody knows.
        blind: the thermal camera gave nothing, so that no `lr` is made of `hr` either.
    """

    radiometry: Radiometry
    hr: np.ndarray | None = None
    lr: np.ndarray | None = None
    guide: np.ndarray | None = None
    tags: tuple[str, ...] | None = None
    blind: bool = False


class ShotSource(Protocol):
    """A picture that stays on disk, or in the simulator, until it is read."""

    @property
    def name(self) -> str:
        """File stem, for outputs and tables."""

    @property
    def bytes(self) -> int:
        """Size of the decoded picture, for those who keep it in memory."""

    def read(self) -> Shot:
        """Decode the picture."""


@dataclass(frozen=True)
class KeptShot:
    """A picture that is kept decoded in memory."""

    name: str
    shot: Shot
    bytes: int

    def read(self) -> Shot:
        """The picture."""
        return self.shot


def read_shot(source: ShotSource, scale: int, guided: bool) -> Shot:
    """Read a picture, check that its parts go together and cut its sides to multiples of `scale`.

    An all-black thermal image is valid; the log gets one warning for it.

    Args:
        source: of the picture.
        scale: how many times wider and higher the target is.
        guided: keep the visible view, where there is one.

    Raises:
        InputError: the picture is empty, its parts differ in depth, or their sizes do not fit `scale`.
    """
    shot = source.read()
    if not guided:
        shot = replace(shot, guide=None)
    hr, lr, guide = shot.hr, shot.lr, shot.guide
    if hr is None and lr is None and guide is None:
        raise InputError(f"the image {source.name} has no thermal picture{' and no guide' if guided else ''}")
    if hr is not None and lr is not None:
        if hr.dtype != lr.dtype:
            raise InputError(
                f"the image {source.name} has an hr of {8 * hr.itemsize} bits and an lr of {8 * lr.itemsize}: "
                "give both the same depth"
            )
        if hr.shape != (scale * lr.shape[0], scale * lr.shape[1]):
            raise InputError(
                f"the image {source.name} has an hr of {_size(hr)} and an lr of {_size(lr)}, which is not 1/{scale} "
                "of it each way: set data.scale to what they differ by, or leave the image out"
            )
    height, width = target_size(shot, scale)
    if guide is not None and guide.shape[1:] != (height, width):
        raise InputError(
            f"the image {source.name} has a guide of {_size(guide)}, but its target at data.scale {scale} is "
            f"{width}x{height}: give the guide the size of the target"
        )
    if min(height, width) < scale:
        raise InputError(f"the image {source.name} is {width}x{height}, smaller than data.scale {scale}: leave it out")
    if any(picture is not None and not picture.any() for picture in (hr, lr)) and source.name not in _black:
        _black.add(source.name)
        _log.warning("the thermal image %s is black all over", source.name)
    rows, columns = (slice(length - length % scale) for length in (height, width))
    return replace(
        shot,
        hr=None if hr is None else hr[rows, columns],
        guide=None if guide is None else guide[:, rows, columns],
    )


def target_size(shot: Shot, scale: int) -> tuple[int, int]:
    """Height and width of what a picture is to be restored to."""
    if shot.lr is not None:
        return shot.lr.shape[0] * scale, shot.lr.shape[1] * scale
    picture = shot.hr if shot.hr is not None else shot.guide
    assert picture is not None
    height, width = picture.shape[-2:]
    return height, width


class TrainingCrops(Dataset[dict[str, Any]]):
    """Random crops of images, flipped; a pass over the images shows each of them once, in an order of its own.

    A sample depends on the seed and its index alone, whatever worker makes it. The index grows from epoch to epoch
    (`TrainingSampler`), so that no two epochs are alike.

    Args:
        sources: images with a target.
        scale: how many times wider and higher the target is.
        crop: side of the input crops in LR pixels; 0 takes whole images.
        guided: samples have a guide, and say whether it and the thermal image are there.
        degradation: makes the input of an image that has none. It also sees a margin around the crop.
        augment: flip left to right and upside down, each with probability 0.5.
        samples: length of an epoch.
        seed: of all draws.
        misalignment: of the guide; the crops and all else stay those of aligned guides.
    """

    def __init__(
        self,
        sources: Sequence[ShotSource],
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
        """A sample with `lr` (1, crop, crop), `hr` (1, crop * scale, crop * scale) and a `guide` of that size."""
        source = self.sources[self._place(index)]
        rng = np.random.default_rng((self.seed, index))
        shot = read_shot(source, self.scale, self.guided)
        if shot.hr is None:
            raise InputError(f"the image {source.name} has no target to train on: leave it out")
        if min(shot.hr.shape) < self.crop * self.scale:
            side = self.crop * self.scale
            raise InputError(
                f"data.crop {self.crop} at scale {self.scale} needs images of at least {side}x{side}, "
                f"but {source.name} is {_size(shot.hr)}"
            )
        if self.augment:
            for axis in (-1, -2):
                if rng.random() < 0.5:
                    shot = _flipped(shot, axis)
        # The third number: as below. The crops are then the same at any misalignment.
        return self._cut(source.name, shot, rng, np.random.default_rng((self.seed, index, 2)))

    def _place(self, index: int) -> int:
        """Which image is shown at `index`."""
        number, place = divmod(index, len(self.sources))
        if number != self._pass:
            # A third number keeps these draws apart from those of the samples.
            order = np.random.default_rng((self.seed, number, 1)).permutation(len(self.sources))
            self._pass, self._order = number, order
        return int(self._order[place])

    def _cut(self, name: str, shot: Shot, rng: np.random.Generator, beside: np.random.Generator) -> dict[str, Any]:
        """A random crop as a sample: on whole LR pixels where the input is given, anywhere where it is made."""
        assert shot.hr is not None
        step = self.scale
        sides = [self.crop * step or length for length in shot.hr.shape]
        grid = 1 if shot.lr is None else step
        first = [
            grid * int(rng.integers((length - side) // grid + 1))
            for length, side in zip(shot.hr.shape, sides, strict=True)
        ]
        rows, columns = (slice(start, start + side) for start, side in zip(first, sides, strict=True))
        hr = _thermal(shot.hr[rows, columns], shot.radiometry)
        if shot.lr is not None:
            y, x = (slice(s.start // step, s.stop // step) for s in (rows, columns))
            lr = _thermal(shot.lr[y, x], shot.radiometry)
        elif shot.blind:
            lr = torch.zeros(1, *(side // step for side in sides))
        else:
            lr = self._degrade(shot.hr, shot.radiometry, (rows, columns), int(rng.integers(2**31)))
        guide = None if shot.guide is None else self._look(shot.guide, (rows, columns), beside)
        return _sample(name, shot, lr, hr, guide, scale=step, guided=self.guided)

    def _look(self, guide: np.ndarray, window: tuple[slice, slice], beside: np.random.Generator) -> Tensor:
        """A window of what the visible camera shows of a guide (3, H, W)."""
        if isinstance(self.misalignment, Aligned):
            return _colours(guide[:, window[0], window[1]])
        return self.misalignment(_colours(guide), beside, window=window)

    def _degrade(self, counts: np.ndarray, radiometry: Radiometry, window: tuple[slice, slice], seed: int) -> Tensor:
        """The input (1, h, w) to a window of a target (H, W), degraded with a margin around it."""
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
        scale: how many times wider and higher the target is.
        guided: samples have a guide, and say whether it and the thermal image are there.
        degradation: makes the input of an image that has a target only; its seed comes from the name of the image.
        seed: of all draws.
        target: samples have `hr`; without it an image needs none.
    """

    def __init__(
        self,
        sources: Sequence[ShotSource],
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
        """A sample with `lr` (1, h, w), `guide` (3, scale * h, scale * w) and, where asked for, `hr` of that size."""
        source = self.sources[index]
        shot = read_shot(source, self.scale, self.guided)
        # measured as it is, also where it goes beyond the range of the input
        hr = None if shot.hr is None else _thermal(shot.hr, shot.radiometry, clip=False)
        if hr is None and self.target:
            raise InputError(f"the image {source.name} has no target to measure against: leave it out")
        if shot.lr is not None:
            lr = _thermal(shot.lr, shot.radiometry)
        elif hr is not None and not shot.blind:
            seed = (zlib.crc32(source.name.encode()) + self.seed) % 2**31
            lr = self.degradation(hr.clamp(0, 1), scale=self.scale, seed=seed)
        else:
            height, width = target_size(shot, self.scale)
            lr = torch.zeros(1, height // self.scale, width // self.scale)
        hr = hr if self.target else None
        guide = None if shot.guide is None else _colours(shot.guide)
        sample = _sample(source.name, shot, lr, hr, guide, scale=self.scale, guided=self.guided)
        # Of an input that was made of a target nothing is put back: that would show what the camera did not see.
        if shot.lr is not None and (outside := beyond(shot.lr, shot.radiometry)).any():
            sample["beyond"] = outside[None]
        return sample if self.target else sample | {"source": getattr(source, "file", None)}


def _sample(
    name: str, shot: Shot, lr: Tensor, hr: Tensor | None, guide: Tensor | None, *, scale: int, guided: bool
) -> dict[str, Any]:
    """The keys of a sample; what is absent is all zeros with its flag False."""
    sample: dict[str, Any] = {"lr": lr}
    if hr is not None:
        sample["hr"] = hr
    if guided:
        height, width = (scale * length for length in lr.shape[-2:])
        sample["guide"] = torch.zeros(3, height, width) if guide is None else guide
        sample["has_lr"] = torch.tensor(not shot.blind and (shot.lr is not None or shot.hr is not None))
        sample["has_guide"] = torch.tensor(guide is not None)
    sample |= {"radiometry": shot.radiometry, "name": name}
    if shot.tags is not None:
        sample["tags"] = list(shot.tags)
    return sample


def _flipped(shot: Shot, axis: int) -> Shot:
    """All pictures turned over along an axis."""
    hr, lr, guide = (None if part is None else np.flip(part, axis) for part in (shot.hr, shot.lr, shot.guide))
    return replace(shot, hr=hr, lr=lr, guide=guide)


def _thermal(counts: np.ndarray, radiometry: Radiometry, clip: bool = True) -> Tensor:
    """Counts (H, W) as values (1, H, W)."""
    return to_values(np.ascontiguousarray(counts), radiometry, clip)[None]


def _colours(guide: np.ndarray) -> Tensor:
    """Levels (3, H, W) as values."""
    return torch.from_numpy(np.ascontiguousarray(guide)).float() / 255


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[-1]}x{picture.shape[-2]}"
