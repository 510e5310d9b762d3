"""Weights: finding and reading checkpoints, rebuilding their models, and loading the weights that fit another model."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lit_thermal.weights.checkpoint import check_fit, load_model, read_checkpoint, recorded_class, save_model
    from lit_thermal.weights.find import find_model, model_for
    from lit_thermal.weights.surgery import Transplant, transplant

__all__ = [
    "Transplant",
    "check_fit",
    "find_model",
    "load_model",
    "model_for",
    "read_checkpoint",
    "recorded_class",
    "save_model",
    "transplant",
]
_MODULES = {"find_model": "find", "model_for": "find", "Transplant": "surgery", "transplant": "surgery"}
"""Modules of names that are not in `checkpoint`."""


def __getattr__(name: str) -> Any:
    # imported at first use, so that a wrong path of a model is refused before torch is imported
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'checkpoint')}"), name)
