"""Evaluation protocols of single papers, by name, in addition to the standard protocol."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from lit_thermal.errors import InputError
from lit_thermal.evaluation.gather import gather_objects
from lit_thermal.metrics.quality import PSNR_CAP, SSIM_K1, SSIM_K2, SSIM_SIGMA, SSIM_WINDOW, psnr, quantize, ssim


class EvaluationProtocol(ABC):
    """PSNR and SSIM of one method on one set of images; each method and set gets its own instance."""

    name: str
    """Heading of its column."""
    text: str
    """Description of the protocol, for the record of a run."""

    @abstractmethod
    def update(self, restored: Tensor, target: Tensor) -> None:
        """Add images, in the order of the files.

        Args:
            restored: (B, 1, H, W) float results in [0, 1], not rounded.
            target: (B, 1, H, W) targets in [0, 1].
        """

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return ``psnr`` in dB and ``ssim`` over all images so far; NaN if there are none."""


class CoReFusionTrainer(EvaluationProtocol):
    """Metrics that CoReFusion's training script logs: tanh range, PSNR pooled over batches of 8, mean over batches.

    A batch ends early if the size of the images changes, since images of two sizes cannot be pooled.
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
        """Add images; each full batch is measured, and then its images are discarded."""
        for pair in zip(restored.float().split(1), target.float().split(1), strict=True):
            if self._waiting and self._waiting[0][0].shape != pair[0].shape:
                self._measured.append(self._measure())
                self._waiting = []
            self._waiting.append(pair)
            if len(self._waiting) == self.batch:
                self._measured.append(self._measure())
                self._waiting = []

    def compute(self) -> dict[str, float]:
        """Return the mean over the batches, including the incomplete one."""
        return _mean([*self._measured, self._measure()] if self._waiting else self._measured)

    def _measure(self) -> dict[str, float]:
        restored, target = (2 * torch.cat(images) - 1 for images in zip(*self._waiting, strict=True))
        return _pooled(restored, target, nominal=2.0)


class CoReFusionNotebook(EvaluationProtocol):
    """Metrics that CoReFusion's notebook and tester print: counts of 0 to 255, each image with its own range."""

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
        """Return the mean over the images."""
        return _mean(self._measured)


class Gray8(EvaluationProtocol):
    """The standard protocol with all images in 8 bit, regardless of the depth of the files."""

    name = "gray8"
    text = (
        "Gray 8 bit: clipped and rounded to 0 to 255, nothing cropped. PSNR with peak 255, SSIM (valid region) with "
        "range 255. Mean over the images."
    )

    def __init__(self) -> None:
        self._measured: list[dict[str, float]] = []

    def update(self, restored: Tensor, target: Tensor) -> None:
        """Measure each image."""
        for mine, true in zip(restored.float().split(1), target.float().split(1), strict=True):
            self._measured.append(self._measure(*(quantize(x, 255) for x in (mine, true))))

    def compute(self) -> dict[str, float]:
        """Return the mean over the images."""
        return _mean(self._measured)

    def _measure(self, restored: Tensor, target: Tensor) -> dict[str, float]:
        """Measure one image (1, 1, H, W) in [0, 1], rounded to 8 bit."""
        return {"psnr": float(psnr(restored, target)), "ssim": float(ssim(restored, target))}


class BT601Y(Gray8):
    """PSNR and SSIM of the BT.601 luma of a gray image: the PSNR is 1.32 dB above that of the gray image itself.

    A gray value of 0 to 255 becomes ``16 + 219 / 255`` times the value, while the data range stays 255.
    """

    name = "y_bt601"
    text = (
        "Y of BT.601 in limited range, 16 + 219 g of 8-bit gray g in [0, 1], over 255 and not rounded; PSNR with peak "
        "1, which is 1.32 dB above that of gray; SSIM (valid region) with range 1. Nothing cropped. Mean over the "
        "images."
    )

    def _measure(self, restored: Tensor, target: Tensor) -> dict[str, float]:
        return super()._measure(_luma(restored).float(), _luma(target).float())


class PyiqaY(Gray8):
    """Metrics of pyiqa 0.1 on 8-bit files with `test_y_channel`, its default for PSNR and SSIM of colour images."""

    name = "pyiqa_y"
    text = (
        "pyiqa 0.1.12 on 8-bit files of three channels: Y of BT.601 in limited range over 255, float64. PSNR with peak "
        "1 and 1e-8 added to the mean squared error. SSIM of Y rounded to 0 to 255, Gaussian window of 11 x 11 with "
        "sigma 1.5, valid region, negative contrast terms cut to 0. Nothing cropped. Mean over the images. For gray "
        "images PSNR is 1.32 dB above that of gray."
    )

    def _measure(self, restored: Tensor, target: Tensor) -> dict[str, float]:
        y, x = _luma(restored), _luma(target)
        decibel = 10 * (1 / ((y - x).square().mean() + 1e-8)).log10()
        return {"psnr": float(decibel), "ssim": float(_ssim_of_luma((255 * y).round(), (255 * x).round()))}


class ThreeMTIPaper(PyiqaY):
    """Protocol of 3M-TI's released script; its tables have this offset."""

    name = "3m_ti"
    text = f"3M-TI's script: {PyiqaY.text} Its targets are 512 x 512."


