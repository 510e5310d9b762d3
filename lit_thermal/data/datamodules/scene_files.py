"""Simulated scenes as files: images, boxes and masks in the layout of data sets on disk."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lit_thermal.data.datamodules.image_samples import WholeImages
from lit_thermal.data.datamodules.simulated_pairs import RenderedPair, SimulatedPairs
from lit_thermal.data.datamodules.simulated_video import Split
from lit_thermal.data.formats.frames import write_frame
from lit_thermal.data.formats.objects import Objects, write_voc
from lit_thermal.data.simulator import render
from lit_thermal.errors import InputError
from lit_thermal.files import replacing

SIMULATED_CLASSES = ("person", "car", "truck", "animal", "hot object")
"""Words for the objects of all scenarios."""
SIMULATED_MASK_CLASSES = ("background", *SIMULATED_CLASSES)
"""Classes of the masks by their levels."""


def simulated_truth(pair: RenderedPair) -> tuple[Objects, Tensor]:
    """Return the objects of a simulated pair, and its mask of `SIMULATED_MASK_CLASSES`, (H, W) int64.

    Objects that are entirely hidden are left out. A pixel belongs to an object that covers more than half of
    it.
    """
    truth = render(pair.scene(), frames=1, truth=True).truth
    assert truth is not None, "it was asked for"
    boxes = torch.from_numpy(truth.boxes[0])
    visible = (boxes[:, 2] > boxes[:, 0]).tolist()
    size = (truth.masks.shape[-2], truth.masks.shape[-1])
    mask = torch.zeros(size, dtype=torch.int64)
    for label, cover in zip(truth.labels, truth.masks[0], strict=True):
        mask[torch.from_numpy(cover)] = SIMULATED_MASK_CLASSES.index(label)
    labels = tuple(label for label, kept in zip(truth.labels, visible, strict=True) if kept)
    return Objects(boxes[torch.tensor(visible, dtype=torch.bool)], labels, size), mask


def write_scenes(data: SimulatedPairs, split: Split, folder: Path) -> Iterator[str]:
    """Write the scenes of a split to `hr/`, `lr/`, `guide/` (if scenes have guides), `boxes/` (VOC) and `masks/`.

    Names, targets and inputs are the same as in a test of the same data, so that images written by `predict` can be
    evaluated with these files. Existing files are kept.

    Args:
        data: DataModule that defines the scenes, their number and the degradation.
        split: split of the data.
        folder: output folder; created if it does not exist.

    Yields:
        The name of each scene once it is written.

    Raises:
        InputError: the folder cannot be written.
    """
    images = WholeImages(
        data.sources(split),
        scale=data.scale,
        guided=data.guided,
        degradation=data.degradation,
        seed=data.seed,
    )
    try:
        for kind in ("hr", "lr", "boxes", "masks", *(["guide"] if data.guided else [])):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for index, source in enumerate(images.sources):
            assert isinstance(source, RenderedPair)
            # The target is written last, and says that the scene is whole.
            if not (folder / "hr" / f"{source.name}.png").is_file():
                _write(images, index, source, folder)
            yield source.name
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror or error}): choose another") from error


def _write(images: WholeImages, index: int, source: RenderedPair, folder: Path) -> None:
    sample = images[index]
    objects, mask = simulated_truth(source)
    write_voc(folder / "boxes" / f"{source.name}.xml", objects, f"{source.name}.png")
    _save(mask.numpy().astype(np.uint8), folder / "masks" / f"{source.name}.png")
    if "guide" in sample:
        colours = (sample["guide"] * 255).round().byte().permute(1, 2, 0).numpy()
        _save(np.ascontiguousarray(colours), folder / "guide" / f"{source.name}.png")
    write_frame(folder / "lr" / f"{source.name}.png", sample["lr"], sample["radiometry"])
    write_frame(folder / "hr" / f"{source.name}.png", sample["hr"], sample["radiometry"])


def _save(pixels: np.ndarray, file: Path) -> None:
    with replacing(file) as aside:
        Image.fromarray(pixels).save(aside, format="PNG")
