"""Under what conditions images and video are measured: one family, a class for what goes wrong with a camera."""

import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lit_thermal.data.misalignment import SHARES, Combined, Misalignment, Severity
from lit_thermal.data.radiometry import kelvin_per_value
from lit_thermal.errors import InputError
from lit_thermal.ops.blur import gaussian_blur
from lit_thermal.ops.resize import resize
from lit_thermal.ops.warp import translate


class Varied(NamedTuple):
    """What a condition has more or less of: a point of a curve."""

    what: str
    """The same for all points of one curve."""
    unit: str
    value: float
    neutral: float = 0.0
    """The value of the data as they are."""


class Samples(Protocol):
    """Whole images, or windows of clips."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample with the keys of `Batch`, without the batch axis."""


class Condition(ABC):
    """What a test does to the samples of its data before a method sees them.

    A member changes `lr`, `guide`, `has_lr` and `has_guide` of a sample, never `hr`; its result depends on the sample,
    its index and the data set alone. What it takes away is all zeros with its flag False.
    """

    suffix: str
    """What the name of the test data set ends with under this condition; nothing for the data as they are."""
    takes: Literal["lr", "guide"] | None = None
    """The camera that it takes away from every sample: nothing is left of one that has no other."""
    of_guide: bool = False
    """It is about the visible camera, and data without guides cannot be tested under it."""
    varied: Varied | None = None
    """What it has more or less of, where it is one of many degrees."""

    @abstractmethod
    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Change sample number `index` of `dataset`.

        Args:
            sample: with `lr` (1, h, w), or (T, 1, h, w) of video, and what the data have beside; it is the caller's
                own. Where `of_guide`, it has `guide` (3, H, W), `has_lr` and `has_guide`.
            index: of the sample.
            dataset: where it is from.
        """


class Complete(Condition):
    """Both cameras, as the data have them."""

    suffix = ""

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Change nothing."""
        return sample


class ThermalOnly(Condition):
    """The visible camera is missing."""

    suffix = "thermal_only"
    of_guide = True
    takes = "guide"

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Take the guide away."""
        return sample | {"guide": torch.zeros_like(sample["guide"]), "has_guide": torch.tensor(False)}


class GuideOnly(Condition):
    """The thermal camera is missing."""

    suffix = "guide_only"
    of_guide = True
    takes = "lr"

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Take the thermal image away."""
        return sample | {"lr": torch.zeros_like(sample["lr"]), "has_lr": torch.tensor(False)}


class ShuffledGuide(Condition):
    """Each thermal image gets the guide of another sample: what a guide is good for vanishes.

    The other one lies half the data set away, since neighbours are often frames of one video; if it has no guide, the
    next one that has is taken. A guide of another size is resized. A sample without a guide stays as it is.
    """

    suffix = "shuffled_guide"
    of_guide = True

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
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

    of_guide = True

    def __init__(self, pixels: int = 8) -> None:
        _check("DisplacedGuide", 0, pixels=pixels)
        self.pixels = pixels
        self.suffix = f"displaced_{pixels}"
        self.varied = Varied("displacement of the guide", "pixels of the target", pixels)

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
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

    of_guide = True

    def __init__(self, misalignment: Callable[[], Misalignment] = Combined, severity: Severity = "medium") -> None:
        if severity not in get_args(Severity):
            known = ", ".join(get_args(Severity))
            raise InputError(f"severity of MisalignedGuide is {severity!r}; choose of {known}")
        self.misalignment, self.severity = misalignment(), severity
        self.suffix = f"{type(self.misalignment).__name__.lower()}_{severity}"

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Warp the guide, where there is one."""
        if not sample["has_guide"]:
            return sample
        rng = np.random.default_rng(zlib.crc32(sample["name"].encode()))
        return sample | {"guide": self.misalignment(sample["guide"], rng, SHARES[self.severity])}


class NoisyInput(Condition):
    """The thermal camera is noisier: Gaussian noise of each pixel in each frame, stated as its NETD.

    Where a file tells its temperatures, the noise is so many millikelvin at 300 K; where it does not, `span` says what
    the values span. An image has the same noise, weaker or stronger, at every level; a frame of video has it in every
    window. Values stay in [0, 1].

    Args:
        netd: standard deviation of the noise, millikelvin. Cooled cameras have 20, uncooled ones 30 to 100.
        span: Kelvin from value 0 to value 1 of files that do not tell; as for `NETDNoise`.
    """

    def __init__(self, netd: float = 100.0, span: float = 20.0) -> None:
        _check("NoisyInput", 0, netd=netd)
        if not 0 < span < math.inf:
            raise InputError(f"span of NoisyInput is {span}; give the Kelvin from black to white, above 0")
        self.netd, self.span = netd, span
        self.suffix = f"netd_{netd:g}"
        self.varied = Varied("noise of the input", "mK", netd)

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Add the noise."""
        sigma = self.netd / 1000 / (kelvin_per_value(sample["radiometry"]) or self.span)
        return _seen(sample, lambda lr: lr + sigma * _noise(sample).to(lr))


