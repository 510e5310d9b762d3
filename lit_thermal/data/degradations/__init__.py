"""Degradations that make low-resolution input, misalignments of a guide, and the conditions of a test."""
