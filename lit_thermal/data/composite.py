"""Several data sets of images as one: trained on together, tested on each by itself."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from lit_thermal.batch import Batch
from lit_thermal.data.conditions import ConditionedSamples
from lit_thermal.data.image_data import ImageData, ImageSplit
from lit_thermal.data.images import Shot, ShotSource
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize

_log = logging.getLogger(__name__)
Numbers = dict[str, dict[Literal["train", "val", "test", "predict"], int]]


class CompositePairs(ImageData):
    """The images of several data sets: all of them to train, to validate and to restore, a test data set of each.

    Of a part, what it says about finding its images counts: root, folders, split, `leave_out`, `normalize`. What is
    said here about crops, batches, inputs, misalignment and test conditions counts for all parts.

    Args:
        parts: the data sets by the names that their test sets have in tables and logs.
        scale: how many times wider and higher the target is; that of each part too.
        guided: samples have a guide; so of each part too.
        prefixes: what the names of the images of a part begin with, for names that two parts would share.
        steps: of a part and a split, every how many images are taken, the first being one: frames of a video.
        counts: of a part and a split, how many images are taken at most, after `steps`; 0 takes none.
        side: cut the middle square out of each picture and resize it to so many pixels, bilinear and antialiased; the
            input is then made of the target, also where it is a file. 0 takes the pictures as they are.
        name: of the whole in the log.
        options: those of `ImageData`.

    Raises:
        InputError: there is no part, a setting names a part that there is not, or parts differ in scale or guide.
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
            # A reader looks whether they leave something of each image.
            data.conditions = self.conditions
        self.counts: dict[ImageSplit, dict[str, int]] = {}
        """How many images of each part a split has, once it was looked for."""

    @property
    def test_names(self) -> list[str]:
        """Names of the test data loaders: all conditions of one part after the other; no part without images."""
        found = self.counts.get("test")
        names = [part for part in self.parts if found is None or found[part]]
        return [f"{name}_{c.suffix}" if c.suffix else name for name in names for c in self.conditions]

    def sources(self, split: ImageSplit) -> Sequence[ShotSource]:
        """The images of a split, one part after the other; the log tells how many each has.

        Raises:
            InputError: a part is laid out otherwise, or two images have one name.
        """
        found = {part: self._of(part, split) for part in self.parts}
        self.counts[split] = {part: len(sources) for part, sources in found.items()}
        table = ", ".join(f"{part} {count}" for part, count in self.counts[split].items())
        _log.info("%s has %d %s images: %s", self.data_name, sum(self.counts[split].values()), split, table)
        return _unique(found)

    def missing(self, split: ImageSplit) -> str:
        """The sentence for a split that is needed and empty: that of the first part that may have some."""
        wanted = (part for part in self.parts if self.limits.get(part, {}).get(split, 1))
        part = next(wanted, None)
        return super().missing(split) if part is None else self.parts[part].missing(split)

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Whole test images of each part under each condition."""
        loaders, first = [], 0
        for count in self.counts["test"].values():
            images = self._images("test", part=slice(first, first + count))
            first += count
            if count:
                loaders += [self._loader(ConditionedSamples(images, c), self.eval_batch_size) for c in self.conditions]
        return loaders

    def _of(self, part: str, split: ImageSplit) -> list[ShotSource]:
        """What is taken of a part."""
        limit = self.limits.get(part, {}).get(split)
        if limit == 0:
            return []
        taken = list(self.parts[part].sources(split))[:: self.steps.get(part, {}).get(split, 1)][:limit]
        if limit and 0 < len(taken) < limit:
            _log.warning("data.counts asks for %d %s images of %s, which has %d", limit, split, part, len(taken))
        return [_Taken(source, self.prefixes.get(part, "") + source.name, self.side, self.scale) for source in taken]


@dataclass(frozen=True)
class _Taken:
    """A picture of a part, under its name in the whole."""

    source: ShotSource
    name: str
    side: int
    scale: int

    @property
    def bytes(self) -> int:
        """Size of the decoded picture: 16 bit and a guide, where it is resized."""
        return 5 * self.side**2 if self.side else self.source.bytes

    def read(self) -> Shot:
        """Decode the picture, and resize it where that is wanted."""
        shot = self.source.read()
        if not self.side:
            return shot
        small = None if shot.lr is None or shot.hr is not None else _square(shot.lr, self.side // self.scale)
        hr, guide = (None if part is None else _square(part, self.side) for part in (shot.hr, shot.guide))
        return replace(shot, hr=hr, lr=small, guide=guide)


def _square(counts: np.ndarray, side: int) -> np.ndarray:
    """The middle square of (..., H, W) counts, resized to whole counts of the same depth."""
    height, width = counts.shape[-2:]
    least = min(height, width)
    top, left = (height - least) // 2, (width - least) // 2
    values = torch.from_numpy(counts[..., top : top + least, left : left + least].astype(np.float64))
    return resize(values, side, kernel="linear").round().numpy().astype(counts.dtype)


def _unique(found: Mapping[str, Sequence[ShotSource]]) -> list[ShotSource]:
    """All sources, after a look whether their names differ."""
    owners: dict[str, str] = {}
    for part, sources in found.items():
        for source in sources:
            if (other := owners.setdefault(source.name, part)) != part:
                raise InputError(
                    f"data.parts {other} and {part} both have an image {source.name!r}: set data.prefixes of one"
                )
    return [source for sources in found.values() for source in sources]


def _check(parts: Iterable[str], prefixes: Mapping[str, str], steps: Numbers, counts: Numbers) -> None:
    """Check that what is said of parts is said of those there are, and in numbers that can be."""
    names = list(parts)
    if not names:
        raise InputError("data.parts is empty; name at least one data set")
    settings: dict[str, Mapping[str, Any]] = {"prefixes": prefixes, "steps": steps, "counts": counts}
    for key, given in settings.items():
        for name in given:
            if name not in names:
                raise InputError(f"data.{key} names {name!r}, which is no part; data.parts has {', '.join(names)}")
    for key, numbers, least in (("steps", steps, 1), ("counts", counts, 0)):
        for name, splits in numbers.items():
            for split, number in splits.items():
                if number < least:
                    raise InputError(f"data.{key}.{name}.{split} is {number}; it must be at least {least}")
