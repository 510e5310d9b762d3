"""Segmentation: SegFormer trained on targets only, and intersection over union with bootstrap intervals."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_confusion_matrix

from lit_thermal.data.formats.class_masks import IGNORED
from lit_thermal.downstream.detectors import load_pretrained, same_word
from lit_thermal.downstream.pictures import Pictures
from lit_thermal.downstream.resampling import corrected_interval, resampled
from lit_thermal.downstream.training import (
    DownstreamTraining,
    Samples,
    read_trained,
    seeded,
    train,
    warm_up_then,
)
from lit_thermal.errors import InputError, reading
from lit_thermal.evaluation.statistics import Interval

SIZES = {
    "b0": {"hidden_sizes": (32, 64, 160, 256), "depths": (2, 2, 2, 2), "decoder_hidden_size": 256},
    "b1": {"hidden_sizes": (64, 128, 320, 512), "depths": (2, 2, 2, 2), "decoder_hidden_size": 256},
    "b2": {"hidden_sizes": (64, 128, 320, 512), "depths": (3, 4, 6, 3), "decoder_hidden_size": 768},
    "b3": {"hidden_sizes": (64, 128, 320, 512), "depths": (3, 4, 18, 3), "decoder_hidden_size": 768},
    "b4": {"hidden_sizes": (64, 128, 320, 512), "depths": (3, 8, 27, 3), "decoder_hidden_size": 768},
    "b5": {"hidden_sizes": (64, 128, 320, 512), "depths": (3, 6, 40, 3), "decoder_hidden_size": 768},
}
"""SegFormer's sizes. Source: Xie et al., "SegFormer", NeurIPS 2021, tables 6 and 7."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Recipe(NamedTuple):
    """Settings of SegFormer's training: those of DifIISR for FMB, with SegFormer's own fall of the learning rate.

    Source: Li et al., "DifIISR", CVPR 2025, section 5.5; Xie et al., "SegFormer", NeurIPS 2021 (warm-up, fall).
    """

    steps: int = 25_000
    batch: int = 8
    lr: float = 6e-5
    weight_decay: float = 0.01
    warm_up: int = 1500
    seed: int = 0


