"""Metrics for thermal users: temperature errors, the order of temperatures, and the edges of hot objects."""

import torch
from torch import Tensor

from lit_thermal.batch import Radiometry
from lit_thermal.metrics.metric import MetricInput


def knows_kelvin(radiometry: Radiometry) -> bool:
    """Return whether counts have a known temperature."""
    return radiometry.unit in ("linear", "planck")


def kelvin_error(inputs: MetricInput) -> Tensor:
    """Compute the mean absolute error of each frame in Kelvin, (B, T) float32; NaN if the temperature is unknown.

    Both images are converted by the radiometry of the target's file, whose reading says which temperature
    that is: apparent (emissivity 1) if the file has the camera's constants.
    """
    samples = zip(inputs.restored, inputs.target, inputs.radiometry, strict=True)
    return torch.stack([_in_kelvin(x, y, r) for x, y, r in samples])


def counts_error(inputs: MetricInput) -> Tensor:
    """Compute the mean absolute error of each frame in counts of the target's file, (B, T) float32."""
    gains = torch.tensor([r.gain for r in inputs.radiometry], device=inputs.target.device)
    return gains[:, None] * (inputs.restored - inputs.target).abs().mean(dim=(-3, -2, -1))


def order_violations(inputs: MetricInput) -> Tensor:
    """Compute the share of pairs of neighbouring pixels whose order of temperature is reversed, (B, T) in [0, 1].

    A pair is a pixel and its right or lower neighbour; it counts if the target's two values differ by more than one
    count, so that noise does not decide. It is violated if the restored values differ in the other direction; if they
    are equal, the order is lost but not reversed. The value is 0 if no pair counts. It does not change under any
    increasing map of the temperatures that preserves those differences.

    The idea is that of Real-IISR's thermal order loss (eq. 3), on pixels instead of patches and counted instead of
    weighted.
    """
    gains = torch.tensor([r.gain for r in inputs.radiometry], device=inputs.target.device).view(-1, 1, 1, 1)
    restored, target = inputs.restored[:, :, 0], inputs.target[:, :, 0]
    margin = 1.5 / gains
    violated = counted = target.new_zeros(target.shape[:2])
    for axis in (-2, -1):
        ours, truth = restored.diff(dim=axis), target.diff(dim=axis)
        counts = truth.abs() > margin
        violated = violated + (counts & (ours * truth < 0)).sum(dim=(-2, -1))
        counted = counted + counts.sum(dim=(-2, -1))
    return violated / counted.clamp(min=1)


def hot_edge_error(inputs: MetricInput) -> Tensor:
    """Compute the mean absolute error at the edges of warm regions of the target, weighted by their steepness; (B, T).

    It is ``sum w |restored - target| / sum w`` with ``w = |grad target|`` where the target is warmer than the mean of
    its frame, and 0 elsewhere; the gradient is the central difference with replicated border. It is 0 if a frame has no
    such edge. Values are in [0, 1].
    """
    target = inputs.target
    padded = torch.nn.functional.pad(target.flatten(0, 1), (1, 1, 1, 1), mode="replicate").view(
        *target.shape[:3], target.shape[3] + 2, target.shape[4] + 2
    )
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    right = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    weight = (down.square() + right.square()).sqrt() * (target > target.mean(dim=(-2, -1), keepdim=True))
    error = (weight * (inputs.restored - target).abs()).sum(dim=(-3, -2, -1))
    return error / weight.sum(dim=(-3, -2, -1)).clamp(min=torch.finfo(weight.dtype).tiny)


def _in_kelvin(x: Tensor, y: Tensor, radiometry: Radiometry) -> Tensor:
    """Return the mean absolute error of (T, 1, H, W) in Kelvin, (T,)."""
    if radiometry.unit == "linear":
        return abs(radiometry.constants[1]) * radiometry.gain * (x - y).abs().mean(dim=(-3, -2, -1))
    if not knows_kelvin(radiometry):
        return x.new_full(x.shape[:1], torch.nan)
    error = radiometry.to_kelvin(x.double()) - radiometry.to_kelvin(y.double())
    return error.abs().mean(dim=(-3, -2, -1)).float()
