"""Downstream tasks on restored images: detection, segmentation and zero-shot recognition."""
