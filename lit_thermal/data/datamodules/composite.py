"""Several data sets of images as one: trained on together, each tested separately."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from lit_thermal.batch import Batch
from lit_thermal.data.datamodules.image_data import ImageData, ImageSplit
from lit_thermal.data.datamodules.sample import Sample, SampleSource
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize

_log = logging.getLogger(__name__)
Numbers = dict[str, dict[Literal["train", "val", "test", "predict"], int]]


class CompositePairs(ImageData):
    """The images of several data sets: all of them for training, validation and prediction, and one test set for each.

    Each part has its own settings for finding and normalising its images: root, folders, split, `leave_out`,
    `normalize`. The settings of this class for crops, batches, inputs, misalignment, damaged files and test conditions
    replace those of all parts.

    Args:
        parts: data sets by the names that their test sets have in tables and logs.
        scale: factor by which the target is wider and higher than the input; the same as that of each part.
        guided: whether samples have a guide; the same as that of each part.
        prefixes: prefix for the image names of a part, needed if two parts have images of the same name.
        steps: interval between the images used, by part and split, starting with the first; useful for frames of a
            video.
        counts: largest number of images used, by part and split, after `steps`; 0 uses none.
        side: side in pixels to which the central square of each image is resized, bilinear and antialiased. The input
            is then made from the target, even if input files exist. 0 leaves the images unchanged.
        name: name of the whole data set in the log.
        options: arguments of `ImageData`.

    Raises:
        InputError: there is no part, a setting names an unknown part, or parts differ in scale or guide.
    """

    def __init__(
        self,
        parts: dict[str, Callable[[], ImageData]],
        scale: int = 8,
        guided: bool = True,
        prefixes: dict[str, str] | None = None,
        steps: Numbers | None = None,
        counts: Numbers | None = None,
        side: int = 0,
        name: str = "composite",
        **options: Any,
    ) -> None:
        super().__init__(scale=scale, guided=guided, **options)
        self.data_name, self.side = name, side
        self.prefixes, self.steps, self.limits = prefixes or {}, steps or {}, counts or {}
        _check(parts, self.prefixes, self.steps, self.limits)
        if side < 0 or side % scale:
            raise InputError(f"data.side is {side}; it must be a multiple of data.scale {scale}, or 0")
        self.parts = {part: make() for part, make in parts.items()}
        for part, data in self.parts.items():
            for key in ("scale", "guided"):
                if getattr(data, key) != getattr(self, key):
                    raise InputError(
                        f"{key} of data.parts.{part} is {getattr(data, key)} and data.{key} is {getattr(self, key)}: "
                        "give both the same"
                    )
            # A reader checks whether the conditions leave an input for each image.
            data.conditions = self.conditions
            data.damaged = self.damaged
        mappings = {getattr(data, "normalize", None) for data in self.parts.values()}
        self.normalize = mappings.pop() if len(mappings) == 1 else None
        """Mapping of 16-bit counts that all parts share, for the record of a checkpoint."""
        self.counts: dict[ImageSplit, dict[str, int]] = {}
        """Number of images of each part in each split, known once the split has been read."""

    @property
    def test_sets(self) -> list[str]:
        """Names of the parts that a test measures separately; empty parts are left out."""
        found = self.counts.get("test")
        return [part for part in self.parts if found is None or found[part]]

    def sources(self, split: ImageSplit) -> Sequence[SampleSource]:
        """Return the images of a split, part by part, and log the number of images of each part.

        Raises:
            InputError: a part has another layout, or two images have the same name.
        """
        found = {part: self._of(part, split) for part in self.parts}
        self.counts[split] = {part: len(sources) for part, sources in found.items()}
        table = ", ".join(f"{part} {count}" for part, count in self.counts[split].items())
        _log.info("%s has %d %s images: %s", self.data_name, sum(self.counts[split].values()), split, table)
        return _unique(found)

    def missing(self, split: ImageSplit) -> str:
        """Return the error message for a needed but empty split: that of the first part that may have images."""
        wanted = (part for part in self.parts if self.limits.get(part, {}).get(split, 1))
        part = next(wanted, None)
        return super().missing(split) if part is None else self.parts[part].missing(split)

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Return loaders of whole test images of each part under each condition."""
        loaders, first = [], 0
        for count in self.counts["test"].values():
            images = self._images("test", part=slice(first, first + count))
            first += count
            if count:
                loaders += self._test_loaders(images)
        return loaders

    def _of(self, part: str, split: ImageSplit) -> list[SampleSource]:
        """Return the images used of a part."""
        limit = self.limits.get(part, {}).get(split)
        if limit == 0:
            return []
        taken = list(self.parts[part].sources(split))[:: self.steps.get(part, {}).get(split, 1)][:limit]
        if limit and 0 < len(taken) < limit:
            _log.warning("data.counts asks for %d %s images of %s, which has %d", limit, split, part, len(taken))
        return [_Taken(source, self.prefixes.get(part, "") + source.name, self.side, self.scale) for source in taken]


