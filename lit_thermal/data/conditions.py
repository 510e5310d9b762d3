"""Under what conditions guided images are measured: one family, a class for what goes wrong with a camera."""

import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch.utils.data import Dataset

from lit_thermal.data.images import WholeImages
from lit_thermal.data.misalignment import SHARES, Combined, Misalignment, Severity
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize
from lit_thermal.ops.warp import translate


class Condition(ABC):
    """What a test does to the samples of guided data before a method sees them.

    A member changes `lr`, `guide`, `has_lr` and `has_guide` of a sample, never `hr`; its result depends on the sample,
    its index and the data set alone. What it takes away is all zeros with its flag False.
    """

    suffix: str
    """What the name of the test data set ends with under this condition; nothing for the data as they are."""
    takes: Literal["lr", "guide"] | None = None
    """The camera that it takes away from every sample: nothing is left of one that has no other."""

    @abstractmethod
    def __call__(self, sample: dict[str, Any], index: int, dataset: WholeImages) -> dict[str, Any]:
        """Change sample number `index` of `dataset`.

        Args:
            sample: with `guide` (3, H, W), `has_lr` and `has_guide`; it is the caller's own.
            index: of the sample.
            dataset: where it is from.
        """


class Complete(Condition):
    """Both cameras, as the data have them."""

    suffix = ""

    def __call__(self, sample: dict[str, Any], index: int, dataset: WholeImages) -> dict[str, Any]:
        """Change nothing."""
        return sample


class ThermalOnly(Condition):
    """The visible camera is missing."""

    suffix = "thermal_only"
    takes = "guide"

    def __call__(self, sample: dict[str, Any], index: int, dataset: WholeImages) -> dict[str, Any]:
        """Take the guide away."""
        return sample | {"guide": torch.zeros_like(sample["guide"]), "has_guide": torch.tensor(False)}


class GuideOnly(Condition):
    """The thermal camera is missing."""

    suffix = "guide_only"
    takes = "lr"

    def __call__(self, sample: dict[str, Any], index: int, dataset: WholeImages) -> dict[str, Any]:
        """Take the thermal image away."""
        return sample | {"lr": torch.zeros_like(sample["lr"]), "has_lr": torch.tensor(False)}


class ShuffledGuide(Condition):
    """Each thermal image gets the guide of another sample: what a guide is good for vanishes.

    The other one lies half the data set away, since neighbours are often frames of one video; if it has no guide, the
    next one that has is taken. A guide of another size is resized. A sample without a guide stays as it is.
    """

    suffix = "shuffled_guide"

    def __call__(self, sample: dict[str, Any], index: int, dataset: WholeImages) -> dict[str, Any]:
        """Exchange the guide.

        Raises:
            InputError: no other sample of the data set has a guide.
        """
        if not sample["has_guide"]:
            return sample
        count = len(dataset)
        far = index + count // 2
        others = (dataset[place % count] for place in range(far, far + count) if place % count != index)
        other = next((other["guide"] for other in others if other["has_guide"]), None)
        if other is None:
            raise InputError(f"ShuffledGuide needs a second image to take the guide of {sample['name']!r} from")
        height, width = sample["guide"].shape[-2:]
        return sample | {"guide": resize(other, (height, width), kernel="linear").clamp(0, 1)}


class DisplacedGuide(Condition):
    """The visible camera looks beside: its picture is moved, edge repeated, in a direction drawn from the name.

    Args:
        pixels: displacement in HR pixels, rounded to whole ones along each axis so that nothing is blurred.
    """

    def __init__(self, pixels: int = 8) -> None:
        if pixels < 0:
            raise InputError(f"pixels of DisplacedGuide is {pixels}; it must be at least 0")
        self.pixels = pixels
        self.suffix = f"displaced_{pixels}"

    def __call__(self, sample: dict[str, Any], index: int, dataset: WholeImages) -> dict[str, Any]:
        """Move the guide."""
        angle = 2 * math.pi * zlib.crc32(sample["name"].encode()) / 2**32
        dx, dy = round(self.pixels * math.cos(angle)), round(self.pixels * math.sin(angle))
        return sample | {"guide": translate(sample["guide"], dx, dy, "edge")}


class MisalignedGuide(Condition):
    """The cameras are not calibrated: the guide is warped as far as a severity says, directions drawn from the name.

    An image has the same directions, and the same operations where these are drawn, at every severity.

    Args:
        misalignment: what is done to the guide, and over which ranges.
        severity: how far into its ranges each operation goes: "light" a quarter, "medium" half, "strong" to their end.
    """

    def __init__(self, misalignment: Callable[[], Misalignment] = Combined, severity: Severity = "medium") -> None:
        if severity not in get_args(Severity):
            known = ", ".join(get_args(Severity))
            raise InputError(f"severity of MisalignedGuide is {severity!r}; choose of {known}")
        self.misalignment, self.severity = misalignment(), severity
        self.suffix = f"{type(self.misalignment).__name__.lower()}_{severity}"

    def __call__(self, sample: dict[str, Any], index: int, dataset: WholeImages) -> dict[str, Any]:
        """Warp the guide, where there is one."""
        if not sample["has_guide"]:
            return sample
        rng = np.random.default_rng(zlib.crc32(sample["name"].encode()))
        return sample | {"guide": self.misalignment(sample["guide"], rng, SHARES[self.severity])}


class ConditionedImages(Dataset[dict[str, Any]]):
    """Whole images under a condition."""

    def __init__(self, images: WholeImages, condition: Condition) -> None:
        self.images, self.condition = images, condition

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Sample number `index`, changed."""
        return self.condition(self.images[index], index, self.images)
