"""A method and data that train in a blink: what the command line does with them, it does with all."""

from abc import ABC
from collections.abc import Callable
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lit_thermal.batch import Batch, collate
from lit_thermal.errors import InputError
from lit_thermal.methods.base import SchedulerCallable, SuperResolver


class Mixer(nn.Module, ABC):
    """Mixes channels, (B, C, H, W) to the same shape."""


class PlainMixer(Mixer):
    """One convolution."""

    def __init__(self, dim: int, kernel: int = 1) -> None:
        super().__init__()
        self.mix = nn.Conv2d(dim, dim, kernel, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x)


class GatedMixer(Mixer):
    """A convolution and a gate of some kind."""

    def __init__(self, dim: int, heads: int = 2, gate: Literal["sigmoid", "tanh"] = "sigmoid") -> None:
        super().__init__()
        self.mix = nn.Conv2d(dim, dim, 1)
        self.gates = nn.Conv2d(dim, heads, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x) * getattr(torch, self.gate)(self.gates(x).mean(1, keepdim=True))


class NeedyMixer(Mixer):
    """Has an argument without a default."""

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(dim, rank, 1)


class StandIn(SuperResolver):
    """Enlarges by pixel shuffle.

    Args:
        width: channels.
        depth: mixers, one after the other.
        mixer: what they are.
        scale: enlargement.
        noise: strength of the noise that training adds to its input.
        optimizer: makes the optimizer.
        lr_scheduler: makes the schedule.
    """

    def __init__(
        self,
        width: int = 4,
        depth: int = 1,
        mixer: Callable[[int], Mixer] = PlainMixer,
        scale: int = 2,
        noise: float = 0.1,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: SchedulerCallable | None = None,
    ) -> None:
        super().__init__(scale, optimizer, lr_scheduler)
        self.noise = noise
        self.mixers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), *(mixer(width) for _ in range(depth)), nn.Conv2d(width, scale**2, 1)
        )
        self.register_buffer("steps", torch.zeros(()))

    def restore(self, batch: Batch) -> Tensor:
        return nn.functional.pixel_shuffle(self.mixers(batch["lr"]), self.scale).clamp(0, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.steps += 1
        noisy = batch["lr"] + self.noise * torch.randn_like(batch["lr"])
        loss = (nn.functional.pixel_shuffle(self.mixers(noisy), self.scale) - batch["hr"]).square().mean()
        self.log("train/l2", loss)
        return loss


class OtherStandIn(SuperResolver):
    """Another method."""

    def __init__(self, scale: int = 2) -> None:
        super().__init__(scale)
        self.other = nn.Conv2d(1, scale**2, 1)

    def restore(self, batch: Batch) -> Tensor:
        return nn.functional.pixel_shuffle(self.other(batch["lr"]), self.scale)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return (self.restore(batch) - batch["hr"]).square().mean()


class Blobs(Dataset[dict[str, Any]]):
    """Smooth random pictures, the same for the same index."""

    def __init__(self, count: int, scale: int, broken: bool) -> None:
        self.count, self.scale, self.broken = count, scale, broken

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.broken and index == 1:
            raise InputError("picture 1 is truncated; copy it anew")
        coarse = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(index))
        hr = nn.functional.interpolate(coarse, 8 * self.scale, mode="bicubic").clamp(0, 1)[0]
        return {"lr": nn.functional.avg_pool2d(hr, self.scale), "hr": hr, "name": f"blob{index}"}


class StandInData(LightningDataModule):
    """Pictures for `StandIn`.

    Args:
        scale: how much smaller the input is.
        workers: data loading processes.
        broken: one picture cannot be read.
    """

    def __init__(self, scale: int = 2, workers: int = 0, broken: bool = False) -> None:
        super().__init__()
        self.scale, self.workers, self.broken = scale, workers, broken

    def _loader(self, count: int, shuffle: bool = False) -> DataLoader[Any]:
        return DataLoader(
            Blobs(count, self.scale, self.broken),
            batch_size=2,
            shuffle=shuffle,
            num_workers=self.workers,
            collate_fn=collate,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(8, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(2)

    test_dataloader = predict_dataloader = val_dataloader
