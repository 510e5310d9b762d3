"""Base of all super-resolution methods: restoring, measuring, the optimizer and the records of a checkpoint."""

import math
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
from lit_thermal.batch import Batch
from lit_thermal.errors import InputError
from lit_thermal.evaluation.cost import cost_of
from lit_thermal.evaluation.evaluator import Evaluator
from lit_thermal.evaluation.log_names import logged_test, logged_validation
from lit_thermal.evaluation.protocols import EvaluationProtocol
from lit_thermal.evaluation.stopwatch import RestorationTime, TrainingTime
from lit_thermal.evaluation.target_sizes import check_target_sizes
from lit_thermal.metrics.catalogue import QUALITY, by_name
from lit_thermal.ops.outliers import completed
from lit_thermal.weights_file import named_as

SchedulerCallable = Callable[[Optimizer], LRScheduler]


class SuperResolver(LightningModule):
    """Base of all methods: a method implements `restore` and `training_step`.

    Validation, test and prediction all go through `restore`, so that a measured number is what a user gets.
    Measurements use the values that would be written to disk: clamped and rounded to the depth of the file.

    Args:
        scale: factor by which the restored image is wider and higher than the input.
        optimizer: makes the optimizer from the parameter groups.
        lr_scheduler: makes the learning-rate schedule, stepped once per optimizer step; None is a constant rate.
    """

    restores_clips = False
    """Whether `restore` takes clips, (B, T, 1, h, w), and not images."""

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
        self.normalize: str | None = None
        """Mapping of 16-bit counts to [0, 1] that the model was trained with; None if it is unknown."""
        self.degradation: str | None = None
        """Class name of the degradation that made the inputs of the training; None if it is unknown."""
        self.protocols: Sequence[Callable[[], EvaluationProtocol]] = ()
        """Evaluation protocols of a test in addition to the standard one; a method may set them."""
        self.metrics: Sequence[str] = ()
        """Metrics that a test measures in addition to the standard ones; see `lit_thermal.metrics.catalogue`."""
        self.compared: dict[str, SuperResolver] = {}
        """Other methods that a test measures as baselines; a plain dict keeps their weights out of checkpoints."""
        self.evaluator = Evaluator(scale)
        self.training_time, self.restoration_time = TrainingTime(), RestorationTime()

    def setup(self, stage: str) -> None:
        """Check that data and model have one spatial scale, and that what will be measured is large enough.

        Raises:
            InputError: the scales differ, or a target is too small for SSIM.
        """
        given = getattr(self.trainer.datamodule, "scale", self.scale)  # type: ignore[attr-defined]
        if given != self.scale:
            raise InputError(f"model.scale is {self.scale} and data.scale is {given}; give both the same")
        check_target_sizes(self.trainer.datamodule, stage, bool(self.trainer.limit_val_batches))  # type: ignore[attr-defined]

    @property
    def takes_guide(self) -> bool:
        """Whether `restore` reads a visible image."""
        return False

    @property
    def draws(self) -> bool:
        """Whether `restore` draws random numbers, seeded by the name of each image."""
        return False

    def restore(self, batch: Batch) -> Tensor:
        """Restore the thermal images or clips of a batch; never reads `hr`.

        Returns:
            (B, 1, H, W) or (B, T', 1, H, W), values in [0, 1].
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it restores")

    def upscale(self, images: Any, *, guide: Any = None, **options: Any) -> Any:
        """Restore an image in memory, or a list of images, to the same kind and dtype.

        Args:
            images: numpy array, torch tensor or PIL image, or a list of them.
            guide: visible image, or a list with one entry per image.
            options: further options of `lit_thermal.inference.arrays.upscale_arrays`, such as `radiometry="kelvin"`.
        """
        # at the call, because inference stands above methods
        from lit_thermal.inference.arrays import upscale_arrays

        return upscale_arrays(self, images, guide=guide, **options)

    def variants(self, batch: Batch) -> dict[str, Tensor]:
        """Restore the batch in the method's other ways; a test measures each in addition to `restore`.

        Like `restore`, it never reads `hr`. The result named `x` is reported as `<method> x`; it is not a baseline.

        Returns:
            Results by name, in the shape of `restore`, values in [0, 1]; an empty mapping by default.
        """
        return {}

    def ceilings(self, batch: Batch) -> dict[str, Tensor]:
        """Return upper bounds of the method, computed from the target; a test measures each in addition to `restore`.

        They are not restorations. The result named `x` is reported as `<method> x`, like a variant.

        Returns:
            Results by name, in the shape of `restore`, values in [0, 1]; an empty mapping by default.
        """
        return {}

    def warm_up(self, share: float) -> float:
        """Return a factor that rises linearly from 0 to 1 over the given share of the training.

        If the number of training steps is unknown, there is no share of them, and the factor is 1.
        """
        steps = self.trainer.estimated_stepping_batches
        length = share * steps if math.isfinite(steps) else 1.0
        return min(1.0, (self.global_step + 1) / max(length, 1.0))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups of the optimizer; `lr_scale` in a group multiplies its learning rate."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> Any:
        """Build the optimizer and, if one is given, the schedule (stepped once per optimizer step).

        Raises:
            InputError: the schedule cannot be built, for example because its warm-up is shorter than two steps.
        """
        optimizer = self.optimizer(self.parameter_groups())
        for group in optimizer.param_groups:
            group["lr"] *= group.get("lr_scale", 1.0)
        if self.lr_scheduler is None:
            return optimizer
        try:
            scheduler = self.lr_scheduler(optimizer)
        except (ValueError, ZeroDivisionError) as error:
            raise InputError(
                f"model.lr_scheduler cannot be built ({error}): change its arguments, or set a larger "
                "trainer.max_steps, from which most schedules take their length"
            ) from error
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """Note when training begins or resumes."""
        self.training_time.begin()

    def on_validation_epoch_start(self) -> None:
        """Clear the scores of the last validation."""
        self.evaluator = Evaluator(self.scale, metrics=QUALITY, baselines=False)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure the restored batch."""
        restored = completed(self.restore(batch), batch)
        with torch.autocast(self.device.type, enabled=False):  # in half precision SSIM has only one correct digit
            self.evaluator.update(batch, {type(self).__name__: restored}, "val")

    def on_validation_epoch_end(self) -> None:
        """Log `val/psnr` and `val/ssim`, and for video the same over the interpolated frames."""
        self.evaluator.gather()
        for key, value in logged_validation(self.evaluator, type(self).__name__).items():
            self.log(key, value, prog_bar=key in ("val/psnr", "val/ssim"), sync_dist=False)

    def on_test_start(self) -> None:
        """Tune the blurred baselines on the validation set, if there is one."""
        self.evaluator = Evaluator(self.scale, metrics=by_name(self.metrics), protocols=self.protocols)
        self.restoration_time = RestorationTime()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if data is not None and is_overridden("val_dataloader", data):
            data.setup("validate")
            self.evaluator.tune(self.transfer_batch_to_device(b, self.device, 0) for b in data.val_dataloader())

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Measure the restored batch, its variants, its ceilings and the simple baselines on the same frames.

        Returns:
            Results of the method, then of its variants, ceilings and baselines, by name, in the shape of `restore`,
            not rounded. A baseline of a sample without a thermal input is NaN.
        """
        with self.restoration_time.measure(self.device):
            restored = self.restore(batch)
        self.restoration_time.frames += restored.shape[:-3].numel()
        name = type(self).__name__
        ours = {name: restored} | {f"{name} {way}": result for way, result in self.variants(batch).items()}
        ours |= {f"{name} {bound}": result for bound, result in self.ceilings(batch).items()}
        names = getattr(self.trainer.datamodule, "test_names", None)  # type: ignore[attr-defined]
        ours = {way: completed(result, batch) for way, result in ours.items()}
        others = {way: completed(model.restore(batch), batch) for way, model in self.compared.items()}
        with torch.autocast(self.device.type, enabled=False):  # in half precision SSIM has only one correct digit
            return ours | self.evaluator.update(batch, ours, names[dataloader_idx] if names else "test", others)

    def on_test_epoch_end(self) -> None:
        """Log `test/<dataset>/<metric>`, write `metrics.json` and the table of clips, print the table."""
        self.evaluator.gather()
        for key, value in logged_test(self.evaluator, type(self).__name__).items():
            self.log(key, value, sync_dist=False)
        self._report()

    @rank_zero_only
    def _report(self) -> None:
        self.evaluator.scores.cost = cost_of(
            self,
            self.device,
            seconds=self.restoration_time.seconds,
            images=self.restoration_time.frames,
            training_seconds=self.training_time.seconds,
            training_steps=self.training_time.steps,
        )
        self.evaluator.write(
            Path(self.trainer.default_root_dir), seconds=self.restoration_time.seconds, config=self.config
        )
        self.evaluator.print()

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the restored batch; input values outside of the mapped range are restored at their places."""
        return completed(self.restore(batch), batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record which model the weights belong to, the duration of their training and the mapping of its data.

        So a checkpoint can be restored without its experiment, and a test of it can report the training cost.
        """
        if self._trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            self.training_time.update(self.global_step)
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            self.normalize = getattr(data, "normalize", None)
            degradation = getattr(data, "degradation", None)
            self.degradation = None if degradation is None else type(degradation).__name__
        checkpoint["lit_thermal"] = {
            "model": self.config,
            "version": lit_thermal.__version__,
            "training_seconds": self.training_time.seconds,
            "training_steps": self.training_time.steps,
            "normalize": self.normalize,
            "degradation": self.degradation,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remove prefixes of wrappers from the names of weights, and take over the training cost."""
        own = self.state_dict()
        for key in ("state_dict", "current_model_state"):  # the second with a moving average
            if key in checkpoint:
                checkpoint[key] = named_as(own, checkpoint[key])
        record = checkpoint.get("lit_thermal") or {}
        self.training_time.seconds = record.get("training_seconds")
        self.training_time.steps = record.get("training_steps")
        self.normalize = record.get("normalize")
        self.degradation = record.get("degradation")
