"""Names of the mappings from 16-bit counts to values in [0, 1], which `data.formats.radiometry` applies."""

from typing import Literal

Normalize = Literal["robust", "minmax", "percentile", "full"]
NORMALIZE: Normalize = "robust"
"""Default mapping."""
