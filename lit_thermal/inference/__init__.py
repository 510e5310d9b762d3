"""Restoring videos on disk with a trained model."""
