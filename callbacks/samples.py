"""Contact sheets of a few restored clips, in the run's folder and in the loggers."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from lit_thermal.batch import Batch
from lit_thermal.errors import InputError
from lit_thermal.evaluation.baselines import REFERENCE, reference_baseline

from .contact_sheet import Sample, draw
from .file_name import file_name
from .run_files import write_picture


class SamplePictures(Callback):
    """Draws the first clips of each validation and test set: guide, input, baseline, output, target, errors, profiles.

    Writes `samples/val/<clip>_step<step>.png` after a validation and `samples/<data set>/<clip>.png` after a test into
    the run's folder, and sends the same pictures to all loggers that accept images. These clips are restored once more,
    so that the callback works with any method that has `restore`.

    Args:
        clips: number of clips or images to draw from each set.
        every_n_epochs: interval in epochs between validations whose clips are drawn; a test always draws.

    Raises:
        InputError: a number is below 1.
    """

    def __init__(self, clips: int = 3, every_n_epochs: int = 1) -> None:
        if clips < 1 or every_n_epochs < 1:
            raise InputError(
                f"SamplePictures needs clips and every_n_epochs of at least 1, not {clips} and {every_n_epochs}; "
                "leave the callback out to draw nothing"
            )
        self.clips = clips
        self.every_n_epochs = every_n_epochs
        self._samples: dict[str, dict[str, Sample]] = {}

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the clips of an interrupted validation."""
        self._samples.clear()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Restore the clips to draw with the weights that are validated."""
        fitting = trainer.state.fn == TrainerFn.FITTING
        if trainer.sanity_checking or (fitting and (trainer.current_epoch + 1) % self.every_n_epochs):
            return
        self._collect("val", pl_module, batch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the clips."""
        self._draw(trainer, pl_module, f"_step{trainer.global_step:06d}")

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the clips of an interrupted test."""
        self._samples.clear()

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Restore the clips to draw."""
        names = getattr(trainer.datamodule, "test_names", None)  # type: ignore[attr-defined]
        self._collect(names[dataloader_idx] if names else "test", pl_module, batch)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the clips."""
        self._draw(trainer, pl_module, "")

    def _collect(self, dataset: str, pl_module: pl.LightningModule, batch: Batch) -> None:
        """Restore the first sample of each new clip; all ranks do it, because sharded models need all of them."""
        samples = self._samples.setdefault(dataset, {})
        wanted: dict[str, int] = {}
        for index, name in enumerate(batch["name"]):
            if name not in samples and name not in wanted and len(samples) + len(wanted) < self.clips:
                wanted[name] = index
        if not wanted:
            return
        part = _select(batch, list(wanted.values()))
        with torch.no_grad():
            restored = pl_module.restore(part)  # type: ignore[operator]
            baseline = reference_baseline(part, pl_module.scale)  # type: ignore[arg-type]
        for index, name in enumerate(part["name"]):
            samples[name] = _sample(part, index, baseline, restored)

    def _draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule, suffix: str) -> None:
        for dataset, samples in self._samples.items() if trainer.is_global_zero else ():
            for name, sample in samples.items():
                baseline = REFERENCE if len(sample.time) == 1 else f"{REFERENCE} + blend"
                # The trainer counts steps only during training.
                trained = f", after step {trainer.global_step}" if trainer.state.fn == "fit" else ""
                title = f"{dataset}: {name}{trained}"
                picture = draw(sample, title, baseline, type(pl_module).__name__)
                folder = Path(trainer.default_root_dir, "samples", file_name(dataset))
                write_picture(folder / f"{file_name(name)}{suffix}.png", picture)
                _log(trainer, f"samples/{dataset}/{name}", picture)
        self._samples.clear()


def _select(batch: Batch, indices: list[int]) -> Batch:
    """Return a batch with the selected samples."""
    return {  # type: ignore[return-value]
        key: value[indices] if isinstance(value, Tensor) else [value[i] for i in indices]  # type: ignore[index]
        for key, value in batch.items()
    }


def _sample(batch: Batch, index: int, baseline: Tensor, restored: Tensor) -> Sample:
    """Return a sample of a batch on the CPU; an image becomes a clip of one frame."""

    def frames(x: Tensor) -> Tensor:
        return x[index].detach().float().cpu().reshape(-1, *x.shape[-2:])

    lr, target = frames(batch["lr"]), frames(batch["hr"])
    lr_time = batch["lr_time"][index].cpu() if "lr_time" in batch else torch.arange(len(lr)).float()
    time = batch["hr_time"][index].cpu() if "hr_time" in batch else torch.zeros(len(target))
    present = bool(batch["has_lr"][index]) if "has_lr" in batch else True
    steps = batch["radiometry"][index].gain if "radiometry" in batch else 255.0
    guide = batch.get("guide")
    has_guide = bool(batch["has_guide"][index]) if "has_guide" in batch else True
    return Sample(
        batch["name"][index],
        lr=lr if present else None,
        lr_time=lr_time,
        baseline=frames(baseline) if present else None,
        restored=frames(restored).clamp(0, 1),
        target=target,
        time=time,
        steps=steps,
        # With several views (5 dimensions), none of them belongs to the target.
        guide=guide[index].detach().float().cpu() if guide is not None and guide.ndim == 4 and has_guide else None,
    )


def _log(trainer: pl.Trainer, tag: str, picture: np.ndarray) -> None:
    """Send a picture to the loggers that accept one: TensorBoard, and those with `log_image`, such as W&B."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, picture, trainer.global_step, dataformats="HWC")
        elif hasattr(logger, "log_image"):
            logger.log_image(key=tag, images=[picture], step=trainer.global_step)
