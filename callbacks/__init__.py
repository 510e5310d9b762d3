"""Lightning callbacks; installed as `lit_thermal.callbacks`."""

from .ema import EMA
from .prediction_writer import PredictionWriter
from .samples import SamplePictures

__all__ = ["EMA", "PredictionWriter", "SamplePictures"]
