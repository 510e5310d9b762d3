"""Downstream tasks that judge restored images: detection, segmentation and zero-shot recognition."""
