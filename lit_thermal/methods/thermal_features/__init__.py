"""Training of the thermal feature network, which perceptual losses and metrics use where no other weights are."""
