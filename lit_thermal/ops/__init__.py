"""Pure functions on tensors; the selective scan keeps its slow reference beside its fast paths."""
