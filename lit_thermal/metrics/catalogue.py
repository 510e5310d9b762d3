"""All metrics by name. A new one is a function in a file of its own and a line here."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from lit_thermal.errors import InputError
from lit_thermal.metrics import flow, learned, structure, temperature
from lit_thermal.metrics.metric import Metric, Seen
from lit_thermal.metrics.no_reference import by_pyiqa, dover
from lit_thermal.metrics.quality import psnr, ssim
from lit_thermal.metrics.spectrum import spectrum_distance
from lit_thermal.metrics.video import heat_misfit, profile_error, temporal_difference

IMAGES = (1, 1)
VIDEO = (2, float("inf"))


def _heat(video: Tensor, seen: Seen) -> Tensor:
    return heat_misfit(video, seen.target, seen.constants.diffusivity, seen.constants.alpha, seen.dt)


QUALITY = (
    Metric("psnr", lambda s: psnr(s.restored, s.target), "of each frame with peak 1, in dB"),
    Metric("ssim", lambda s: ssim(s.restored, s.target), "of each frame over the valid region"),
)
"""What a validation measures."""

STANDARD = (
    *QUALITY,
    Metric(
        "spectrum_distance",
        lambda s: spectrum_distance(s.restored, s.target),
        "mean absolute difference of the spectra log(1 + amplitude) of the orthonormal Fourier transform, lower is "
        "better",
        frames=IMAGES,
    ),
    Metric("ms_ssim", structure.multiscale_similarity, "SSIM over five scales", side=structure.LEAST_SIDE),
    Metric(
        "lpips",
        learned.perceptual_distance,
        "LPIPS 0.1 of AlexNet, gray as three channels, lower is better",
        side=learned.LEAST_SIDE,
    ),
    Metric(
        "kelvin_mae",
        temperature.kelvin_error,
        "mean absolute error in Kelvin, emissivity 1, where the files tell temperatures",
        known=temperature.knows_kelvin,
    ),
    Metric(
        "counts_mae",
        temperature.counts_error,
        "mean absolute error in counts of the file, where it tells no temperatures",
        known=lambda radiometry: not temperature.knows_kelvin(radiometry),
    ),
    Metric(
        "order_violations",
        temperature.order_violations,
        "share of the pairs of neighbouring pixels more than one count apart in the target whose order is reversed",
    ),
    Metric(
        "hot_edge_error",
        temperature.hot_edge_error,
        "mean absolute error where the target is warmer than its mean, weighted by the target's gradient",
    ),
    Metric(
        "temporal_difference",
        lambda s: temporal_difference(s.restored, s.target),
        "mean absolute error of the change from frame to frame",
        frames=VIDEO,
        first=1,
    ),
    Metric(
        "profile_error",
        lambda s: profile_error(s.restored, s.target),
        "mean absolute error of the middle row",
        frames=VIDEO,
    ),
    Metric(
        "heat_residual",
        lambda s: _heat(s.restored, s),
        "mean of w r^2 with w of the target, to be compared with heat_residual_of_target",
        frames=(3, float("inf")),
        first=1,
    ),
    Metric(
        "heat_residual_of_target",
        lambda s: _heat(s.target, s),
        "the same of the target itself",
        frames=(3, float("inf")),
        first=1,
    ),
)
"""What a test measures, each where it applies."""

ON_REQUEST = tuple(
    replace(metric, on_request=True)
    for metric in (
        Metric(
            "tof", flow.optical_flow_error, "mean length of the difference of Farneback's flows", frames=VIDEO, first=1
        ),
        Metric(
            "warping_error",
            flow.warping_error,
            "mean squared change along the target's flow where nothing is hidden",
            frames=VIDEO,
            first=1,
        ),
        Metric(
            "tlpips",
            learned.perceptual_change,
            "absolute difference of LPIPS from frame to frame to that of the target",
            frames=VIDEO,
            first=1,
            side=learned.LEAST_SIDE,
        ),
        Metric("musiq", by_pyiqa("musiq"), "MUSIQ (KonIQ-10k) of pyiqa, no target, higher is better", blind=True),
        Metric("maniqa", by_pyiqa("maniqa"), "MANIQA (KonIQ-10k) of pyiqa, no target, higher is better", blind=True),
        Metric(
            "clip_iqa", by_pyiqa("clip_iqa"), "CLIP-IQA (ResNet-50) of pyiqa, no target, higher is better", blind=True
        ),
        Metric("dover", dover(None), "DOVER's overall quality, no target, higher is better", frames=VIDEO, blind=True),
    )
)
"""What is asked for by name: it costs much, or needs weights that cannot be passed on with the package."""


def by_name(names: Iterable[str]) -> tuple[Metric, ...]:
    """The standard metrics and those that are named; `dover=FILE.onnx` gives DOVER its network.

    Raises:
        InputError: there is no metric of that name.
    """
    chosen = {metric.name: metric for metric in STANDARD}
    known = chosen | {metric.name: metric for metric in ON_REQUEST}
    for word in names:
        name, _, file = word.partition("=")
        if name not in known or (file and name != "dover"):
            raise InputError(f"there is no metric {word!r}; choose of {', '.join(known)}, and DOVER as dover=FILE.onnx")
        asked = replace(known[name], on_request=True)
        chosen[name] = replace(asked, measure=dover(Path(file))) if file else asked
    return tuple(chosen.values())
