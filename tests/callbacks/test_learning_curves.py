"""Curves of training: what the numbers are means of, and that a resumed run continues them."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lit_thermal.callbacks import LearningCurves


class Counter(LightningModule):
    """Logs the number of its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.log("train/psnr", 20.0 + self.global_step)
        self.log("train/ssim", self.global_step / 100)
        self.log("train/pixel_loss", 1 / (1 + self.global_step))
        return self.weight * 0

    def validation_step(self, batch: Tensor, batch_idx: int) -> None: ...

    def on_validation_epoch_end(self) -> None:
        self.log("val/psnr", 10.0 + self.global_step)
        self.log("val/ssim", 0.5)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder: Path, epochs: int, resume: Path | None = None, **options: Any) -> list[dict[str, str]]:
    """Four steps an epoch; returns the lines of the table."""
    trainer = Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        logger=False,
        callbacks=[LearningCurves(), ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    loader = DataLoader(torch.zeros(8), batch_size=2)
    trainer.fit(Counter(), loader, loader, ckpt_path=resume)
    return list(csv.DictReader((folder / "curves.csv").open()))


def test_values_of_training_are_means_since_the_last_validation(tmp_path):
    rows = fit(tmp_path, 3)
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    assert [float(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [float(row["train/psnr"]) for row in rows] == pytest.approx([21.5, 25.5, 29.5])
    assert float(rows[1]["train/pixel_loss"]) == pytest.approx(np.mean([1 / 5, 1 / 6, 1 / 7, 1 / 8]))
    assert [float(row["val/psnr"]) for row in rows] == [14, 18, 22]
    picture = np.asarray(Image.open(tmp_path / "curves.png"))
    assert picture.shape[0] > 500 and picture.std() > 10
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_validation_within_an_epoch(tmp_path):
    rows = fit(tmp_path, 2, val_check_interval=0.5)
    assert [float(row["epoch"]) for row in rows] == [0.5, 1, 1.5, 2]
    assert [float(row["train/psnr"]) for row in rows] == pytest.approx([20.5, 22.5, 24.5, 26.5])


@pytest.mark.parametrize("options", [{}, {"check_val_every_n_epoch": 2}])
def test_a_resumed_run_continues_its_curves(tmp_path, options):
    whole = fit(tmp_path / "whole", 4, **options)
    fit(tmp_path / "parts", 3, **options)
    checkpoint = tmp_path / "parts" / "epoch=0.ckpt"
    if options:  # between two validations the checkpoint holds the sums since the last one
        trainer = Trainer(
            default_root_dir=tmp_path / "other",
            max_epochs=1,
            logger=False,
            callbacks=[curves := LearningCurves()],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
            **options,
        )
        trainer.fit(Counter(), DataLoader(torch.zeros(8), batch_size=2), DataLoader(torch.zeros(8), batch_size=2))
        assert curves.state_dict()["sums"]["train/psnr"] == (86.0, 4)
        trainer.save_checkpoint(checkpoint)
    assert fit(tmp_path / "parts", 4, checkpoint, **options) == whole


def test_a_method_without_metrics_of_training_is_drawn_all_the_same(tmp_path):
    class Silent(Counter):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            return self.weight * 0

        def on_validation_epoch_end(self) -> None: ...

    trainer = Trainer(
        default_root_dir=tmp_path,
        max_epochs=1,
        logger=False,
        callbacks=[LearningCurves()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    loader = DataLoader(torch.zeros(8), batch_size=2)
    trainer.fit(Silent(), loader, loader)
    assert (tmp_path / "curves.csv").read_text() == "step,epoch\n4,1.0\n"
