"""The config of a run, kept in its folder and sent to its loggers."""

from pathlib import Path

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_thermal.errors import InputError
from lit_thermal.files import write_text


class KeepConfig(Callback):
    """Writes the config of the run into its folder and sends it to the loggers.

    In a distributed run, all processes use the folder that the first process made.

    Args:
        folder: the run folder; only the process of rank 0 needs to know it.
        text: the config as YAML.
        file_name: name of the file in the folder.
    """

    def __init__(self, folder: Path, text: str, file_name: str) -> None:
        self.folder = folder
        self.text = text
        self.file_name = file_name

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Agree on the folder; the first process writes the config."""
        self.folder = Path(trainer.strategy.broadcast(str(self.folder)))
        # Ranks that a scheduler started do not know the folder before they are connected. The property has no setter,
        # and every callback and logger reads it.
        trainer._default_root_dir = str(self.folder)  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            write_text(self.folder / self.file_name, self.text)
            for logger in trainer.loggers:
                logger.log_hyperparams(yaml.safe_load(self.text))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if the folder was removed, before pictures or a checkpoint would create it again without its config."""
        if trainer.is_global_zero and not (self.folder / self.file_name).is_file():
            raise InputError(f"the run folder {self.folder} was removed while the run wrote to it: start the run again")

    on_validation_end = on_train_epoch_end = on_test_end = on_validation_start
