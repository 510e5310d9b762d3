"""W&B sweep files run without W&B: their points, one process for each, and what is left of them."""
