"""Simulated thermal images with their truth: parts of the scene, boxes and temperatures."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lit_thermal.batch import Batch
from lit_thermal.data.datamodules.image_samples import WholeImages
from lit_thermal.data.datamodules.scene_files import SIMULATED_CLASSES
from lit_thermal.data.datamodules.simulated_images import SimulatedImages
from lit_thermal.data.datamodules.simulated_pairs import RenderedPair
from lit_thermal.data.simulator import PARTS, render, render_parts

SCENE_CLASSES = (*PARTS, *SIMULATED_CLASSES)
"""Classes of the masks: kinds of background surface, then kinds of object."""


class SimulatedTruth(SimulatedImages):
    """Images of `SimulatedImages` with what the simulator knows about them, to train other networks than restorers.

    Samples also have `masks` (the class of each pixel, an index into `SCENE_CLASSES`; 255 for other bodies), `boxes`
    and `labels` (of the visible objects, from the farthest to the nearest; labels are classes of the masks), and
    `kelvin` (the true temperatures of the surfaces). Training uses whole images too, mirrored at random (`augment`).

    Args:
        scale: factor by which the target is wider and higher than the input.
        options: arguments of `SimulatedImages`, except `crop` and `samples_per_epoch`.
    """

    def __init__(self, scale: int = 4, **options: Any) -> None:
        super().__init__(scale=scale, crop=0, **options)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of whole training images in random order, mirrored at random."""
        return self._training_loader(_WithTruth(self._images("train"), self.augment, self.seed))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of the validation images."""
        return self._loader(_WithTruth(self._images("val")), self.eval_batch_size, again=True)

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Return a loader of the test images under each condition."""
        return self._test_loaders(_WithTruth(self._images("test")))


class _WithTruth(Dataset[dict[str, Any]]):
    """Whole images with their truth, which each process renders at the first use and keeps.

    Args:
        images: the images.
        mirror: mirror at random.
        seed: seed of the order and the mirroring; None keeps the order.
    """

    def __init__(self, images: WholeImages, mirror: bool = False, seed: int | None = None) -> None:
        self.images, self.mirror, self.seed = images, mirror, seed
        self._known: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = index
        if self.seed is not None:
            number, place = divmod(index, len(self))
            place = int(np.random.default_rng((self.seed, number, 1)).permutation(len(self))[place])
        if place not in self._known:
            source = self.images.sources[place]
            assert isinstance(source, RenderedPair)
            self._known[place] = _truth(source)
        item = self.images[place] | self._known[place]
        if self.mirror and np.random.default_rng((self.seed or 0, index)).random() < 0.5:
            item = _mirrored(item)
        return item


def _truth(source: RenderedPair) -> dict[str, Any]:
    """Return the keys of a sample that only the simulator knows."""
    scene = source.scene()
    truth = render(scene, frames=1, truth=True).truth
    assert truth is not None, "it was asked for"
    mask = torch.from_numpy(render_parts(scene).astype(np.int64))
    labels = torch.tensor([SCENE_CLASSES.index(label) for label in truth.labels], dtype=torch.int64)
    for label, cover in zip(labels, truth.masks[0], strict=True):
        mask[torch.from_numpy(cover)] = label
    boxes = torch.from_numpy(truth.boxes[0])
    visible = boxes[:, 2] > boxes[:, 0]
    kelvin = torch.from_numpy(truth.kelvin)  # its one frame becomes the channel
    return {"masks": mask, "boxes": boxes[visible], "labels": labels[visible], "kelvin": kelvin}


def _mirrored(item: dict[str, Any]) -> dict[str, Any]:
    """Return a sample mirrored from left to right."""
    flipped: dict[str, Tensor] = {key: item[key].flip(-1) for key in ("lr", "hr", "kelvin", "masks")}
    left, top, right, bottom = item["boxes"].unbind(1)
    width = item["hr"].shape[-1]
    return item | flipped | {"boxes": torch.stack([width - right, top, width - left, bottom], 1)}
