"""DataModules: one base for images, one for video, and those of the embedded simulator."""
