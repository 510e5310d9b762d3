"""Interchangeable blocks: one family per file, an abstract base and its alternatives."""

from lit_thermal.lazy import lazy

__getattr__, __dir__ = lazy(__name__)
