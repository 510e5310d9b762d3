"""The files of Lightning's checkpoints: written whole, and checked before they are used."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO

from lit_thermal.weights.checkpoint import read_checkpoint
from lit_thermal.weights_file import save_file


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints whole, so that a killed run or a full disk leaves the last one, and checks what it reads.

    Lightning's own writing moves the file from the system's temporary folder, which is a copy between two discs.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save a checkpoint to a local file."""
        save_file(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """Load a checkpoint onto the CPU; its checksums are compared, and only tensors and plain values unpickled."""
        return read_checkpoint(path)
