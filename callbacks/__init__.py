"""Lightning callbacks; installed as `lit_thermal.callbacks`."""

from .ema import EMA
from .learning_curves import LearningCurves
from .prediction_writer import PredictionWriter
from .robustness_curve import RobustnessCurve
from .samples import SamplePictures

__all__ = ["EMA", "LearningCurves", "PredictionWriter", "RobustnessCurve", "SamplePictures"]
