"""Metrics of restored thermal images and video, and their catalogue."""

from lit_thermal.metrics.metric import Protocol
from lit_thermal.metrics.quality import psnr, quantize, ssim
from lit_thermal.metrics.spectrum import spectrum_distance
from lit_thermal.metrics.video import heat_misfit, profile_error, temporal_difference, temporal_profile

__all__ = [
    "Protocol",
    "heat_misfit",
    "profile_error",
    "psnr",
    "quantize",
    "spectrum_distance",
    "ssim",
    "temporal_difference",
    "temporal_profile",
]
