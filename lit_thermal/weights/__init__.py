"""Weights: reading checkpoints, rebuilding their models, and loading the weights that fit another model."""

from lit_thermal.weights.checkpoint import check_fit, load_model, read_checkpoint, save_model
from lit_thermal.weights.surgery import Transplant, transplant

__all__ = ["Transplant", "check_fit", "load_model", "read_checkpoint", "save_model", "transplant"]
