"""Conversion of weights in the layouts of released codes: one file for each method."""

from lit_thermal.weights.convert.reference import check_layout, read_released, read_state_dict

__all__ = ["check_layout", "read_released", "read_state_dict"]
