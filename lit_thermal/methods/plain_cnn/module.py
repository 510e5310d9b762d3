"""PlainCNN as a LightningModule, for images with or without a guide."""

from collections.abc import Callable

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F

from lit_thermal.batch import Batch, need
from lit_thermal.errors import InputError
from lit_thermal.losses.pixel import MeanAbsoluteError, PixelLoss
from lit_thermal.methods.base import SchedulerCallable, SuperResolver
from lit_thermal.methods.plain_cnn.network import PlainNetwork
from lit_thermal.ops.resize import resize


class PlainCNN(SuperResolver):
    """Plain regression of thermal images: residual convolutions that correct the bicubic enlargement.

    This is the baseline of image methods: what a published method gains is its difference to PlainCNN, trained on the
    same data for the same seconds. A guide is concatenated: it is rearranged to the resolution of the thermal input
    (pixel unshuffle), reduced by a 1x1 convolution, and two more channels say which of both images a sample has.

    Args:
        scale: factor by which width and height grow.
        guided: whether the network reads the visible image.
        width: number of feature channels.
        blocks: number of residual blocks.
        pixel_loss: pixel-wise distance to the target.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning-rate schedule, stepped once per optimizer step.
    """

    def __init__(
        self,
        scale: int = 4,
        guided: bool = False,
        width: int = 32,
        blocks: int = 8,
        pixel_loss: Callable[[], PixelLoss] = MeanAbsoluteError,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: SchedulerCallable | None = None,
    ) -> None:
        super().__init__(scale, optimizer, lr_scheduler)
        if min(width, blocks) < 1:
            raise InputError(f"model.width is {width} and model.blocks is {blocks}; both must be at least 1")
        self.guided = guided
        self.reduce = nn.Conv2d(3 * scale**2, width, 1) if guided else None
        self.network = PlainNetwork(1 + (width + 2 if guided else 0), width, blocks, scale)
        self.pixel_loss = pixel_loss()

    @property
    def takes_guide(self) -> bool:
        """Whether `restore` reads a visible image: only with `guided`."""
        return self.guided

    def restore(self, batch: Batch) -> Tensor:
        """Restore images from `lr` and, where the network is guided, `guide`: (B, 1, H, W) in [0, 1]."""
        return self._unclipped(batch).clamp(0, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the pixel loss of one batch."""
        need(batch, "hr", by="PlainCNN")
        pixel = self.pixel_loss(self._unclipped(batch), batch["hr"])
        self.log("train/pixel", pixel, prog_bar=True)
        return pixel

    def _unclipped(self, batch: Batch) -> Tensor:
        need(batch, "lr", by="PlainCNN")
        lr = batch["lr"]
        if lr.ndim != 4:
            raise InputError(
                f"PlainCNN takes images, (B, 1, h, w), not clips, {tuple(lr.shape)}: take PlainVideoCNN for video"
            )
        has_lr = batch.get("has_lr", torch.ones(lr.shape[0], dtype=torch.bool, device=lr.device)).view(-1, 1, 1, 1)
        lr = torch.where(has_lr, lr, 0.0)
        size = (lr.shape[-2] * self.scale, lr.shape[-1] * self.scale)
        base = resize(lr, size, a=-0.5)
        if self.reduce is None:
            return base + self.network(lr)
        return base + self.network(torch.cat([lr, *self._guide(batch, size, has_lr)], dim=1))

    def _guide(self, batch: Batch, size: tuple[int, int], has_lr: Tensor) -> list[Tensor]:
        """Return features of the guide at the size of the input, and two maps that say which images there are."""
        assert self.reduce is not None
        lr, guide = batch["lr"], batch.get("guide")
        missing = torch.zeros_like(has_lr)
        has_guide = missing if guide is None else batch.get("has_guide", ~missing.flatten()).view(-1, 1, 1, 1)
        if guide is None:
            guide = lr.new_zeros(lr.shape[0], 3, *size)
        if guide.ndim != 4:
            raise InputError(f"PlainCNN takes one guide per sample, (B, 3, H, W), not {tuple(guide.shape)}")
        if guide.shape[-2:] != size:
            guide = F.interpolate(guide, size, mode="bilinear", antialias=True)
        guide = torch.where(has_guide, guide, 0.0)
        present = [has.to(lr).expand(-1, 1, *lr.shape[-2:]) for has in (has_lr, has_guide)]
        return [self.reduce(F.pixel_unshuffle(guide, self.scale)), *present]
