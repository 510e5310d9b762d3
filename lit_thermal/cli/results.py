"""The places of a run's results, printed when it has ended."""

from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lit_thermal.callbacks import PredictionWriter
from lit_thermal.cli.run_folder import short_path

PICTURES = {"samples": "sample pictures", "gallery": "pictures for reports", "predictions": "restored frames"}
"""Folders in the run folder, with a description of their contents."""


@rank_zero_only
def print_results(trainer: Trainer, verb: str) -> None:
    """Print the run folder, the checkpoints of a training, and the folders with pictures."""
    print(f"run folder: {short_path(trainer.default_root_dir)}")
    for callback in trainer.checkpoint_callbacks if verb == "fit" else ():
        if isinstance(callback, ModelCheckpoint) and callback.best_model_path:
            score = callback.best_model_score
            measured = f"   ({callback.monitor} {score:.4g})" if score is not None else ""
            print(f"best checkpoint: {short_path(callback.best_model_path)}{measured}")
        if isinstance(callback, ModelCheckpoint) and callback.last_model_path:
            print(f"last checkpoint: {short_path(callback.last_model_path)}")
    for name, what in PICTURES.items():
        folder = Path(trainer.default_root_dir) / name
        if folder.is_dir():
            print(f"{what}: {short_path(folder)}")
    for callback in trainer.callbacks if verb == "predict" else ():  # type: ignore[attr-defined]
        if isinstance(callback, PredictionWriter) and callback.folder:
            print(f"restored frames: {short_path(callback.folder)}")
