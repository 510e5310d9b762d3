"""How single papers measured images, by name, beside the standard protocol."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from lit_thermal.errors import InputError
from lit_thermal.metrics.gather import gather_objects
from lit_thermal.metrics.quality import PSNR_CAP, SSIM_K1, SSIM_K2, SSIM_SIGMA, SSIM_WINDOW, psnr, quantize, ssim


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


class Gray8(EvaluationProtocol):
    """Ours in 8 bit, whatever the depth of the files."""

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
        """Mean over the images."""
        return _mean(self._measured)

    def _measure(self, restored: Tensor, target: Tensor) -> dict[str, float]:
        """One image (1, 1, H, W) as 8-bit files hold it, in [0, 1]."""
        return {"psnr": float(psnr(restored, target)), "ssim": float(ssim(restored, target))}


class BT601Y(Gray8):
    """PSNR and SSIM of the luma that BT.601 makes of a gray image: 1.32 dB above those of the gray image itself.

    A gray value of 0 to 255 becomes ``16 + 219 / 255`` of it, and the range stays 255.
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
    """What pyiqa 0.1 measures of 8-bit files with `test_y_channel`, its default for PSNR and SSIM of colour images."""

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
    """How 3M-TI's released script measures; its tables have this offset."""

    name = "3m_ti"
    text = f"3M-TI's script: {PyiqaY.text} Its targets are 512 x 512."


class DifIISRPaper(PyiqaY):
    """How DifIISR's released script measures, which reads channels in the wrong order: gray files do not mind."""

    name = "difiisr"
    text = f"DifIISR's script: {PyiqaY.text}"


class RealIISRPaper(PyiqaY):
    """How VARSR's script measures, whose code Real-IISR builds on; Real-IISR's own code computes no metrics."""

    name = "real_iisr"
    text = f"VARSR's script, as Real-IISR's code measures nothing: {PyiqaY.text}"


def protocols_by_name(names: Sequence[str]) -> list[type[EvaluationProtocol]]:
    """The protocols that are named by their headings or classes.

    Raises:
        InputError: there is none of that name.
    """
    known = {kind.name: kind for kind in _members(EvaluationProtocol)}  # type: ignore[type-abstract]
    classes = {kind.__name__: kind for kind in known.values()}
    for name in names:
        if name not in known and name not in classes:
            raise InputError(f"there is no protocol {name!r}; choose of {', '.join(known)}")
    return [known.get(name) or classes[name] for name in names]


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


def _members(base: type[EvaluationProtocol]) -> list[type[EvaluationProtocol]]:
    return [kind for child in base.__subclasses__() for kind in (child, *_members(child))]


def _luma(gray: Tensor) -> Tensor:
    """Y of BT.601 in limited range over 255, float64, of gray in [0, 1]."""
    return (16 + 219 * gray.double()) / 255


def _ssim_of_luma(restored: Tensor, target: Tensor) -> Tensor:
    """Mean SSIM of (1, 1, H, W) in 0 to 255 as pyiqa computes it."""
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
