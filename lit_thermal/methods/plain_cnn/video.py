"""PlainCNN for clips: neighbouring frames are stacked as channels."""

from collections.abc import Callable

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_thermal.batch import Batch, need
from lit_thermal.blocks.temporal_interpolation import blend
from lit_thermal.errors import InputError
from lit_thermal.losses.pixel import MeanAbsoluteError, PixelLoss
from lit_thermal.methods.base import SchedulerCallable, SuperResolver
from lit_thermal.methods.plain_cnn.network import PlainNetwork
from lit_thermal.ops.resize import resize


class PlainVideoCNN(SuperResolver):
    """Plain regression of thermal video: residual convolutions over the four input frames around each output time.

    This is the baseline of video methods: what a published method gains is its difference to PlainVideoCNN, trained on
    the same data for the same seconds. The four frames, repeated at the ends of a clip, and the time since the last of
    the frames before it are the channels of the input; the result corrects the bicubic enlargement of a linear blend.

    Args:
        scale: factor by which width and height grow.
        temporal_scales: output steps per input frame that the model is trained for.
        window: number of input frames that inference processes at a time.
        width: number of feature channels.
        blocks: number of residual blocks.
        pixel_loss: pixel-wise distance to the target.
        optimizer: makes the optimizer.
        lr_scheduler: makes the learning-rate schedule, stepped once per optimizer step.
    """

    restores_clips = True

    def __init__(
        self,
        scale: int = 4,
        temporal_scales: tuple[int, ...] = (2,),
        window: int = 4,
        width: int = 32,
        blocks: int = 8,
        pixel_loss: Callable[[], PixelLoss] = MeanAbsoluteError,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: SchedulerCallable | None = None,
    ) -> None:
        super().__init__(scale, optimizer, lr_scheduler)
        if min(width, blocks) < 1:
            raise InputError(f"model.width is {width} and model.blocks is {blocks}; both must be at least 1")
        self.temporal_scales, self.window = tuple(temporal_scales), window
        self.network = PlainNetwork(5, width, blocks, scale)
        self.pixel_loss = pixel_loss()

    def restore(self, batch: Batch) -> Tensor:
        """Restore the frames at `hr_time` from the frames in `lr`: (B, T', 1, H, W) in [0, 1]."""
        return self._unclipped(batch).clamp(0, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the pixel loss of one batch."""
        need(batch, "hr", by="PlainVideoCNN")
        pixel = self.pixel_loss(self._unclipped(batch), batch["hr"])
        self.log("train/pixel", pixel, prog_bar=True)
        return pixel

    def _unclipped(self, batch: Batch) -> Tensor:
        need(batch, "lr", "hr_time", by="PlainVideoCNN")
        lr, tau = batch["lr"], batch["hr_time"][0]
        on_cpu = tau.device.type == "cpu"  # reading times on another device would wait for it
        if on_cpu and not torch.allclose(batch["hr_time"], tau.expand_as(batch["hr_time"]), atol=1e-6):
            raise InputError("the clips of one batch differ in hr_time; PlainVideoCNN restores all at the same times")
        last = lr.shape[1] - 1
        before = (tau + 1e-4).floor().long()
        places = (before[:, None] + torch.arange(-1, 3, device=tau.device)).clamp(0, last)  # (T', 4)
        stacked = lr.squeeze(2)[:, places.to(lr.device, non_blocking=True)]
        phase = (
            (tau - before)
            .clamp(0, 1)
            .to(lr, non_blocking=True)[None, :, None, None, None]
            .expand(lr.shape[0], -1, 1, *lr.shape[-2:])
        )
        blended = blend(lr, tau)
        size = (lr.shape[-2] * self.scale, lr.shape[-1] * self.scale)
        base = resize(blended, size, a=-0.5)
        correction = self.network(torch.cat([stacked, phase], dim=2).flatten(0, 1))
        return base + correction.unflatten(0, base.shape[:2])
