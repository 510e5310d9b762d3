"""Metrics of restored thermal images and video, simple baselines, and the report of a test run."""

from lit_thermal.metrics.baselines import TunedBaselines, image_baselines, video_baselines
from lit_thermal.metrics.metric import Protocol
from lit_thermal.metrics.quality import psnr, quantize, ssim
from lit_thermal.metrics.scores import Scores
from lit_thermal.metrics.spectrum import spectrum_distance
from lit_thermal.metrics.video import heat_misfit, profile_error, temporal_difference, temporal_profile

__all__ = [
    "Protocol",
    "Scores",
    "TunedBaselines",
    "heat_misfit",
    "image_baselines",
    "profile_error",
    "psnr",
    "quantize",
    "spectrum_distance",
    "ssim",
    "temporal_difference",
    "temporal_profile",
    "video_baselines",
]
