"""Readers of configs and of weights."""

import io
from pathlib import Path

import torch
from fuzz_harness import Reader
from safetensors.torch import save

from lit_thermal import plain_yaml
from lit_thermal.weights.checkpoint import read_checkpoint
from lit_thermal.weights_file import read_file

CONFIG = b"""model:
  class_path: THERIS
  init_args: &args {scale: 4, mask: {class_path: RadialMask, init_args: {knots: 12}}}
data: {class_path: SimulatedVideo, init_args: {scale: '${model.init_args.scale}', seeds: [1, 2.5e-3, true, null, 'x']}}
again: *args
"""


def _config(path: Path) -> None:
    plain_yaml.read(path)


def _weights() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3), "steps": torch.tensor(7)}


def _checkpoint(folder: Path) -> list[bytes]:
    file = io.BytesIO()
    torch.save({"state_dict": _weights(), "epoch": 1, "lit_thermal": {"model": {"class_path": "THERIS"}}}, file)
    old = io.BytesIO()
    torch.save({"state_dict": _weights()}, old, _use_new_zipfile_serialization=False)
    return [file.getvalue(), old.getvalue()]


READERS = [
    Reader("config", ".yaml", lambda folder: [CONFIG], _config),
    Reader("checkpoint", ".ckpt", _checkpoint, read_checkpoint),
    Reader("safetensors", ".safetensors", lambda folder: [save(_weights())], read_file),
]
