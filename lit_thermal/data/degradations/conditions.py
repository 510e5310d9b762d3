"""Conditions that images and video are tested under: one family, with a class per defect of a camera."""

import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lit_thermal.data.degradations.misalignment import SHARES, Combined, Misalignment, Severity
from lit_thermal.data.formats.radiometry import kelvin_per_value
from lit_thermal.errors import InputError, check_choice
from lit_thermal.ops.blur import gaussian_blur
from lit_thermal.ops.resize import resize
from lit_thermal.ops.warp import translate


class Varied(NamedTuple):
    """Varied quantity of a condition and its value, one point of a curve."""

    what: str
    """Name of the quantity, the same for all points of a curve."""
    unit: str
    value: float
    neutral: float = 0.0
    """Value of the unchanged data."""


class Samples(Protocol):
    """Data set of whole images or of windows of clips."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a sample with the keys of `Batch`, without the batch axis."""


class Condition(ABC):
    """Base of the conditions, which change the samples of a test before a method processes them.

    A condition changes `lr`, `guide`, `has_lr` and `has_guide` of a sample, never `hr`; its result depends only on the
    sample, its index and the data set. An image that it removes becomes all zeros, with its flag set to False.
    """

    suffix: str
    """Suffix of the test data set's name under this condition; empty for the unchanged data."""
    takes: Literal["lr", "guide"] | None = None
    """Camera that is removed from every sample; samples without another camera have no input left."""
    of_guide: bool = False
    """Whether the condition is about the visible camera, so that data without guides cannot be tested under it."""
    varied: Varied | None = None
    """Quantity that the condition varies, if it is one of several degrees."""

    @abstractmethod
    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Change sample number `index` of `dataset`.

        Args:
            sample: sample with `lr` (1, h, w), or (T, 1, h, w) for video, and the other keys of the data; it may be
                modified. If `of_guide`, it has `guide` (3, H, W), `has_lr` and `has_guide`.
            index: index of the sample.
            dataset: data set that the sample is from.
        """


class Complete(Condition):
    """Both cameras, with unchanged data."""

    suffix = ""

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Return the sample unchanged."""
        return sample


class ThermalOnly(Condition):
    """The visible camera is missing."""

    suffix = "thermal_only"
    of_guide = True
    takes = "guide"

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Remove the guide."""
        return sample | {"guide": torch.zeros_like(sample["guide"]), "has_guide": torch.tensor(False)}


class GuideOnly(Condition):
    """The thermal camera is missing."""

    suffix = "guide_only"
    of_guide = True
    takes = "lr"

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Remove the thermal image."""
        return sample | {"lr": torch.zeros_like(sample["lr"]), "has_lr": torch.tensor(False)}


class ShuffledGuide(Condition):
    """Each thermal image gets the guide of another sample, so that the guide has no useful information.

    The other sample is half the data set away, since neighbours are often frames of one video. If it has no guide, the
    next sample with a guide is used. A guide of another size is resized. A sample without a guide is unchanged.
    """

    suffix = "shuffled_guide"
    of_guide = True

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Replace the guide with another sample's.

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
    """The visible camera is shifted: its image is moved in a direction drawn from the name, with repeated edges.

    Args:
        pixels: displacement in HR pixels, rounded to whole pixels along each axis so that nothing is blurred.
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
    """Simulates uncalibrated cameras: the guide is warped with a given severity, in directions derived from its name.

    An image has the same directions, and the same operations if these are random, at every severity.

    Args:
        misalignment: operations that warp the guide, and their ranges.
        severity: share of its range that each operation uses: "light" a quarter, "medium" half, "strong" all.
    """

    of_guide = True

    def __init__(self, misalignment: Callable[[], Misalignment] = Combined, severity: Severity = "medium") -> None:
        check_choice(severity, Severity, "severity of MisalignedGuide")
        self.misalignment, self.severity = misalignment(), severity
        self.suffix = f"{type(self.misalignment).__name__.lower()}_{severity}"

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Warp the guide, if there is one."""
        if not sample["has_guide"]:
            return sample
        rng = np.random.default_rng(zlib.crc32(sample["name"].encode()))
        return sample | {"guide": self.misalignment(sample["guide"], rng, SHARES[self.severity])}


