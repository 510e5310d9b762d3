"""3M-TI: calibration-free guided super-resolution in one diffusion step."""
