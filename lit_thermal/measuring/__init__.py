"""Measurement of files that any program restored: they are paired with their targets and scored."""