class NoisyInput(Condition):
    """The thermal camera is noisier: Gaussian noise on each pixel of each frame, stated as its NETD.

    If a file states its temperatures, the noise is given in millikelvin at 300 K; otherwise `span` gives the range of
    its values. An image has the same noise pattern, weaker or stronger, at every level; a frame of video has the same
    noise in every window. Values stay in [0, 1].

    Args:
        netd: standard deviation of the noise in millikelvin. Cooled cameras have 20, uncooled ones 30 to 100.
        span: Kelvin from value 0 to value 1 for files without temperatures, as in `NETDNoise`.
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
        return _with_changed_lr(sample, lambda lr: lr + sigma * _noise(sample).to(lr))


class BlurredInput(Condition):
    """Simulates a thermal camera with a worse lens: its image, including noise, is blurred by a Gaussian.

    Args:
        sigma: standard deviation of the Gaussian in pixels of the input. The Gaussian is sampled at whole pixels, so it
            has no effect if sigma is below 0.3.
    """

    def __init__(self, sigma: float = 1.0) -> None:
        _check("BlurredInput", 0, sigma=sigma)
        self.sigma = sigma
        self.suffix = f"blur_{sigma:g}"
        self.varied = Varied("blur of the input", "pixels of the input", sigma)

    def __call__(self, sample: dict[str, Any], index: int, dataset: Samples) -> dict[str, Any]:
        """Blur each frame."""
        return _with_changed_lr(sample, lambda lr: gaussian_blur(lr, self.sigma))


class CoarserInput(Condition):
    """The thermal camera has fewer pixels than expected: the input is reduced further and enlarged back to its size.

    Args:
        factor: factor by which a pixel is larger. Reduction and enlargement are bicubic, the former antialiased.
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
        return _with_changed_lr(sample, lambda lr: resize(resize(lr, small), (height, width)))


class WorseInput(Condition):
    """The thermal camera is worse in several ways: blur, then noise, then stripes, all in fixed proportion.

    Args:
        strength: factor on all following arguments; 0 leaves the data unchanged.
        blur: `BlurredInput.sigma` at strength 1.
        netd: `NoisyInput.netd` at strength 1.
        stripes: standard deviation in millikelvin, at strength 1, of the offset that a column keeps through a clip.
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
        return _with_changed_lr(blurred, lambda lr: lr + sigma * columns.to(lr))


class ConditionedSamples(Dataset[dict[str, Any]]):
    """Whole images, or windows of clips, changed by a condition."""

    def __init__(self, samples: Samples, condition: Condition) -> None:
        self.samples, self.condition = samples, condition

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return sample number `index`, changed by the condition."""
        return self.condition(self.samples[index], index, self.samples)


def make_conditions(factories: Sequence[Callable[[], Condition]], guided: bool) -> list[Condition]:
    """Make the conditions of a test.

    Args:
        factories: factories of the conditions.
        guided: whether the data have guides.

    Raises:
        InputError: there is no condition, one occurs twice, or one needs a guide that the data do not have.
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


def _with_changed_lr(sample: dict[str, Any], change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Return the sample with a changed thermal input; a sample without an input is unchanged.

    The change is computed in float64, so that the result does not depend on the number of threads.
    """
    if not sample.get("has_lr", True):
        return sample
    lr = sample["lr"]
    return sample | {"lr": change(lr.double()).clamp(0, 1).to(lr.dtype)}


def _noise(sample: dict[str, Any]) -> Tensor:
    """Return unit Gaussian noise of the shape of `lr`; a frame of a clip has the same noise in every window."""
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
