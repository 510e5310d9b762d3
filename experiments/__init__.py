"""Experiment files: `<method>.yaml` runs as it is; the subfolders are overlays and published recipes."""
