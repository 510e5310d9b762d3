"""Finding the weights that a user names, before torch is imported."""

import os
from pathlib import Path

from lit_thermal.errors import InputError, reading
from lit_thermal.files import is_plain

_STARTS = (b"PK\x03\x04", b"\x80")
"""First bytes of a torch archive and of a pickle, the format of torch before 1.6."""
_LONGEST_HEADER = 100_000_000


def find_model(name: str | Path) -> Path:
    """Return the file of a model after a quick check that it may be a checkpoint.

    Args:
        name: path of a checkpoint.

    Raises:
        InputError: the file does not exist, or its first bytes are not those of a checkpoint.
    """
    path = Path(name)
    if os.path.isdir(path):
        raise InputError(f"--model {path} is a folder, not a checkpoint file; give a file such as {path / 'best.ckpt'}")
    if not is_plain(path):
        beside = sorted(file.name for file in path.parent.glob("*.ckpt")) if os.path.isdir(path.parent) else []
        others = f"; {path.parent} has {', '.join(beside[:5])}" if beside else ""
        raise InputError(f"--model {path}: there is no such checkpoint{others}")
    with reading(path, "a checkpoint"), path.open("rb") as file:
        start = file.read(9)
    tensors = path.suffix == ".safetensors" and len(start) == 9 and start[8:] == b"{"
    if tensors and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER:
        return path
    if path.suffix == ".safetensors" or not start.startswith(_STARTS):
        raise InputError(f"--model {path} is not a checkpoint: give a file that `fit` wrote, such as best.ckpt")
    return path
