"""How single papers measured images, by name, beside the standard protocol."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor

from lit_thermal.metrics.gather import gather_objects
from lit_thermal.metrics.quality import PSNR_CAP, ssim


class EvaluationProtocol(ABC):
    """PSNR and SSIM of one method on one set of images; a new one is made for each method and set."""

    name: str
    """Heading of its column."""
    text: str
    """What is done, for the record of a run."""

    @abstractmethod
    def update(self, restored: Tensor, target: Tensor) -> None:
        """Add images, in the order of the files.

        Args:
            restored: (B, 1, H, W) float in [0, 1], not rounded.
            target: the same shape.
        """

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return ``psnr`` in dB and ``ssim`` over all images so far; NaN where there are none."""


class CoReFusionTrainer(EvaluationProtocol):
    """What CoReFusion's training script logs: tanh range, PSNR pooled over batches of 8, mean over the batches.

    A batch ends early where the size of the images changes, since images of two sizes cannot be pooled.
    """

    name = "trainer"
    text = (
        "CoReFusion's trainer: values in [-1, 1], not rounded; batches of 8 in the order of the files, the last one "
        "smaller, ended early where the size of the images changes. SSIM (valid region) with the larger of the "
        "ranges (maximum - minimum) of restored and target batch; PSNR of the mean squared error over the whole "
        "batch with the range max(target maximum, 0) - min(target minimum, 0). Unweighted mean over the batches. A "
        "range of 0 counts as 2."
    )
    batch = 8

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._measured: list[dict[str, float]] = []

    def update(self, restored: Tensor, target: Tensor) -> None:
        """Add images; each full batch is measured and forgotten."""
        for pair in zip(restored.float().split(1), target.float().split(1), strict=True):
            if self._waiting and self._waiting[0][0].shape != pair[0].shape:
                self._measured.append(self._measure())
                self._waiting = []
            self._waiting.append(pair)
            if len(self._waiting) == self.batch:
                self._measured.append(self._measure())
                self._waiting = []

    def compute(self) -> dict[str, float]:
        """Mean over the batches, the unfinished one among them."""
        return _mean([*self._measured, self._measure()] if self._waiting else self._measured)

    def _measure(self) -> dict[str, float]:
        restored, target = (2 * torch.cat(images) - 1 for images in zip(*self._waiting, strict=True))
        return _pooled(restored, target, nominal=2.0)


class CoReFusionNotebook(EvaluationProtocol):
    """What CoReFusion's notebook and tester print: whole counts of 0 to 255, each image with its own range."""

    name = "notebook"
    text = (
        "CoReFusion's notebook: values of each image mapped to 0 to 255 and truncated to whole numbers. SSIM (valid "
        "region) with the larger of the ranges (maximum - minimum) of restored and target image; PSNR with the "
        "maximum of the target as range. Mean over the images. A range of 0 counts as 255."
    )

    def __init__(self) -> None:
        self._measured: list[dict[str, float]] = []

    def update(self, restored: Tensor, target: Tensor) -> None:
        """Measure each image."""
        for mine, true in zip(restored.float().split(1), target.float().split(1), strict=True):
            self._measured.append(_pooled((255 * mine).trunc(), (255 * true).trunc(), nominal=255.0))

    def compute(self) -> dict[str, float]:
        """Mean over the images."""
        return _mean(self._measured)


class RestoredImage(NamedTuple):
    """One image of a test set and what became of it, on the CPU; values (1, H, W) in [0, 1]."""

    name: str
    target: Tensor
    restored: dict[str, Tensor]
    """By method; a method that could not restore it is absent."""


Factories = Sequence[Callable[[], EvaluationProtocol]]
ProtocolSummary = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Data set, method, protocol, metric: the number."""


class ProtocolScores:
    """Measures every method on every test set under several protocols.

    An image counts once. In a run of several processes, each step's images are put in the order of the files (as
    Lightning deals them out: one to each process in turn) and measured by every process, so that protocols which
    pool images give what a single process gives.

    Args:
        protocols: what makes the protocols.
    """

    def __init__(self, protocols: Factories = ()) -> None:
        self._factories = protocols
        self._protocols: dict[str, dict[str, list[EvaluationProtocol]]] = {}
        self._seen: set[tuple[str, str]] = set()
        self._summary: ProtocolSummary | None = None

    @property
    def texts(self) -> dict[str, str]:
        """What each protocol does, by its name."""
        return {protocol.name: protocol.text for protocol in (make() for make in self._factories)}

    @torch.no_grad()
    def add(self, dataset: str, images: list[RestoredImage], device: torch.device) -> None:
        """Measure the images of a step; every process calls it for each step, with none where it has none.

        Args:
            dataset: name of the test set.
            images: of this process, in the order of its files.
            device: where to measure.
        """
        if not self._factories:
            return
        self._summary = None
        for image in (i for row in zip_longest(*gather_objects(images)) for i in row if i is not None):
            if (dataset, image.name) in self._seen:
                continue
            self._seen.add((dataset, image.name))
            methods = self._protocols.setdefault(dataset, {})
            target = image.target[None].to(device)
            for method, restored in image.restored.items():
                for protocol in methods.setdefault(method, [make() for make in self._factories]):
                    protocol.update(restored[None].to(device), target)

    def summary(self) -> ProtocolSummary:
        """Data set, method, protocol, metric: the number."""
        if self._summary is None:
            self._summary = {
                dataset: {method: {p.name: p.compute() for p in protocols} for method, protocols in methods.items()}
                for dataset, methods in self._protocols.items()
            }
        return self._summary


def _pooled(restored: Tensor, target: Tensor, nominal: float) -> dict[str, float]:
    """PSNR of all pixels together and mean SSIM of (B, 1, H, W), with ranges taken from the values.

    Ranges are those that torchmetrics takes where it is given none; where one is 0 it is `nominal`.
    """
    low, high = target.min(), target.max()
    peak = float(high.clamp(min=0) - low.clamp(max=0)) or nominal
    span = float(max(restored.max() - restored.min(), high - low)) or nominal
    error = (restored - target).double().square().mean()
    decibel = (10 * (peak**2 / error).log10()).clamp(max=PSNR_CAP)
    # SSIM depends on values over range alone.
    return {"psnr": float(decibel), "ssim": float(ssim(restored / span, target / span).double().mean())}


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(torch.tensor([row[key] for row in rows]).double().mean()) for key in ("psnr", "ssim")}
