"""Thermal images with or without a visible view: crops to train on, whole images to measure and to restore."""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lit_thermal.batch import Radiometry
from lit_thermal.data.datamodules.sample import Sample, SampleSource, read_sample, size_text, target_size
from lit_thermal.data.datamodules.windows import MARGIN
from lit_thermal.data.degradations.degradation import Degradation
from lit_thermal.data.degradations.misalignment import Aligned, Misalignment
from lit_thermal.data.formats.radiometry import beyond, to_values
from lit_thermal.errors import InputError


class TrainingCrops(Dataset[dict[str, Any]]):
    """Random crops of images with random flips; each pass over the images uses every image once, in a new order.

    A sample depends only on the seed and its index, not on the worker that makes it. The index grows from epoch to
    epoch (`TrainingSampler`), so that no two epochs are alike.

    Args:
        sources: images with a target.
        scale: factor by which the target is wider and higher than the input.
        crop: side of the input crops in LR pixels; 0 takes whole images.
        guided: whether samples have a guide, and flags for the presence of each camera.
        degradation: makes the input of an image without one, from the crop and a margin around it.
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
                f"but {source.name} is {size_text(sample.hr)}"
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
    """Whole images for evaluation or restoration, with sides cropped to multiples of the scale.

    Args:
        sources: the images.
        scale: factor by which the target is wider and higher than the input.
        guided: whether samples have a guide, and flags for the presence of each camera.
        degradation: makes the input of an image that has only a target; its seed is derived from the name of the image.
        seed: seed of all random draws.
        target: whether samples have `hr`; if False, images need no target.
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
        # Inputs made from a target get no outside values: these would reveal content that the camera did not see.
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
