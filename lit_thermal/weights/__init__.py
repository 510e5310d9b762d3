"""Weights: reading checkpoints, rebuilding the model of one, keeping what fits after a change."""

from lit_thermal.weights.checkpoint import check_fit, load_model, read_checkpoint, save_model
from lit_thermal.weights.surgery import Transplant, transplant

__all__ = ["Transplant", "check_fit", "load_model", "read_checkpoint", "save_model", "transplant"]
