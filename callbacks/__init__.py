"""Lightning callbacks; installed as `lit_thermal.callbacks`."""