@dataclass(frozen=True)
class _Taken:
    """An image of a part, under its name in the whole data set."""

    source: SampleSource
    name: str
    side: int
    scale: int

    @property
    def file(self) -> Path | None:
        """The thermal file that is restored; None if the image is not from a file."""
        return getattr(self.source, "file", None)

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the target, if they are known without decoding."""
        return (self.side, self.side) if self.side else getattr(self.source, "size", None)

    @property
    def bytes(self) -> int:
        """Size of the decoded image: 16 bit and a guide, if it is resized."""
        return 5 * self.side**2 if self.side else self.source.bytes

    def read(self) -> Sample:
        """Decode the image, and resize it if requested."""
        sample = self.source.read()
        if not self.side:
            return sample
        small = None if sample.lr is None or sample.hr is not None else _square(sample.lr, self.side // self.scale)
        hr, guide = (None if part is None else _square(part, self.side) for part in (sample.hr, sample.guide))
        return replace(sample, hr=hr, lr=small, guide=guide)


def _square(counts: np.ndarray, side: int) -> np.ndarray:
    """Return the central square of (..., H, W) counts, resized and rounded to counts of the same depth."""
    height, width = counts.shape[-2:]
    least = min(height, width)
    top, left = (height - least) // 2, (width - least) // 2
    values = torch.from_numpy(counts[..., top : top + least, left : left + least].astype(np.float64))
    return resize(values, side, kernel="linear").round().numpy().astype(counts.dtype)


def _unique(found: Mapping[str, Sequence[SampleSource]]) -> list[SampleSource]:
    """Return all sources, after checking that their names differ."""
    owners: dict[str, str] = {}
    for part, sources in found.items():
        for source in sources:
            if (other := owners.setdefault(source.name, part)) != part:
                raise InputError(
                    f"data.parts {other} and {part} both have an image {source.name!r}: set data.prefixes of one"
                )
    return [source for sources in found.values() for source in sources]


def _check(parts: Iterable[str], prefixes: Mapping[str, str], steps: Numbers, counts: Numbers) -> None:
    """Check that per-part settings name existing parts and have valid numbers."""
    names = list(parts)
    if not names:
        raise InputError("data.parts is empty; name at least one data set")
    settings: dict[str, Mapping[str, Any]] = {"prefixes": prefixes, "steps": steps, "counts": counts}
    for key, given in settings.items():
        for name in given:
            if name not in names:
                raise InputError(f"data.{key} names {name!r}, which is not a part; data.parts has {', '.join(names)}")
    for key, numbers, least in (("steps", steps, 1), ("counts", counts, 0)):
        for name, splits in numbers.items():
            for split, number in splits.items():
                if number < least:
                    raise InputError(f"data.{key}.{name}.{split} is {number}; it must be at least {least}")