class DifIISRPaper(PyiqaY):
    """Protocol of DifIISR's released script, which reads channels in the wrong order, without effect on gray files."""

    name = "difiisr"
    text = f"DifIISR's script: {PyiqaY.text}"


class RealIISRPaper(PyiqaY):
    """Protocol of VARSR's script, on which Real-IISR's code is based; Real-IISR's own code computes no metrics."""

    name = "real_iisr"
    text = f"VARSR's script, as Real-IISR's code measures nothing: {PyiqaY.text}"


def all_protocols() -> dict[str, type[EvaluationProtocol]]:
    """Return all protocols by their headings."""
    return {kind.name: kind for kind in _members(EvaluationProtocol)}  # type: ignore[type-abstract]


def protocols_by_name(names: Sequence[str]) -> list[type[EvaluationProtocol]]:
    """Return the protocols with the given headings or class names.

    Raises:
        InputError: a name is unknown.
    """
    known = all_protocols()
    classes = {kind.__name__: kind for kind in known.values()}
    for name in names:
        if name not in known and name not in classes:
            raise InputError(f"there is no protocol {name!r}; it must be one of {', '.join(known)}")
    return [known.get(name) or classes[name] for name in names]


class RestoredImage(NamedTuple):
    """One image of a test set and its restored versions, on the CPU; values (1, H, W) in [0, 1]."""

    name: str
    target: Tensor
    restored: dict[str, Tensor]
    """Results by method; a method that could not restore the image is absent."""


Factories = Sequence[Callable[[], EvaluationProtocol]]
ProtocolSummary = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Values by data set, method, protocol and metric."""


class ProtocolScores:
    """Measure every method on every test set under several protocols.

    An image counts once. In a run of several processes, each step's images are put in the order of the files (as
    Lightning distributes them: one to each process in turn) and measured by every process, so that protocols that pool
    images give the same result as a single process.

    Args:
        protocols: factories of the protocols.
    """

    def __init__(self, protocols: Factories = ()) -> None:
        self._factories = protocols
        self._protocols: dict[str, dict[str, list[EvaluationProtocol]]] = {}
        self._seen: set[tuple[str, str]] = set()
        self._summary: ProtocolSummary | None = None

    @property
    def texts(self) -> dict[str, str]:
        """Descriptions of the protocols by name."""
        return {protocol.name: protocol.text for protocol in (make() for make in self._factories)}

    @torch.no_grad()
    def add(self, dataset: str, images: list[RestoredImage], device: torch.device) -> None:
        """Measure the images of a step; every process calls it for each step, with an empty list if it has none.

        Args:
            dataset: name of the test set.
            images: images of this process, in the order of its files.
            device: device to measure on.
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
        """Return the values by data set, method, protocol and metric."""
        if self._summary is None:
            self._summary = {
                dataset: {method: {p.name: p.compute() for p in protocols} for method, protocols in methods.items()}
                for dataset, methods in self._protocols.items()
            }
        return self._summary


def _members(base: type[EvaluationProtocol]) -> list[type[EvaluationProtocol]]:
    return [kind for child in base.__subclasses__() for kind in (child, *_members(child))]


def _luma(gray: Tensor) -> Tensor:
    """Return the limited-range luma Y of BT.601 for gray in [0, 1], divided by 255, in float64."""
    return (16 + 219 * gray.double()) / 255


def _ssim_of_luma(restored: Tensor, target: Tensor) -> Tensor:
    """Return the mean SSIM of (1, 1, H, W) in 0 to 255 as pyiqa computes it."""
    offsets = torch.arange(SSIM_WINDOW, dtype=torch.float64, device=target.device) - SSIM_WINDOW // 2
    taps = torch.exp(-offsets.square() / (2 * SSIM_SIGMA**2))
    window = (taps[:, None] * taps / taps.sum() ** 2)[None, None]
    mine, true = (conv2d(x, window) for x in (restored, target))
    spread = conv2d(restored.square(), window) - mine.square() + conv2d(target.square(), window) - true.square()
    common = conv2d(restored * target, window) - mine * true
    c1, c2 = (SSIM_K1 * 255) ** 2, (SSIM_K2 * 255) ** 2
    contrast = ((2 * common + c2) / (spread + c2)).clamp(min=0)
    return ((2 * mine * true + c1) / (mine.square() + true.square() + c1) * contrast).mean()


def _pooled(restored: Tensor, target: Tensor, nominal: float) -> dict[str, float]:
    """Return the PSNR of all pixels together and the mean SSIM of (B, 1, H, W), with data ranges from the values.

    These are the ranges that torchmetrics uses if none is given; a range of 0 is replaced by `nominal`.
    """
    low, high = target.min(), target.max()
    peak = float(high.clamp(min=0) - low.clamp(max=0)) or nominal
    span = float(max(restored.max() - restored.min(), high - low)) or nominal
    error = (restored - target).double().square().mean()
    decibel = (10 * (peak**2 / error).log10()).clamp(max=PSNR_CAP)
    # SSIM depends only on values divided by the range.
    return {"psnr": float(decibel), "ssim": float(ssim(restored / span, target / span).double().mean())}


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: float(torch.tensor([row[key] for row in rows]).double().mean()) for key in ("psnr", "ssim")}
