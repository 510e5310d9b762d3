"""THERIS: heat-conduction priors for infrared space-time video super-resolution (CVPR 2026)."""
