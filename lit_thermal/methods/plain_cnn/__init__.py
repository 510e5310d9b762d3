"""PlainCNN: residual convolutions trained by regression, the baseline that a method has to beat at equal seconds."""
