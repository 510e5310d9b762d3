"""What all super-resolution methods share: restoring, measuring, the optimizer and what a checkpoint records."""

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import lit_thermal
from lit_thermal.batch import Batch, Radiometry, is_observed, need
from lit_thermal.errors import InputError
from lit_thermal.metrics.baselines import TunedBaselines
from lit_thermal.metrics.catalogue import QUALITY, by_name
from lit_thermal.metrics.cost import cost_of
from lit_thermal.metrics.protocols import EvaluationProtocol, RestoredImage
from lit_thermal.metrics.quality import SSIM_WINDOW, as_written
from lit_thermal.metrics.scores import Scores

SchedulerCallable = Callable[[Optimizer], LRScheduler]


class SuperResolver(LightningModule):
    """Base of all methods: a method adds `restore` and `training_step`.

    Validation, test and prediction all go through `restore`, so that a measured number is what a user gets.
    Measurements are taken on what would be written to disk: clamped and rounded to the depth of the file.

    Args:
        scale: how many times wider and higher the restored image is.
        optimizer: makes the optimizer from the parameter groups.
        lr_scheduler: makes the learning-rate schedule, stepped once per optimizer step; none is a constant rate.
    """

    def __init__(
        self,
        scale: int = 4,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: SchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.config: dict[str, Any] | None = None
        """Class path and arguments of this model as plain values; a checkpoint carries them."""
        self.protocols: Sequence[Callable[[], EvaluationProtocol]] = ()
        """How a test measures images besides the standard protocol; a method may set it."""
        self.metrics: Sequence[str] = ()
        """What a test measures besides the standard metrics; see `lit_thermal.metrics.catalogue`."""
        self.scores = Scores()
        self.baselines = TunedBaselines(scale)
        self.training_seconds: float | None = None
        """Wall time of the training that made the weights, validations included; None where it is not known."""
        self.training_steps: int | None = None
        """Its optimizer steps."""
        self._began = (0.0, 0.0)
        self._seconds, self._frames_done = 0.0, 0
        self._black = False

    def setup(self, stage: str) -> None:
        """Check that data and model have one spatial scale.

        Raises:
            InputError: they differ.
        """
        given = getattr(self.trainer.datamodule, "scale", self.scale)  # type: ignore[attr-defined]
        if given != self.scale:
            raise InputError(f"model.scale is {self.scale} and data.scale is {given}; give both the same")

    def restore(self, batch: Batch) -> Tensor:
        """Restore the thermal images or clips of a batch; never reads `hr`.

        Returns:
            (B, 1, H, W) or (B, T', 1, H, W), values in [0, 1].
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it restores")

    def variants(self, batch: Batch) -> dict[str, Tensor]:
        """Restore the batch in other ways that the method has; a test measures each beside `restore`.

        Never reads `hr`, as `restore` does not. The result of name `x` is reported as `<method> x`; it is no baseline.

        Returns:
            Name to the shape of `restore`, values in [0, 1]; nothing by default.
        """
        return {}

    def ceilings(self, batch: Batch) -> dict[str, Tensor]:
        """What bounds the method: results made of the target itself, which a test measures beside `restore`.

        They are no restorations. The result of name `x` is reported as `<method> x`, as a variant is.

        Returns:
            Name to the shape of `restore`, values in [0, 1]; nothing by default.
        """
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups for the optimizer; `lr_scale` in a group multiplies its learning rate."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> Any:
        """Build the optimizer and, where one is given, the schedule (stepped per optimizer step)."""
        optimizer = self.optimizer(self.parameter_groups())
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)
        if self.lr_scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.lr_scheduler(optimizer), "interval": "step"},
        }

    def on_train_start(self) -> None:
        """Note when training begins, or goes on."""
        self._began = (time.perf_counter(), self.training_seconds or 0.0)

    def on_validation_epoch_start(self) -> None:
        """Forget the scores of the last validation."""
        self.scores = Scores(metrics=QUALITY)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score the restored batch."""
        restored = self.restore(batch)
        with self._full_precision():
            self._score(batch, "val", {type(self).__name__: restored}, {})

    def on_validation_epoch_end(self) -> None:
        """Log `val/psnr` and `val/ssim`, and for video the same over the interpolated frames."""
        self.scores.gather()
        for group, metrics in self.scores.summary().get("val", {}).get(type(self).__name__, {}).items():
            for name in ("psnr", "ssim"):
                key = f"val/{name}" if group == "all" else f"val/{name}_{group}"
                self.log(key, metrics[name], prog_bar=group == "all", sync_dist=False)

    def on_test_start(self) -> None:
        """Tune the blurred baselines on the validation set, where there is one."""
        self.scores = Scores(others=self.protocols, metrics=by_name(self.metrics))
        self._seconds, self._frames_done, self._black = 0.0, 0, False
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is not None and is_overridden("val_dataloader", data):
            data.setup("validate")
            self.baselines.tune(self.transfer_batch_to_device(b, self.device, 0) for b in data.val_dataloader())

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Score the restored batch, its variants, its ceilings and the simple baselines on the same frames.

        Returns:
            Name of the method, ours first, then its variants and ceilings, to what it restored: the shape of
            `restore`, not rounded. A baseline of a sample without a thermal input is NaN.
        """
        started = time.perf_counter()
        restored = self.restore(batch)
        if restored.is_cuda:
            torch.cuda.synchronize(restored.device)
        self._seconds += time.perf_counter() - started
        self._frames_done += restored.shape[:-3].numel()
        name = type(self).__name__
        ours = {name: restored} | {f"{name} {way}": result for way, result in self.variants(batch).items()}
        ours |= {f"{name} {bound}": result for bound, result in self.ceilings(batch).items()}
        dataset = self._dataset(dataloader_idx)
        with self._full_precision():
            baselines = self.baselines(batch)
            self._score(batch, dataset, ours, baselines)
            self._warn_of_black(batch, dataset)
            if batch["hr"].ndim == 4:
                self._score_by_protocols(batch, dataset, ours, baselines)
        return ours | baselines

    def on_test_epoch_end(self) -> None:
        """Log `test/<dataset>/<metric>`, write `metrics.json` and the table of clips, print the table."""
        self.scores.gather()
        for dataset, methods in self.scores.summary().items():
            for group, metrics in methods[type(self).__name__].items():
                for name, value in metrics.items():
                    key = name if group == "all" else f"{name}_{group.replace(' ', '_')}"
                    self.log(f"test/{dataset}/{key}", value, sync_dist=False)
        for dataset, methods in self.scores.others.summary().items():
            for protocol, metrics in methods[type(self).__name__].items():
                for name, value in metrics.items():
                    self.log(f"test/{dataset}/{name}_{protocol}", value, sync_dist=False)
        self._report()

    @rank_zero_only
    def _report(self) -> None:
        self.scores.cost = cost_of(
            self,
            self.device,
            seconds=self._seconds,
            images=self._frames_done,
            training_seconds=self.training_seconds,
            training_steps=self.training_steps,
        )
        self.scores.write(Path(self.trainer.default_root_dir), seconds=self._seconds, config=self.config)
        self.scores.print()

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the restored batch."""
        return self.restore(batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what model the weights belong to and what their training took.

        A checkpoint can thus be restored without its experiment, and a test of it knows its cost.
        """
        if self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            began, before = self._began
            self.training_seconds = before + time.perf_counter() - began
            self.training_steps = self.global_step
        checkpoint["lit_thermal"] = {
            "model": self.config,
            "version": lit_thermal.__version__,
            "training_seconds": self.training_seconds,
            "training_steps": self.training_steps,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over what the training of the weights took."""
        record = checkpoint.get("lit_thermal") or {}
        self.training_seconds, self.training_steps = record.get("training_seconds"), record.get("training_steps")

    def _full_precision(self) -> torch.autocast:
        """For measuring, which a Trainer of mixed precision would do in half precision, SSIM to one digit."""
        return torch.autocast(self.device.type, enabled=False)

    def _dataset(self, index: int) -> str:
        names = getattr(self.trainer.datamodule, "test_names", None)  # type: ignore[attr-defined]
        return names[index] if names else "test"

    def _score(self, batch: Batch, dataset: str, ours: dict[str, Tensor], baselines: dict[str, Tensor]) -> None:
        need(batch, "hr", "name", by=f"measuring {type(self).__name__}")
        hr = batch["hr"]
        if min(hr.shape[-2:]) < SSIM_WINDOW:
            raise InputError(
                f"the target of {batch['name'][0]} is {hr.shape[-1]} x {hr.shape[-2]}, and SSIM needs {SSIM_WINDOW} x "
                f"{SSIM_WINDOW} or more: leave it out or give a larger one"
            )
        video = hr.ndim == 5
        target = hr if video else hr.unsqueeze(1)
        count = target.shape[:2]
        frames = batch.get("frame", torch.arange(count[1], device=hr.device).expand(count))
        observed = is_observed(batch["hr_time"]) if video else torch.ones(count, dtype=torch.bool, device=hr.device)
        radiometry = batch.get("radiometry", [Radiometry()] * count[0])
        groups, moved = batch.get("groups"), batch.get("displacement")
        places = None if moved is None else [(int(down), int(right)) for down, right in moved.tolist()]
        # The scores count time in steps of a doubled frame rate.
        dt = 2 * float(batch["hr_time"][0].diff().min()) if video and count[1] > 1 else 1.0
        for method, result in (ours | baselines).items():
            if result.shape != hr.shape:
                raise InputError(
                    f"{method} restores {batch['name'][0]} to {_size(result)} and its target is {_size(hr)}; give a "
                    f"target of {self.scale} times the input's size"
                )
            restored = result if video else result.unsqueeze(1)
            kept = list(range(count[0])) if method in ours else _with_input(batch)
            self.scores.add(
                dataset,
                [batch["name"][i] for i in kept],
                frames[kept],
                observed[kept],
                method,
                restored[kept],
                target[kept],
                [radiometry[i] for i in kept],
                dt,
                variant=method in ours and method != type(self).__name__,
                groups=None if groups is None else [groups[i] for i in kept],
                displacements=None if places is None else [places[i] for i in kept],
            )

    def _score_by_protocols(
        self, batch: Batch, dataset: str, ours: dict[str, Tensor], baselines: dict[str, Tensor]
    ) -> None:
        images = []
        seen = _with_input(batch)
        radiometry = batch.get("radiometry", [Radiometry()] * len(batch["hr"]))
        for index, name in enumerate(batch["name"] if self.protocols else ()):
            restored = {method: result[index].float().cpu() for method, result in ours.items()}
            if index in seen:
                # The papers' baselines are images of their own, which OpenCV enlarged in whole counts.
                own = [radiometry[index]]
                restored |= {m: as_written(result[index][None].cpu(), own)[0] for m, result in baselines.items()}
            images.append(RestoredImage(name, batch["hr"][index].cpu(), restored))
        self.scores.others.add(dataset, images, self.device)

    def _warn_of_black(self, batch: Batch, dataset: str) -> None:
        """Say once in a test that a target is black: whatever restores it as black has a perfect score there."""
        black = batch["hr"].flatten(1).amax(dim=1) <= 0
        if self._black or not black.any():
            return
        self._black = True
        name = batch["name"][int(black.int().argmax())]
        warnings.warn(f"the target {name} of {dataset} is all black; its scores say little", stacklevel=2)


def _with_input(batch: Batch) -> list[int]:
    """The samples that a baseline is measured on: those with a thermal input."""
    return [i for i in range(len(batch["hr"])) if "has_lr" not in batch or batch["has_lr"][i]]


def _size(x: Tensor) -> str:
    """Size of images or frames as text."""
    frames = f"{x.shape[1]} frames of " if x.ndim == 5 else ""
    return f"{frames}{x.shape[-1]} x {x.shape[-2]}"
