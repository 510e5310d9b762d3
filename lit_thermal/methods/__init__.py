"""The published methods, one folder each: `network.py` in plain PyTorch, `module.py` for Lightning."""

from lit_thermal.lazy import lazy

__getattr__, __dir__ = lazy(__name__)
