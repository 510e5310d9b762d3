"""DifIISR: residual-shift diffusion with loss-gradient guidance (CVPR 2025)."""
