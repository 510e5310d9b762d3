"""Restoration of images and videos on disk, and measurement of restored files."""
