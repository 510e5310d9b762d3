"""Training losses, one per file."""

from lit_thermal.lazy import lazy

__getattr__, __dir__ = lazy(__name__)
