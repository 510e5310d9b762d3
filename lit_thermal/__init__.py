"""Super-resolution for thermal cameras: published methods as interchangeable Lightning blocks."""

__version__ = "0.1.0"
