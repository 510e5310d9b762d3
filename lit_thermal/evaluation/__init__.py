"""Measurement of restored batches: the evaluator, scores, baselines, protocols, statistics and published numbers."""
