"""Names of the mappings of 16-bit counts to values in [0, 1]; `lit_thermal.data.formats.radiometry` applies them."""

from typing import Literal

Normalize = Literal["robust", "minmax", "percentile", "full"]
NORMALIZE: Normalize = "robust"
"""What is used where nobody says otherwise."""
