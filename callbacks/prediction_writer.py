"""Restored frames of `predict` as files of the depth that they came in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor

from lit_thermal.batch import Batch, Radiometry, need
from lit_thermal.data.frames import write_frame

from .file_name import file_name


class PredictionWriter(BasePredictionWriter):
    """Writes each restored frame as a PNG, its values mapped back to the counts of the source.

    Video goes to `predictions/<clip>/<frame>.png` in the run's folder, counted in target frames from 0, images go
    to `predictions/<name>.png`. A frame that several windows restore is written once: from the window that numbers it
    where the others say -1, else from the first of them.
    Frames are written as they come: nothing is kept.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="batch")

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Tensor,
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the frames of a batch.

        Args:
            trainer: gives the run's folder.
            pl_module: unused.
            prediction: (B, T', 1, H, W) or (B, 1, H, W), values in [0, 1].
            batch_indices: unused.
            batch: gives `name`, and where it has them `frame` and `radiometry`.
            batch_idx: unused.
            dataloader_idx: unused.
        """
        need(batch, "name", by="writing predictions")
        folder = Path(trainer.default_root_dir, "predictions")
        radiometry = batch.get("radiometry", [Radiometry()] * len(prediction))
        for index, name in enumerate(batch["name"]):
            stem = file_name(name)
            if prediction.ndim == 4:
                _write(folder / f"{stem}.png", prediction[index], radiometry[index])
                continue
            numbers: Any = batch.get("frame", torch.arange(prediction.shape[1]).expand(len(prediction), -1))
            for number, values in zip(numbers[index].tolist(), prediction[index], strict=True):
                if number >= 0:
                    _write(folder / stem / f"{number:06d}.png", values, radiometry[index])


def _write(path: Path, values: Tensor, radiometry: Radiometry) -> None:
    """Write a frame unless an earlier window did; a run's folder is its own, so that a file there is of this run."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_frame(path, values.float(), radiometry)
