"""Training of detectors and segmenters by Lightning: steps as the budget, and checkpoints to resume from."""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.warnings import PossibleUserWarning
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, Sampler

from lit_thermal.errors import InputError, reading
from lit_thermal.files import check_folder
from lit_thermal.shapes import COUNT, check
from lit_thermal.weights.checkpoint import read_values
from lit_thermal.weights.checkpoint_io import WholeCheckpointIO
from lit_thermal.weights_file import save_file

_TRAINED = {"record": {"steps": COUNT, "classes?": [str], "detector?": str, "segmenter?": str}, "step": COUNT}
"""Structure of the record that is read from a checkpoint before its weights."""
_UNFINISHED = {
    "pytorch-lightning_version": str,
    "epoch": COUNT,
    "global_step": COUNT,
    "loops": {"fit_loop": dict},
    "optimizer_states": [dict],
    "lr_schedulers": [dict],
}
"""Shape of the training state in the checkpoint of an unfinished training."""
CLIP_NORM = 10.0
"""Largest norm of the gradient; larger gradients are scaled down to it."""


class Samples(Dataset[Any]):
    """Samples by the names of their images.

    Args:
        names: names of the images.
        read: function of a name that returns the sample.
    """

    def __init__(self, names: Sequence[str], read: Callable[[str], Any]) -> None:
        self.names, self.read = names, read

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Any:
        return self.read(self.names[index])


class DownstreamTraining(LightningModule):
    """Training of one network on samples of (image, truth).

    Each step seeds torch's generators with its number, so that a resumed training ends with the same weights as an
    uninterrupted one.

    Args:
        network: network to train; its weights change in place.
        loss: function of a batch (a list of samples on the CPU) that returns the loss.
        optimizer: optimizer of the network.
        rate: function of the step that returns the factor of the learning rate.
        record: plain values that describe the training, including `steps` and `seed`; saved in each checkpoint.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Callable[[list[Any]], Tensor],
        optimizer: Optimizer,
        rate: Callable[[int], float],
        record: dict[str, Any],
    ) -> None:
        super().__init__()
        self.network, self.loss, self.optimizer, self.record = network, loss, optimizer, record
        self.schedule = LambdaLR(optimizer, rate)

    def training_step(self, batch: list[Any], batch_idx: int) -> Tensor:
        """Return the loss.

        Raises:
            InputError: the loss is NaN or infinite.
        """
        with seeded(_mixed(self.record["seed"], self.global_step)):
            loss = self.loss(batch)
        if not torch.isfinite(loss):
            raise InputError(f"the loss is {loss.item()} at step {self.global_step}: lower the learning rate")
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and its schedule that advances with every step."""
        return {"optimizer": self.optimizer, "lr_scheduler": {"scheduler": self.schedule, "interval": "step"}}

    def transfer_batch_to_device(self, batch: list[Any], device: torch.device, dataloader_idx: int) -> list[Any]:
        """Leave the batch on the CPU, where image processors need it; the loss moves inputs to the device."""
        return batch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the weights by the network's own names, with the record."""
        checkpoint |= {"state_dict": self.network.state_dict(), "record": self.record, "step": self.global_step}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Give the weights the names that this module has for them."""
        checkpoint["state_dict"] = {f"network.{name}": value for name, value in checkpoint["state_dict"].items()}


def train(
    module: DownstreamTraining,
    samples: Any,
    *,
    batch: int,
    file: Path,
    device: torch.device | str = "cpu",
    every: int = 200,
) -> None:
    """Train a network, or resume a training that was interrupted; the network is in eval mode afterwards.

    Args:
        module: training to run; its record has `steps` and `seed`.
        samples: map-style data set, or list, of samples.
        batch: samples per step.
        file: checkpoint, written every `every` steps and at the end; a finished one is loaded and nothing is trained.
        device: device that the network is on.
        every: steps between two checkpoints.

    Raises:
        InputError: the file is a checkpoint of another training, or the loss is NaN or infinite.
    """
    steps, network = module.record["steps"], module.network
    done = _load(file, module)
    if done < steps:
        check_folder(file.parent, "the folder of the weights")
        network.train()
        device = torch.device(device)
        keep = ModelCheckpoint(file.parent, file.stem, every_n_train_steps=every, enable_version_counter=False)
        keep.FILE_EXTENSION = file.suffix
        with _quiet():
            trainer = Trainer(
                accelerator=device.type,
                devices=1 if device.index is None or device.type == "cpu" else [device.index],
                max_steps=steps,
                max_epochs=1,
                gradient_clip_val=CLIP_NORM,
                callbacks=keep,
                # a single process, even inside a job of a cluster's scheduler
                plugins=[WholeCheckpointIO(), LightningEnvironment()],
                default_root_dir=file.parent,
                logger=False,
                enable_model_summary=False,
            )
            try:
                batches = _Batches(samples, batch, steps, module.record["seed"])
                trainer.fit(module, batches, ckpt_path=file if done else None)
            except SystemExit as error:
                # Lightning turns Ctrl-C into an exit
                if not trainer.interrupted:
                    raise
                raise KeyboardInterrupt from error
        network.to(device)  # Lightning leaves it on the CPU
        loss = trainer.callback_metrics["loss"].item()
        state = {"record": module.record, "state_dict": network.state_dict(), "step": steps, "loss": loss}
        save_file(state, file)
    network.eval()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random numbers from a seed in the body; the generators continue afterwards as if nothing was drawn."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def warm_up_then(fall: str, warm_up: int, steps: int) -> Callable[[int], float]:
    """Factor of the learning rate: a linear rise over `warm_up` steps, then a "cosine" or "linear" fall to 0.01."""

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        share = min(1.0, (step - warm_up) / max(1, steps - warm_up))
        left = (1 + math.cos(math.pi * share)) / 2 if fall == "cosine" else 1 - share
        return 0.01 + 0.99 * left

    return factor


def draw(count: int, batch: int, step: int, seed: int) -> list[int]:
    """Indices of the samples of a step: each index once per pass over all `count`, reshuffled for every pass."""
    places = (divmod(position, count) for position in range(step * batch, (step + 1) * batch))
    return [_order(count, number, seed)[place] for number, place in places]


def read_trained(file: Path) -> dict[str, Any]:
    """Read the checkpoint of a finished training: `record`, `state_dict` and `step`.

    Raises:
        InputError: the file cannot be read, is not a checkpoint of this kind, or its training is unfinished.
    """
    if not file.is_file():
        raise InputError(f"there is no file {file}")
    saved = read_values(file)
    if not isinstance(saved, dict) or not {"record", "state_dict", "step"} <= saved.keys():
        raise InputError(f"{file} is not a checkpoint of a trained detector or segmenter")
    check(saved, _TRAINED, f"{file} is not a checkpoint of a trained detector or segmenter", "train again")
    if saved["step"] < saved["record"]["steps"]:
        raise InputError(
            f"the training of {file} stopped at step {saved['step']} of {saved['record']['steps']}: run it again to "
            "resume it"
        )
    return saved


class _Draws(Sampler[list[int]]):
    """Sampler of the indices of each step's batch; it starts at `step`."""

    def __init__(self, count: int, batch: int, steps: int, seed: int) -> None:
        self.count, self.batch, self.steps, self.seed = count, batch, steps, seed
        self.step = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        while self.step < self.steps:
            self.step += 1
            yield draw(self.count, self.batch, self.step - 1, self.seed)


