"""Checkpoints of a run, written as a whole and checked when they are read."""

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO

from lit_thermal.weights.checkpoint import read_checkpoint
from lit_thermal.weights_file import save_file


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint completely or not at all, so that a killed run or a full disk leaves the previous one.

    Lightning moves the file from the system's temporary folder, which copies it if that folder is on another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save a checkpoint to a local file."""
        save_file(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """Load a checkpoint onto the CPU; its checksums are verified, and only tensors and plain values are read."""
        return read_checkpoint(path)
