"""What a run keeps: its config, checkpoints that are whole, and the random state for an exact resume."""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn


class KeepConfig(Callback):
    """Writes the config of the run into its folder and sends it to the loggers.

    Also makes every process of a distributed run use the folder that the first one made.

    Args:
        folder: the run folder; only the process of rank 0 needs to know it.
        text: the config as YAML.
        file_name: what to call it.
    """

    def __init__(self, folder: Path, text: str, file_name: str) -> None:
        self.folder = folder
        self.text = text
        self.file_name = file_name

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the folder; the first process writes."""
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))
        # Ranks that a scheduler started could not know the folder before they were connected. The property has no
        # setter, and everybody who writes asks it.
        trainer._default_root_dir = str(self.folder)  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            target = self.folder / self.file_name
            aside = target.with_name(f".{target.name}.part")
            aside.write_text(self.text, encoding="utf-8")
            os.replace(aside, target)
            for logger in trainer.loggers:
                logger.log_hyperparams(yaml.safe_load(self.text))


class KeepRandomState(Callback):
    """Stores the random state of every process in checkpoints, and restores it when training resumes.

    Without it a resumed run shuffles and augments its data in another order than a run that was not interrupted.
    """

    key = "lit_thermal_random"

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the states of all processes, as tensors and plain values."""
        states: list[Any] = [_random_state()]
        if trainer.world_size > 1:
            states *= trainer.world_size
            torch.distributed.all_gather_object(states, states[trainer.global_rank])
        checkpoint[self.key] = states

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the state of this process; with another number of processes there is none to restore."""
        states = checkpoint.get(self.key, [])
        if trainer.state.fn == TrainerFn.FITTING and len(states) == trainer.world_size:
            _restore_random_state(states[trainer.global_rank])


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then renames it, so that a killed run leaves the last one whole.

    Lightning's own writing moves the file from the system's temporary folder, which is a copy between two discs.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save a checkpoint to a local file."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.part")
        torch.save(checkpoint, aside)
        os.replace(aside, target)


def _random_state() -> dict[str, Any]:
    numpy_state = np.random.get_state(legacy=False)
    numpy_state["state"]["key"] = torch.from_numpy(numpy_state["state"]["key"].astype(np.int64))
    return {
        "python": random.getstate(),
        "numpy": numpy_state,
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random_state(state: dict[str, Any]) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    inner = state["numpy"]["state"]
    np.random.set_state(state["numpy"] | {"state": inner | {"key": inner["key"].numpy().astype(np.uint32)}})
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