class _Batches(DataLoader[Any]):
    """Batches of all steps; Lightning saves and restores the number of those drawn with its checkpoints."""

    def __init__(self, samples: Any, batch: int, steps: int, seed: int) -> None:
        self.draws = _Draws(len(samples), batch, steps, seed)
        super().__init__(samples, batch_sampler=self.draws, collate_fn=list)

    def state_dict(self) -> dict[str, int]:
        return {"step": self.draws.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.draws.step = state["step"]


def _mixed(seed: int, number: int) -> int:
    """One seed for a training's seed and a step or pass; a multiple of 2**32 would be lost in torch's generator."""
    return 1_000_003 * seed + number


@lru_cache(maxsize=4)
def _order(count: int, number: int, seed: int) -> Sequence[int]:
    generator = torch.Generator().manual_seed(_mixed(seed, number))
    return tuple(torch.randperm(count, generator=generator).tolist())


def _load(file: Path, module: DownstreamTraining) -> int:
    """Load the weights of a checkpoint if it exists, check that its training can be resumed, and return its step."""
    if not file.is_file():
        return 0
    saved, record = read_values(file), module.record
    known = saved.get("record") if isinstance(saved, dict) else None
    if known != record:
        differing = [key for key in record if not isinstance(known, dict) or known.get(key) != record[key]]
        raise InputError(
            f"{file} belongs to another training ({', '.join(differing) or 'record'} differs): name another file or "
            "remove it"
        )
    where, advice = f"{file} is not a checkpoint of this training", "remove it and train again"
    check(saved, _TRAINED if saved.get("step") == record["steps"] else _TRAINED | _UNFINISHED, where, advice)
    with reading(file, "a checkpoint of this training", advice):
        module.network.load_state_dict(saved["state_dict"])
    return int(saved["step"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide Lightning's messages and its warnings about loaders without workers and folders with files."""
    logs = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            warnings.filterwarnings("ignore", message=r"Checkpoint directory .* exists and is not empty")
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
