"""Lightning callbacks; installed as `lit_thermal.callbacks`.

A config names those exported here; the command line adds the others to each run itself.
"""

from .chain_pictures import ChainPictures
from .compared_methods import ComparedMethods
from .ema import EMA
from .extra_metrics import ExtraMetrics
from .gallery_frames import GalleryFrames
from .learning_curves import LearningCurves
from .non_finite_guard import NonFiniteGuard
from .prediction_writer import PredictionWriter
from .robustness_curve import RobustnessCurve
from .samples import SamplePictures
from .tokenizer_first import TokenizerFirst

__all__ = [
    "EMA",
    "ChainPictures",
    "ComparedMethods",
    "ExtraMetrics",
    "GalleryFrames",
    "LearningCurves",
    "NonFiniteGuard",
    "PredictionWriter",
    "RobustnessCurve",
    "SamplePictures",
    "TokenizerFirst",
]
