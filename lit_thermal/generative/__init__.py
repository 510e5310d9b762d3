"""What the generative methods share: diffusion schedules, the noise of a seed, and samplers."""
