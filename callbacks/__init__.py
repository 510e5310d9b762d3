"""Lightning callbacks; installed as `lit_thermal.callbacks`."""

from .ema import EMA

__all__ = ["EMA"]