class BlurredInput(Condition):
    """The lens of the thermal camera is worse: its picture, noise and all, is blurred by a Gaussian.

    Args:
        sigma: standard deviation of the Gaussian, pixels of the input. The Gaussian is sampled at whole pixels, so that
            below 0.3 nothing is left of it.
    """

    def __init__(self, sigma: float = 1.0) -> None:
        _check("BlurredInput", 0, sigma=sigma)
        self.sigma = sigma
        self.suffix = f"blur_{sigma:g}"
        self.varied = Varied("blur of the input", "pixels of the input", sigma)

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Blur each frame."""
        return _seen(sample, lambda lr: gaussian_blur(lr, self.sigma))


class CoarserInput(Condition):
    """The thermal camera has fewer pixels than the method was made for: reduced further, and enlarged back to its size.

    Args:
        factor: how many times larger a pixel is. Reduction and enlargement are bicubic, the first antialiased.
    """

    def __init__(self, factor: float = 2.0) -> None:
        _check("CoarserInput", 1, factor=factor)
        self.factor = factor
        self.suffix = f"coarser_{factor:g}"
        self.varied = Varied("pixel size of the input", "times that of the data", factor, neutral=1.0)

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Reduce and enlarge each frame."""
        height, width = sample["lr"].shape[-2:]
        small = max(1, round(height / self.factor)), max(1, round(width / self.factor))
        return _seen(sample, lambda lr: resize(resize(lr, small), (height, width)))


class WorseInput(Condition):
    """The thermal camera is worse in all that it can be: blur, then noise, then stripes, all in one proportion.

    Args:
        strength: factor on all that follows; 0 is the data as they are.
        blur: `BlurredInput.sigma` at strength 1.
        netd: `NoisyInput.netd` at strength 1.
        stripes: standard deviation at strength 1 of the offset that a column keeps through a clip, millikelvin.
        span: `NoisyInput.span`.
    """

    def __init__(
        self, strength: float = 1.0, blur: float = 0.4, netd: float = 50.0, stripes: float = 50.0, span: float = 20.0
    ) -> None:
        _check("WorseInput", 0, strength=strength, blur=blur, netd=netd, stripes=stripes)
        self.blur, self.noise = BlurredInput(strength * blur), NoisyInput(strength * netd, span)
        self.stripes = strength * stripes
        self.suffix = f"degraded_{strength:g}"
        self.varied = Varied("degradation of the input", "times blur, noise and stripes", strength)

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Degrade each frame."""
        blurred = self.noise(self.blur(sample, index, dataset), index, dataset)
        sigma = self.stripes / 1000 / (kelvin_per_value(sample["radiometry"]) or self.noise.span)
        generator = torch.Generator().manual_seed(zlib.crc32(f"{sample['name']} stripes".encode()))
        columns = torch.randn(sample["lr"].shape[-1], generator=generator)
        return _seen(blurred, lambda lr: lr + sigma * columns.to(lr))


class ConditionedSamples(Dataset[dict[str, Any]]):
    """Whole images, or windows of clips, under a condition."""

    def __init__(self, samples: Samples, condition: Condition) -> None:
        self.samples, self.condition = samples, condition

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Sample number `index`, changed."""
        return self.condition(self.samples[index], index, self.samples)


def make_conditions(factories: Sequence[Callable[[], Condition]], guided: bool) -> list[Condition]:
    """Make the conditions of a test.

    Args:
        factories: what makes each of them.
        guided: the data have guides.

    Raises:
        InputError: there is none, one is there twice, or one is about a guide that the data do not have.
    """
    conditions = [make() for make in factories]
    suffixes = [condition.suffix for condition in conditions]
    if not suffixes or len(set(suffixes)) < len(suffixes):
        raise InputError("data.test_conditions is empty or names one twice; give at least one, each once")
    for condition in conditions:
        if condition.of_guide and not guided:
            raise InputError(
                f"{type(condition).__name__} of data.test_conditions needs a guide, which these data do not have"
            )
    return conditions


def _seen(sample: dict[str, Any], change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """The sample with its thermal input changed, where it has one.

    Computed in float64, so that the result does not depend on how many threads add it up.
    """
    if not sample.get("has_lr", True):
        return sample
    lr = sample["lr"]
    return sample | {"lr": change(lr.double()).clamp(0, 1).to(lr.dtype)}


def _noise(sample: dict[str, Any]) -> Tensor:
    """Unit Gaussian noise of the shape of `lr`; a frame of a clip has the same in every window that holds it."""
    lr = sample["lr"]
    numbers: Sequence[int] = [0]
    if "frame" in sample:
        step = max(1, (len(sample["frame"]) - 1) // max(1, len(lr) - 1))
        numbers = sample["frame"][::step].tolist()
    drawn = [
        torch.randn(
            lr.shape[-3:], generator=torch.Generator().manual_seed(zlib.crc32(f"{sample['name']} {n}".encode()))
        )
        for n in numbers
    ]
    return torch.stack(drawn).reshape(lr.shape)


def _check(of: str, least: float, **numbers: float) -> None:
    for name, number in numbers.items():
        if not least <= number < math.inf:
            raise InputError(f"{name} of {of} is {number}; it must be at least {least}")
