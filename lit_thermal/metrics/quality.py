"""PSNR and SSIM of thermal frames, measured on the values that a file would store."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from lit_thermal.batch import Radiometry
from lit_thermal.errors import InputError

PSNR_CAP = 100.0
"""PSNR in dB that is reported for a perfect frame, whose true value is infinite."""
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_K1 = 0.01
SSIM_K2 = 0.03

_PIXELS_AT_ONCE = 1 << 22
"""Pixels processed at once: SSIM holds about twenty maps of the input's size, near 350 MB at 4 Mpixel."""


def quantize(x: Tensor, steps: float | Sequence[float]) -> Tensor:
    """Round values to those that a file stores.

    Args:
        x: (B, ...) of any float type; values outside [0, 1] are clipped.
        steps: number of counts of the file from value 0 to value 1: 255 for 8 bit, 65535 for full-range 16 bit, the
            radiometry's gain for a 16-bit clip whose own range was mapped; one number, or one per sample.

    Returns:
        float32 of the same shape in [0, 1]. NaN stays NaN.

    Raises:
        InputError: a number of steps is not positive, or there is not one per sample.
    """
    counts = [steps] * len(x) if isinstance(steps, (int, float)) else list(steps)
    if len(counts) != len(x) or not all(count > 0 for count in counts):
        raise InputError(f"quantize needs a positive number of steps for each of {len(x)} samples, not {steps}")
    scale = torch.tensor(counts, dtype=torch.float32, device=x.device).view(-1, *[1] * (x.ndim - 1))
    # The last step ends at 1 even if the range of a clip is not a whole number of counts.
    return ((x.float().clamp(0, 1) * scale).round() / scale).clamp(max=1)


def as_written(x: Tensor, radiometry: Sequence[Radiometry]) -> Tensor:
    """Round values as writing a file and reading it back does: to whole counts of its depth, and to values again.

    Args:
        x: (B, ...) of any float type.
        radiometry: B mappings of values to counts.

    Returns:
        float32 of the same shape: in [0, 1] for 8 bit, while a file of 16 bit has counts beyond the range that is
        mapped. NaN stays NaN.

    Raises:
        InputError: a gain is not positive, or there is not one mapping per sample.
    """
    if len(radiometry) != len(x) or not all(r.gain > 0 for r in radiometry):
        raise InputError(f"rounding to counts needs a positive gain for each of {len(x)} samples, not {radiometry}")
    if not len(x):
        return x.float()
    return torch.stack([_written(sample, r) for sample, r in zip(x, radiometry, strict=True)])


def _written(x: Tensor, radiometry: Radiometry) -> Tensor:
    # The same arithmetic as a writer and a reader, step by step: another order would differ in ties or last digits.
    exact = x.cpu() if x.device.type == "mps" else x
    counts = radiometry.to_counts(exact.double()).round().clamp(0, 2**radiometry.bits - 1).float()
    offset, gain = (torch.tensor(v, dtype=torch.float32, device=counts.device) for v in radiometry[:2])
    return ((counts - offset) / gain).to(x.device)


def psnr(restored: Tensor, target: Tensor) -> Tensor:
    """Compute the peak signal-to-noise ratio ``10 log10(1 / MSE)`` in dB of each frame, at most `PSNR_CAP`.

    Args:
        restored: (..., 1, H, W) results in [0, 1], already quantized.
        target: targets of the same shape.

    Returns:
        (...), float32.
    """
    error = (restored - target).square().mean(dim=(-3, -2, -1))
    return (-10 * error.log10()).clamp(max=PSNR_CAP)


def ssim(restored: Tensor, target: Tensor) -> Tensor:
    """Compute the structural similarity of each frame over the pixels whose whole window lies inside it.

    The window is an 11 x 11 Gaussian with sigma 1.5; K1 is 0.01, K2 is 0.03, and the data range is 1. torchmetrics
    gives the map; the mean is computed here, because the one of torchmetrics includes a mirrored border.

    Args:
        restored: (..., 1, H, W) results in [0, 1], already quantized.
        target: targets of the same shape.

    Returns:
        (...), float32.

    Raises:
        InputError: the frames are smaller than the window.

    Source: Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004.
    """
    height, width = target.shape[-2:]
    if min(height, width) < SSIM_WINDOW:
        raise InputError(f"SSIM needs frames of at least {SSIM_WINDOW} x {SSIM_WINDOW}, not {height} x {width}")
    # Frames are passed as channels: torch's depthwise convolution is 13 times faster than one frame per sample.
    part = max(1, _PIXELS_AT_ONCE // (height * width))
    parts = [video.reshape(1, -1, height, width).split(part, dim=1) for video in (restored, target)]
    margin = SSIM_WINDOW // 2
    means = []
    for x, y in zip(*parts, strict=True):
        _, similarity = structural_similarity_index_measure(
            x,
            y,
            sigma=SSIM_SIGMA,
            kernel_size=SSIM_WINDOW,
            data_range=1.0,
            k1=SSIM_K1,
            k2=SSIM_K2,
            reduction="none",
            return_full_image=True,
        )
        means.append(similarity[0, :, margin:-margin, margin:-margin].mean(dim=(-2, -1)))
    return torch.cat(means).view(target.shape[:-3])
