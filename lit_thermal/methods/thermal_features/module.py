"""Training of the thermal feature network as a LightningModule."""

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_only
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from lit_thermal.batch import Batch, need
from lit_thermal.errors import InputError
from lit_thermal.files import replacing
from lit_thermal.methods.base import SchedulerCallable, SuperResolver
from lit_thermal.methods.thermal_features.network import ThermalFeatureTrainer
from lit_thermal.ops.resize import resize

IGNORED = 255
"""Index of pixels of the masks that have no class."""
FILE = "thermal_features.safetensors"
"""Name of the file in the run folder with the weights of the trained feature network."""


class ThermalFeatures(SuperResolver):
    """Train the thermal feature network to tell what the pixels of simulated targets show.

    The loss is the sum of the cross entropies of the parts of the scene (surfaces and objects) and of the temperature,
    and of the error of the boxes' sides. The temperature of a pixel is one of `levels` classes with equally many pixels
    of the image, from the true temperatures of the surfaces, so that it has to be told from noise, optics and
    emissivity. Brightness and contrast of the images are drawn at random, because recordings differ in them.

    This is not a super-resolution method: it restores the bicubic enlargement. A validation and a test measure how well
    the parts are told: `miou`, the mean intersection over union of the classes, and the accuracies of parts and
    temperatures. The end of a training writes the weights to `thermal_features.safetensors` in the run folder, in half
    precision and without the parts that only the training needs.

    Args:
        scale: factor by which the target is wider and higher than the input, which is not used.
        classes: number of classes of the masks; 11 in `SimulatedTruth`.
        levels: number of classes of temperature.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning-rate schedule, stepped once per optimizer step.

    Raises:
        InputError: a number of classes is below 2.
    """

    def __init__(
        self,
        scale: int = 4,
        classes: int = 11,
        levels: int = 8,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: SchedulerCallable | None = None,
    ) -> None:
        super().__init__(scale, optimizer, lr_scheduler)
        if min(classes, levels) < 2:
            raise InputError(f"model.classes is {classes} and model.levels is {levels}; both must be at least 2")
        self.levels = levels
        self.network = ThermalFeatureTrainer(classes, levels)
        self.miou = MulticlassJaccardIndex(classes, average="macro", ignore_index=IGNORED)
        self.accuracy = MulticlassAccuracy(classes, average="micro", ignore_index=IGNORED)
        self.temperature_accuracy = MulticlassAccuracy(levels, average="micro")

    def restore(self, batch: Batch) -> Tensor:
        """Return the bicubically enlarged inputs (B, 1, H, W) in [0, 1]."""
        need(batch, "lr", by="ThermalFeatures")
        height, width = batch["lr"].shape[-2:]
        return resize(batch["lr"], (height * self.scale, width * self.scale), a=-0.5).clamp(0, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss of one batch of targets."""
        mask, levels = self._truth(batch)
        found = self.network(_contrast(batch["hr"]))
        sides, known = box_sides(batch["boxes"], batch["labels"], mask)
        terms = {
            "parts": F.cross_entropy(found.classes, mask, ignore_index=IGNORED),
            "temperatures": F.cross_entropy(found.temperatures, levels),
            "boxes": ((found.sides - sides).abs() * known).sum() / (4 * known.sum()).clamp(min=1),
        }
        for name, value in terms.items():
            self.log(f"train/{name}", value)
        loss = torch.stack(list(terms.values())).sum()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Do nothing: no images are compared."""

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure the predictions for the targets."""
        self._measure(batch)

    def on_validation_epoch_end(self) -> None:
        """Log `val/miou`, `val/accuracy` and `val/temperature_accuracy`."""
        self._log("val")

    def on_test_start(self) -> None:
        """Do nothing: no images are compared."""

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Measure the predictions for the targets; there are no restored images to return."""
        self._measure(batch)
        return {}

    def on_test_epoch_end(self) -> None:
        """Log and print the same as a validation."""
        for name, value in self._log("test").items():
            print(f"{name}: {value:.3f}")

    @rank_zero_only
    def on_train_end(self) -> None:
        """Write the weights of the feature network."""
        state = self.network.features.to("cpu").fused().half().state_dict()
        with replacing(Path(self.trainer.default_root_dir) / FILE) as aside:
            save_file({name: value.contiguous() for name, value in state.items()}, aside)

    def _truth(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the classes of parts and temperatures of each pixel, (B, H, W) int64 each."""
        need(batch, "hr", "masks", "boxes", "labels", "kelvin", by="ThermalFeatures")
        return torch.stack(batch["masks"]), temperature_levels(batch["kelvin"], self.levels)

    def _measure(self, batch: Batch) -> None:
        mask, levels = self._truth(batch)
        found = self.network(batch["hr"].clamp(0, 1))
        self.miou.update(found.classes, mask)
        self.accuracy.update(found.classes, mask)
        self.temperature_accuracy.update(found.temperatures, levels)

    def _log(self, stage: str) -> dict[str, float]:
        found = {}
        for name in ("miou", "accuracy", "temperature_accuracy"):
            metric = getattr(self, name)
            found[name] = float(metric.compute())
            metric.reset()
            self.log(f"{stage}/{name}", found[name], prog_bar=name == "miou", sync_dist=False)
        return found


def temperature_levels(kelvin: Tensor, levels: int) -> Tensor:
    """Return the class of temperature of each pixel: (B, H, W) int64, `levels` classes with equally many pixels.

    Args:
        kelvin: temperatures (B, 1, H, W).
        levels: number of classes.
    """
    flat = kelvin.flatten(1)
    ranks = flat.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    return (ranks * levels // flat.shape[1]).view(kelvin[:, 0].shape)


def box_sides(boxes: Sequence[Tensor], labels: Sequence[Tensor], mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances of each object's pixels to the sides of its box, and which pixels have them.

    Args:
        boxes: boxes (N, 4) of each image, left, top, right and bottom, from the farthest object to the nearest.
        labels: classes (N,) of the objects.
        mask: class of each pixel (B, H, W).

    Returns:
        Distances (B, 4, H, W) to left, top, right and bottom as log(1 + pixels), and a mask (B, 1, H, W) of 0 and 1.
    """
    batch, height, width = mask.shape
    sides = mask.new_zeros(batch, 4, height, width, dtype=torch.float32)
    known = torch.zeros_like(sides[:, :1])
    x, y = (torch.arange(n, device=mask.device) + 0.5 for n in (width, height))
    x, y = x.expand(height, width), y[:, None].expand(height, width)
    for place, (of, kinds) in enumerate(zip(boxes, labels, strict=True)):
        for (left, top, right, bottom), label in zip(of, kinds, strict=True):
            gaps = torch.stack([x - left, y - top, right - x, bottom - y])
            inside = (gaps.amin(0) > 0) & (mask[place] == label)
            sides[place] = torch.where(inside, gaps.clamp(min=0).log1p(), sides[place])
            known[place, 0] = torch.where(inside, 1.0, known[place, 0])
    return sides, known


def _contrast(image: Tensor) -> Tensor:
    """Return images (B, 1, H, W) with contrast and brightness drawn at random, in [0, 1]."""
    low = image.new_empty(len(image), 1, 1, 1).uniform_(0.0, 0.4)
    high = image.new_empty(len(image), 1, 1, 1).uniform_(0.6, 1.0)
    return low + (high - low) * image.clamp(0, 1)
