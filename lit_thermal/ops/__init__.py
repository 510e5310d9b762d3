"""Pure functions on tensors; each fast path has a slow reference beside it."""
