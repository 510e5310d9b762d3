"""The catalogue of metrics: one record per metric, which tables, reports and help texts read.

A new metric is a new file of this package with a function and its record, `MINE = Metric(...)`; it is found there. The
records of the package's own metrics are listed here, in the order of the tables.
"""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from lit_thermal import metrics
from lit_thermal.errors import InputError
from lit_thermal.metrics import flow, learned, structure, temperature
from lit_thermal.metrics.feature_distance import thermal_feature_distance
from lit_thermal.metrics.metric import Metric, MetricInput
from lit_thermal.metrics.no_reference import by_pyiqa, dover
from lit_thermal.metrics.quality import psnr, ssim
from lit_thermal.metrics.spectrum import spectrum_distance
from lit_thermal.metrics.video import heat_misfit, profile_error, temporal_difference

IMAGES = (1, 1)
VIDEO = (2, float("inf"))


def _heat(video: Tensor, inputs: MetricInput) -> Tensor:
    return heat_misfit(video, inputs.target, inputs.constants.diffusivity, inputs.constants.alpha, inputs.dt)


QUALITY = (
    Metric(
        "psnr",
        "PSNR",
        "PSNR of each frame with peak 1, in dB",
        unit="dB",
        decimals=2,
        direction="higher",
        measure=lambda s: psnr(s.restored, s.target),
        sheet="quality",
    ),
    Metric(
        "ssim",
        "SSIM",
        "SSIM of each frame over the valid region",
        decimals=4,
        direction="higher",
        measure=lambda s: ssim(s.restored, s.target),
        sheet="quality",
    ),
)
"""Metrics that a validation measures, and that every test prints."""
QUALITY_NAMES = tuple(metric.name for metric in QUALITY)
"""Names of the metrics in `QUALITY`."""

_STANDARD = (
    *QUALITY,
    Metric(
        "spectrum_distance",
        "Spectrum distance",
        "mean absolute difference of the spectra log(1 + amplitude) of the orthonormal Fourier transform, lower is "
        "better",
        decimals=4,
        measure=lambda s: spectrum_distance(s.restored, s.target),
        frames=IMAGES,
        sheet="quality",
    ),
    Metric(
        "feature_distance",
        "Feature distance",
        "distance in features of a small network trained on simulated thermal scenes, not LPIPS, lower is better",
        decimals=4,
        measure=thermal_feature_distance,
        frames=IMAGES,
        sheet="quality",
    ),
    Metric(
        "ms_ssim",
        "MS-SSIM",
        "SSIM over five scales",
        decimals=4,
        direction="higher",
        measure=structure.multiscale_similarity,
        side=structure.LEAST_SIDE,
        sheet="record",
    ),
    Metric(
        "lpips",
        "LPIPS",
        "LPIPS 0.1 of AlexNet, gray as three channels, lower is better",
        decimals=4,
        measure=learned.perceptual_distance,
        side=learned.LEAST_SIDE,
        sheet="record",
    ),
    Metric(
        "kelvin_mae",
        "Mean error",
        "mean absolute error in Kelvin, emissivity 1, where the files tell temperatures",
        unit="K",
        decimals=3,
        measure=temperature.kelvin_error,
        known=temperature.knows_kelvin,
    ),
    Metric(
        "counts_mae",
        "Mean error",
        "mean absolute error in counts of the file, where it tells no temperatures",
        unit="counts",
        measure=temperature.counts_error,
        known=lambda radiometry: not temperature.knows_kelvin(radiometry),
    ),
    Metric(
        "order_violations",
        "Order violations",
        "share of the pairs of neighbouring pixels more than one count apart in the target whose order is reversed",
        decimals=4,
        measure=temperature.order_violations,
    ),
    Metric(
        "hot_edge_error",
        "Error at hot edges",
        "mean absolute error where the target is warmer than its mean, weighted by the target's gradient",
        decimals=4,
        measure=temperature.hot_edge_error,
    ),
    Metric(
        "temporal_difference",
        "Temporal difference",
        "mean absolute error of the change from frame to frame",
        measure=lambda s: temporal_difference(s.restored, s.target),
        frames=VIDEO,
        first=1,
        sheet="record",
    ),
    Metric(
        "profile_error",
        "Profile error",
        "mean absolute error of the middle row",
        measure=lambda s: profile_error(s.restored, s.target),
        frames=VIDEO,
        sheet="record",
    ),
    Metric(
        "heat_residual",
        "Heat residual",
        "mean of w r^2 with w of the target, to be compared with heat_residual_of_target",
        direction=None,
        measure=lambda s: _heat(s.restored, s),
        frames=(3, float("inf")),
        first=1,
        sheet="record",
    ),
    Metric(
        "heat_residual_of_target",
        "Heat residual of the target",
        "heat residual of the target itself",
        direction=None,
        measure=lambda s: _heat(s.target, s),
        frames=(3, float("inf")),
        first=1,
        sheet="record",
    ),
)

