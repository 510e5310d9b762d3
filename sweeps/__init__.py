"""W&B sweep files, one per published ablation table."""
