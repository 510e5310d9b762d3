"""Other trained methods in the tables of a test, measured on the same frames."""

from collections.abc import Mapping
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_info

from lit_thermal.errors import InputError
from lit_thermal.methods.base import SuperResolver
from lit_thermal.weights import load_model


class ComparedMethods(Callback):
    """Measures other trained methods in the same test as baselines: the same frames, metrics and tables.

    What a method gains is its difference to a plain network that was trained on the same data for the same seconds, so
    the small experiments name that one here. A method that has not been trained yet is left out, with a line that says
    how to train it.

    Args:
        checkpoints: checkpoint of each method by its name in the tables: a file, or an experiment, which stands for
            the best checkpoint of its newest run.
    """

    def __init__(self, checkpoints: Mapping[str, str]) -> None:
        self.checkpoints = dict(checkpoints)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Load the methods and give them to the one under test.

        Raises:
            InputError: a file is missing or damaged, or its method has another scale.
        """
        assert isinstance(pl_module, SuperResolver)
        runs = Path(trainer.default_root_dir).absolute().parents[1]
        for name, given in self.checkpoints.items():
            file = self._file(given, runs)
            if file is None:
                rank_zero_info(
                    f"{name} is not in the tables: train it by `lit_thermal fit -c {given}`, or give its checkpoint by "
                    f"--trainer.callbacks.checkpoints.{name}"
                )
                continue
            model = load_model(file)
            if model.scale != pl_module.scale:
                raise InputError(f"{file} enlarges by {model.scale} and the method under test by {pl_module.scale}")
            pl_module.compared[name] = model.to(pl_module.device).eval()

    def _file(self, given: str, runs: Path) -> Path | None:
        """Return the file of a checkpoint; None if an experiment has no run with one."""
        if Path(given).suffix:
            return Path(given)
        found = sorted((runs / given).glob("*/checkpoints/best.ckpt"), key=lambda path: path.parents[1].name)
        return found[-1] if found else None
