"""Whole networks that more than one method is built on, in plain torch."""

from lit_thermal.lazy import lazy

__getattr__, __dir__ = lazy(__name__)
