"""Names of the mappings of 16-bit counts to values in [0, 1]; what they do is in `lit_thermal.data.radiometry`."""

from typing import Literal

Normalize = Literal["robust", "minmax", "percentile", "full"]
NORMALIZE: Normalize = "robust"
"""What is used where nobody says otherwise."""
