"""Runs W&B sweep files without W&B: each point in its own process, with a record of the results."""
