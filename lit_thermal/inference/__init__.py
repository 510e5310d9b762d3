"""Restoration of images and videos on disk."""