class Segmenter(nn.Module):
    """SegFormer for the given classes.

    Args:
        size: one of `SIZES`, or the folder or name on the hub that it came from.
        classes: names of the classes, counted from 0.
        network: network of transformers.
        columns: the network's own index of each class (default: counted from 0).
    """

    def __init__(
        self, size: str, classes: Sequence[str], network: nn.Module, columns: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.size, self.classes, self.network = size, tuple(classes), network
        self.columns = list(columns) if columns is not None else list(range(len(classes)))

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (B, classes, H, W) of images (B, 3, H, W) in [0, 1], enlarged from a quarter of their size."""
        device = next(self.network.parameters()).device
        mean, deviation = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, DEVIATION))
        scores = self.network((images.to(device) - mean) / deviation).logits[:, self.columns]
        return nn.functional.interpolate(scores, images.shape[-2:], mode="bilinear", align_corners=False)


def untrained_segmenter(size: str, classes: Sequence[str]) -> Segmenter:
    """Return a SegFormer to train: one of `SIZES` with random weights, or one from a folder or the hub with a new head.

    The paper's training starts from an encoder pretrained on ImageNet (`nvidia/mit-b1` on the hub).

    Raises:
        InputError: the SegFormer is unknown.
    """
    from transformers import AutoImageProcessor, SegformerConfig, SegformerForSemanticSegmentation

    if size in SIZES:
        options: dict[str, Any] = {"num_labels": len(classes), **SIZES[size]}
        config = SegformerConfig(**options)
        return Segmenter(size, classes, SegformerForSemanticSegmentation(config))
    network, _ = load_pretrained(
        size,
        SegformerForSemanticSegmentation,
        AutoImageProcessor,
        f"a SegFormer; sizes without weights are {', '.join(SIZES)}",
        num_labels=len(classes),
        ignore_mismatched_sizes=True,
    )
    return Segmenter(size, classes, network)


def trained_segmenter(source: str, weights: Path | None, classes: Sequence[str]) -> Segmenter:
    """Return a trained SegFormer, which must have been trained on all of the classes.

    Args:
        source: one of `SIZES`, or a folder or a name on the hub.
        weights: file that `train_segmenter` wrote; None for the weights in the folder.
        classes: classes of the masks.

    Raises:
        InputError: the weights are missing or belong to another network, or a class is not among the network's classes.
    """
    from transformers import AutoImageProcessor, SegformerForSemanticSegmentation

    if weights is not None:
        saved = read_trained(weights)
        record = saved["record"]
        if record.get("segmenter") != source:
            raise InputError(f"{weights} is a {record.get('segmenter') or 'detector'}, not the SegFormer {source}")
        with reading(weights, f"the weights of SegFormer {source}", "train again"):
            known = record["classes"]
            segmenter = _with_weights(source, known, saved["state_dict"])
    elif source in SIZES:
        raise InputError(f"SegFormer {source} needs weights: train it by --train, or give a file by --weights")
    else:
        network, _ = load_pretrained(source, SegformerForSemanticSegmentation, AutoImageProcessor, "a SegFormer")
        named: dict[int, str] = network.config.id2label  # type: ignore[union-attr, assignment]
        known = [named[index] for index in range(len(named))]
        segmenter = Segmenter(source, known, network)
    places = [same_word(word, known) for word in classes]
    lacking = [word for word, place in zip(classes, places, strict=True) if place is None]
    if lacking:
        raise InputError(f"{weights or source} does not know {', '.join(lacking)}; it knows {', '.join(known)}")
    segmenter.classes, segmenter.columns = tuple(classes), [place for place in places if place is not None]
    return segmenter.eval()


def train_segmenter(
    size: str,
    classes: Sequence[str],
    pictures: Pictures,
    masks: Callable[[str], Tensor],
    file: Path,
    recipe: Recipe | None = None,
    device: torch.device | str = "cpu",
) -> Segmenter:
    """Train SegFormer by cross entropy on targets and their mirror images, or resume an interrupted training.

    Args:
        size: size or source of the SegFormer (see `untrained_segmenter`).
        classes: classes of the masks.
        pictures: targets to train on, all of one size.
        masks: function of an image's name that returns its mask (H, W); pixels of `IGNORED` are left out.
        file: checkpoint to write.
        recipe: settings of the training.
        device: device to train on.

    Raises:
        InputError: images differ in size, or `file` belongs to another training.
    """
    recipe = recipe or Recipe()
    with seeded(recipe.seed):
        segmenter = untrained_segmenter(size, classes).to(device)
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)

    def sample(name: str) -> tuple[Tensor, Tensor]:
        return pictures[name], masks(name)

    def loss(batch: list[tuple[Tensor, Tensor]]) -> Tensor:
        if len(sizes := {tuple(image.shape[-2:]) for image, _ in batch}) > 1:
            raise InputError(f"images to train SegFormer on must have one size, not {sizes}: crop them")
        flips = (torch.rand(len(batch)) < 0.5).tolist()
        batch = [(x.flip(-1), y.flip(-1)) if flip else (x, y) for (x, y), flip in zip(batch, flips, strict=True)]
        image, truth = (torch.stack(part) for part in zip(*batch, strict=True))
        scores = segmenter(image)
        truth = truth.to(scores.device)
        total = nn.functional.cross_entropy(scores, truth, ignore_index=IGNORED, reduction="sum")
        # A batch without a labelled pixel has the loss 0, not 0 / 0.
        return total / (truth != IGNORED).sum().clamp(min=1)

    record = {"segmenter": size, "classes": list(classes), "images": len(pictures), **recipe._asdict()}
    rate = warm_up_then("linear", min(recipe.warm_up, max(1, recipe.steps // 10)), recipe.steps)
    module = DownstreamTraining(segmenter, loss, optimizer, rate, record)
    train(module, Samples(pictures.names, sample), batch=recipe.batch, file=file, device=device)
    return segmenter


@torch.no_grad()
def segment(segmenter: Segmenter, image: Tensor) -> Tensor:
    """Return the class of each pixel of an image (3, H, W): (H, W) int64 on the CPU."""
    return segmenter(image[None])[0].argmax(0).cpu()


def confusion(predicted: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Return the confusion matrix, (classes, classes) int64: pixels by true (rows) and predicted class (columns)."""
    return multiclass_confusion_matrix(predicted, mask, classes, ignore_index=IGNORED, validate_args=False)


class Overlap(NamedTuple):
    """Intersection over union of the classes over all pixels of all images."""

    miou: float
    """Mean over the classes that are in the masks or predicted."""
    iou: dict[str, float]
    """Value by class; NaN for a class that is neither in the masks nor predicted."""


def overlap_of(counts: np.ndarray, classes: Sequence[str], skip: int = 0) -> Overlap:
    """Compute intersection over union from matrices of `confusion`, summed over images.

    A class that was predicted but is in no mask counts as 0: its pixels are wrong.

    Args:
        counts: confusion matrix (skip + classes, skip + classes).
        classes: names of the classes.
        skip: number of background classes before them, which are not evaluated.
    """
    values = _iou(counts[None].astype(float))[0, skip:]
    mean = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
    return Overlap(mean, dict(zip(classes, values.tolist(), strict=True)))


def overlap_intervals(
    counts: Mapping[str, np.ndarray],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    skip: int = 0,
) -> dict[str, tuple[Interval, dict[str, Interval]]]:
    """Bootstrap over images of the mean intersection over union, and of its differences between rows.

    Args:
        counts: confusion matrices (images, classes, classes) by row, of the same images in the same order.
        resamples: number of resamples; all rows share them.
        confidence: confidence level of the intervals.
        seed: seed of the resampling.
        skip: number of background classes at the beginning, which are not measured.

    Returns:
        For each row, the interval of its mean, and the intervals of its differences to the rows before it.
    """
    drawn = np.stack(list(resampled(len(next(iter(counts.values()))), resamples, seed)))

    def mean(values: np.ndarray) -> np.ndarray:
        found = np.isfinite(values)
        total = np.where(found, values, 0).sum(1) / np.maximum(found.sum(1), 1)
        return np.where(found.any(1), total, np.nan)

    values = {row: mean(_iou(np.tensordot(drawn, each.astype(float), 1))[:, skip:]) for row, each in counts.items()}
    points = {
        row: float(mean(_iou(each.sum(0, keepdims=True).astype(float))[:, skip:])[0]) for row, each in counts.items()
    }
    result: dict[str, tuple[Interval, dict[str, Interval]]] = {}
    for row in counts:
        above = {
            other: corrected_interval(points[row] - points[other], values[row] - values[other], confidence)
            for other in result
        }
        result[row] = corrected_interval(points[row], values[row], confidence), above
    return result


def _iou(counts: np.ndarray) -> np.ndarray:
    """Return the intersection over union (N, classes) of (N, classes, classes); NaN for a class without pixels."""
    both = np.diagonal(counts, axis1=-2, axis2=-1)
    either = counts.sum(-1) + counts.sum(-2) - both
    return np.where(either > 0, both / np.maximum(either, 1), np.nan)


def _with_weights(source: str, classes: Sequence[str], state: dict[str, Any]) -> Segmenter:
    """Return a SegFormer with the given weights; one of `SIZES` is built without its source."""
    segmenter = untrained_segmenter(source, classes)
    segmenter.load_state_dict(state)
    return segmenter
