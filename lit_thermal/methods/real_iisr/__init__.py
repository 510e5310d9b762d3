"""Real-IISR: real degradations of thermal images undone by visual autoregression."""
