"""The callbacks and loggers that a run has besides those of its config."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import BasePredictionWriter, Checkpoint, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from lit_thermal.callbacks import GalleryFrames, NonFiniteGuard, PredictionWriter
from lit_thermal.callbacks.best_and_last import BestAndLast
from lit_thermal.callbacks.step_seeds import StepSeeds
from lit_thermal.callbacks.tell_progress import TellProgress
from lit_thermal.sweeping.runner import PROGRESS_FILE


def callbacks_of_run(verb: str, config: Namespace, folder: Path, own: Iterable[Callback]) -> list[Callback]:
    """Return the callbacks of a run: those of the config, and the defaults that it does not replace.

    Args:
        verb: verb of the Trainer.
        config: instantiated config of the verb.
        folder: the run folder.
        own: callbacks that each run has; they come first.
    """
    given = config.trainer.callbacks
    callbacks: list[Callback] = [*own, *([given] if isinstance(given, Callback) else given or [])]
    if PROGRESS_FILE in os.environ:
        callbacks.append(TellProgress(Path(os.environ[PROGRESS_FILE])))
    checkpoints = (folder / "checkpoints").resolve()
    for callback in callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            callback.dirpath = str(checkpoints)
    if verb == "fit":
        if not _has(callbacks, NonFiniteGuard):
            callbacks.insert(0, NonFiniteGuard())
        if config.trainer.enable_checkpointing is not False and not _has(callbacks, Checkpoint):
            callbacks.append(BestAndLast(checkpoints))
        if config.seed_everything is not False:
            callbacks.append(StepSeeds(config.seed_everything))
    tests = verb == "test" or (verb == "fit" and config.then_test)
    if tests and not _has(callbacks, GalleryFrames):
        callbacks.append(GalleryFrames())
    if verb == "predict" and not _has(callbacks, BasePredictionWriter):
        callbacks.append(PredictionWriter())
    if verb == "predict" and config.out is not None:
        for callback in callbacks:
            if isinstance(callback, PredictionWriter):
                callback.folder = config.out
    return callbacks


def loggers_of_run(given: Any, folder: Path) -> Any:
    """Return the loggers of the config, or CSV and TensorBoard files in the run folder if it names none."""
    if given is not None and given is not True:
        return given
    loggers: list[Logger] = [
        CSVLogger(folder, name="csv"),
        TensorBoardLogger(folder, name="tensorboard", default_hp_metric=False),
    ]
    return loggers


def _has(callbacks: list[Callback], kind: type) -> bool:
    return any(isinstance(callback, kind) for callback in callbacks)
