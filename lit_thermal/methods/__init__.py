"""The published methods, a folder each: `network.py` in plain torch, `module.py` for Lightning."""
