"""Real-IISR: visual autoregression that restores real degradations of thermal images."""
