"""Interchangeable blocks: one family per file, an abstract base and its alternatives."""
