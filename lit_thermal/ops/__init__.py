"""Pure functions on tensors; the selective scan has a slow reference next to its fast implementations."""