_ON_REQUEST = (
    Metric(
        "tof",
        "tOF",
        "mean length of the difference of Farneback's flows",
        measure=flow.optical_flow_error,
        frames=VIDEO,
        first=1,
    ),
    Metric(
        "warping_error",
        "Warping error",
        "mean squared change along the target's flow where nothing is hidden",
        measure=flow.warping_error,
        frames=VIDEO,
        first=1,
    ),
    Metric(
        "tlpips",
        "tLPIPS",
        "absolute difference of LPIPS from frame to frame to that of the target",
        measure=learned.perceptual_change,
        frames=VIDEO,
        first=1,
        side=learned.LEAST_SIDE,
    ),
    Metric(
        "musiq",
        "MUSIQ",
        "MUSIQ (KonIQ-10k) of pyiqa, no target, higher is better",
        decimals=2,
        direction="higher",
        measure=by_pyiqa("musiq"),
        no_reference=True,
    ),
    Metric(
        "maniqa",
        "MANIQA",
        "MANIQA (KonIQ-10k) of pyiqa, no target, higher is better",
        decimals=4,
        direction="higher",
        measure=by_pyiqa("maniqa"),
        no_reference=True,
    ),
    Metric(
        "clip_iqa",
        "CLIP-IQA",
        "CLIP-IQA (ResNet-50) of pyiqa, no target, higher is better",
        decimals=4,
        direction="higher",
        measure=by_pyiqa("clip_iqa"),
        no_reference=True,
    ),
    Metric(
        "dover",
        "DOVER",
        "DOVER's overall quality, no target, higher is better",
        decimals=4,
        direction="higher",
        measure=dover(None),
        frames=VIDEO,
        no_reference=True,
    ),
)

_ELSEWHERE = (
    Metric("psnr_registered", "PSNR registered", unit="dB", decimals=2, direction="higher"),
    Metric("psnr_unregistered", "PSNR unregistered", unit="dB", decimals=2, direction="higher"),
    Metric("ssim_registered", "SSIM registered", decimals=4, direction="higher"),
    Metric("ssim_unregistered", "SSIM unregistered", decimals=4, direction="higher"),
    Metric("map", "mAP", unit="%", decimals=1, direction="higher"),
    Metric("map_50", "mAP at IoU 0.5", unit="%", decimals=1, direction="higher"),
    Metric("map_75", "mAP at IoU 0.75", unit="%", decimals=1, direction="higher"),
    Metric("class_ap", "AP", unit="%", decimals=1, direction="higher"),
    Metric("miou", "mIoU", unit="%", decimals=1, direction="higher"),
    Metric("class_iou", "IoU", unit="%", decimals=1, direction="higher"),
    Metric("ap_gain", "AP over the next best", unit="%", decimals=3, direction="higher"),
    Metric("iou_gain", "IoU over the next best", unit="%", decimals=3, direction="higher"),
    Metric("precision", "Precision", decimals=3, direction="higher"),
    Metric("recall", "Recall", decimals=3, direction="higher"),
    Metric("f1", "F1", decimals=3, direction="higher"),
    Metric("iou", "IoU", decimals=3, direction="higher"),
    Metric("fps", "Frames per second", unit="1/s", decimals=2, direction="higher"),
    Metric("parameters", "Parameters", unit="M", decimals=2),
    Metric("epoch", "Epoch", decimals=3, direction=None),
)
"""Metrics of displaced targets, of detection and segmentation networks, and those that only papers report."""


def all_metrics() -> dict[str, Metric]:
    """Return all metrics by name: those listed here, then those of the package's other files by the name of the file.

    Raises:
        InputError: two metrics have the same name.
    """
    requested = (replace(metric, on_request=True) for metric in _ON_REQUEST)
    result: dict[str, Metric] = {}
    for metric in (*_STANDARD, *requested, *_ELSEWHERE, *_in_files()):
        if result.setdefault(metric.name, metric) is not metric:
            raise InputError(f"two metrics have the name {metric.name!r}; rename one of them in {metrics.__name__}")
    return result


def _in_files() -> Iterator[Metric]:
    """Yield the records at the top level of the package's other files."""
    for name in sorted(module.name for module in pkgutil.iter_modules(metrics.__path__)):
        if name not in ("catalogue", "metric"):
            file = importlib.import_module(f"{metrics.__name__}.{name}")
            yield from (value for value in vars(file).values() if isinstance(value, Metric))


CATALOGUE: dict[str, Metric] = all_metrics()
"""All metrics by name."""


def standard() -> tuple[Metric, ...]:
    """Return the metrics that a test measures by default, each where it applies."""
    return tuple(metric for metric in CATALOGUE.values() if metric.measure is not None and not metric.on_request)


def on_request() -> tuple[Metric, ...]:
    """Return the metrics measured only on request: they are expensive or need weights that the package lacks."""
    return tuple(metric for metric in CATALOGUE.values() if metric.measure is not None and metric.on_request)


def by_name(names: Iterable[str]) -> tuple[Metric, ...]:
    """Return the standard metrics and the named ones; `dover=FILE.onnx` gives the network of DOVER.

    Raises:
        InputError: a name is unknown.
    """
    chosen = {metric.name: metric for metric in standard()}
    known = chosen | {metric.name: metric for metric in on_request()}
    for word in names:
        name, _, file = word.partition("=")
        if name not in known or (file and name != "dover"):
            raise InputError(
                f"there is no metric {word!r}; it must be one of {', '.join(known)}, with DOVER as dover=FILE.onnx"
            )
        asked = replace(known[name], on_request=True)
        chosen[name] = replace(asked, measure=dover(Path(file))) if file else asked
    return tuple(chosen.values())


def shown(name: str) -> Metric:
    """Return the record of a metric; one that is not in the catalogue uses its name as label."""
    return CATALOGUE.get(name) or Metric(name, name.replace("_", " ").capitalize(), direction=None)
