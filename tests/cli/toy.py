"""The config of the stand-in method."""

CONFIG = """# A method that trains in a blink.
experiment: toy
model:
  class_path: StandIn
  init_args:
    scale: ${data.init_args.scale}
    mixer: {class_path: GatedMixer, init_args: {heads: 3}}
data:
  class_path: StandInData
  init_args: {scale: 2}
trainer:
  max_epochs: 2
  accelerator: cpu
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
"""
