"""Selective state-space scan (Mamba) with interchangeable back ends."""

from .api import BACKENDS, selective_scan

__all__ = ["BACKENDS", "selective_scan"]
