"""Shared parts of the generative methods: diffusion schedules, seeded noise, and samplers."""

from lit_thermal.lazy import lazy

__getattr__, __dir__ = lazy(__name__)
