"""Detection: training on targets only, and mean average precision with bootstrap intervals over images."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

from lit_thermal.data.formats.objects import Objects
from lit_thermal.downstream.detectors import Detector, Found, untrained_detector
from lit_thermal.downstream.pictures import Pictures
from lit_thermal.downstream.resampling import corrected_interval, resampled
from lit_thermal.downstream.training import DownstreamTraining, Samples, seeded, train, warm_up_then
from lit_thermal.errors import InputError
from lit_thermal.evaluation.statistics import Interval

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which COCO reads the precision."""
OVERLAPS = np.linspace(0.5, 0.95, 10)
"""IoU thresholds of COCO."""


class Recipe(NamedTuple):
    """Settings of a detector's training: DifIISR's SGD with rate 0.01 and batches of 16, and YOLOv5's other settings.

    Source: Li et al., "DifIISR", CVPR 2025, section 5.4; Jocher, "YOLOv5", 2020 (momentum, decay, warm-up, fall).
    """

    steps: int = 3000
    batch: int = 16
    lr: float = 0.01
    momentum: float = 0.937
    weight_decay: float = 5e-4
    warm_up: int = 100
    seed: int = 0


def train_detector(
    name: str,
    classes: Sequence[str],
    pictures: Pictures,
    objects: Mapping[str, Objects],
    file: Path,
    recipe: Recipe | None = None,
    device: torch.device | str = "cpu",
) -> Detector:
    """Train a detector on targets and their mirror images, or resume a training that was interrupted.

    Args:
        name: name of the detector (see `untrained_detector`).
        classes: classes to find; objects of other classes are background.
        pictures: targets to train on.
        objects: annotated objects by name of the image.
        file: checkpoint to write.
        recipe: settings of the training.
        device: device to train on.

    Raises:
        InputError: no image contains an object of these classes, or `file` belongs to another training.
    """
    recipe = recipe or Recipe()
    names = [name for name in pictures.names if any(label in classes for label in objects[name].labels)]
    if not names:
        raise InputError(f"no image to train on has a {' or '.join(classes)}")
    with seeded(recipe.seed):
        detector = untrained_detector(name, classes).to(device)
    decayed: list[Tensor] = [p for p in detector.parameters() if p.requires_grad and p.ndim > 1]
    others: list[Tensor] = [p for p in detector.parameters() if p.requires_grad and p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=True)

    def sample(name: str) -> tuple[Tensor, Tensor, Tensor]:
        return pictures[name], *of_classes(objects[name], classes)

    def loss(batch: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        flips = (torch.rand(len(batch)) < 0.5).tolist()
        batch = [_mirrored(*each) if flip else each for each, flip in zip(batch, flips, strict=True)]
        return detector.loss(*zip(*batch, strict=True))

    record = {"detector": name, "classes": list(classes), "images": len(names), **recipe._asdict()}
    rate = warm_up_then("cosine", min(recipe.warm_up, recipe.steps), recipe.steps)
    module = DownstreamTraining(detector, loss, optimizer, rate, record)
    train(module, Samples(names, sample), batch=recipe.batch, file=file, device=device)
    return detector


def find_all(detector: Detector, pictures: Pictures, batch: int = 8) -> dict[str, Found]:
    """Return the detections in each picture by its name."""
    found: dict[str, Found] = {}
    names = list(pictures.names)
    for start in range(0, len(names), batch):
        part = names[start : start + batch]
        found |= zip(part, detector.find([pictures[name] for name in part]), strict=True)
    return found


def average_precision(
    found: Mapping[str, Found], objects: Mapping[str, Objects], classes: Sequence[str]
) -> dict[str, Any]:
    """Mean average precision over IoU 0.5 to 0.95, at 0.5 and at 0.75, and of each class (0.5 to 0.95).

    Args:
        found: detections by name of the image.
        objects: annotated objects by name of the image.
        classes: names of the classes, indexed by the labels of `found`.

    Returns:
        `map`, `map_50`, `map_75`, and `ap` by class: NaN for a class without objects, which is excluded from `map`.

    Source: COCO's evaluation by pycocotools through torchmetrics.
    """
    # torchmetrics' own thresholds are in single precision, where a recall of 0.7 is not that of COCO.
    metric = MeanAveragePrecision(
        iou_thresholds=OVERLAPS.tolist(), rec_thresholds=RECALLS.tolist(), class_metrics=True, backend="pycocotools"
    )
    # More than 100 objects in a thermal image are rare, and COCO's own limit is 100 too.
    metric.warn_on_many_detections = False
    names = list(found)
    predictions = [found[name]._asdict() for name in names]
    targets = []
    for name in names:
        boxes, labels = of_classes(objects[name], classes)
        targets.append({"boxes": boxes, "labels": labels})
    with contextlib.redirect_stdout(io.StringIO()):
        metric.update(predictions, targets)
        result = metric.compute()
    present = result["classes"].reshape(-1).tolist()
    each = dict(zip(present, result["map_per_class"].reshape(-1).tolist(), strict=True))
    ap = {word: _or_nan(each.get(index, -1.0)) for index, word in enumerate(classes)}
    return {key: _or_nan(float(result[key])) for key in ("map", "map_50", "map_75")} | {"ap": ap}


class Matches:
    """COCO's matches of detections with objects, kept per image so that images can be resampled.

    Resampling images changes no match, so the average precision of a resample needs only a weight for each image.

    Args:
        found: detections by name of the image.
        objects: annotated objects by name of the image.
        classes: names of the classes, indexed by the labels of `found`.
    """

    def __init__(self, found: Mapping[str, Found], objects: Mapping[str, Objects], classes: Sequence[str]) -> None:
        self.names = list(found)
        evaluated = _coco(found, objects, classes)
        count = len(self.names)
        self._classes = []
        for index in range(len(classes)):
            # The area range "all" comes first for each class.
            entries = evaluated[index * 4 * count : index * 4 * count + count] if evaluated else [None] * count
            truths = np.array([0 if entry is None else len(entry["gtIds"]) for entry in entries])
            present = [(image, entry) for image, entry in enumerate(entries) if entry and len(entry["dtIds"])]
            scores = np.concatenate([entry["dtScores"] for _, entry in present] or [np.zeros(0)])
            order = np.argsort(-scores, kind="mergesort")
            hit = np.concatenate([entry["dtMatches"] > 0 for _, entry in present] or [np.zeros((10, 0), bool)], axis=1)
            image = np.concatenate([np.full(len(e["dtIds"]), i) for i, e in present] or [np.zeros(0, int)])
            self._classes.append((image[order].astype(int), hit[:, order], truths))

    def average_precision(self, weights: np.ndarray | None = None) -> float:
        """Mean average precision (IoU 0.5 to 0.95) over images, each with its weight (images,); 1 by default."""
        weights = np.ones(len(self.names)) if weights is None else weights
        values = []
        for image, hit, truths in self._classes:
            total = float((truths * weights).sum())
            if total > 0:
                values.append(_area(hit, weights[image], total))
        return float(np.mean(values)) if values else float("nan")


class Precision(NamedTuple):
    """Mean average precision of a row with its bootstrap intervals over images."""

    map: Interval
    above: dict[str, Interval]
    """Difference to each earlier row by its name, over the same resamples."""


def precision_intervals(
    matches: Mapping[str, Matches], resamples: int = 500, confidence: float = 0.95, seed: int = 0
) -> dict[str, Precision]:
    """Bootstrap confidence intervals, over images, of mean average precision and of its differences between rows.

    Mean average precision is not a mean over images, so it is recomputed from the matches of each resample. A resample
    draws as many images as there are, with replacement. All rows share the resamples, so differences are paired. The
    ends of an interval are bias-corrected percentiles.

    Args:
        matches: matches by row, over the same images.
        resamples: number of resamples.
        confidence: confidence level of the intervals.
        seed: seed of the resampling.
    """
    drawn = list(resampled(len(next(iter(matches.values())).names), resamples, seed))
    values = {row: np.array([each.average_precision(w) for w in drawn]) for row, each in matches.items()}
    points = {row: each.average_precision() for row, each in matches.items()}
    result: dict[str, Precision] = {}
    for row in matches:
        above = {
            other: corrected_interval(points[row] - points[other], values[row] - values[other], confidence)
            for other in result
        }
        result[row] = Precision(corrected_interval(points[row], values[row], confidence), above)
    return result


def judge_boxes(found: Found, truth: tuple[Tensor, Tensor], overlap: float = 0.5) -> tuple[Tensor, Tensor]:
    """Match boxes with objects one to one, greedily from the highest score down.

    Args:
        found: detections in an image.
        truth: boxes (M, 4) and labels (M,) of its objects.
        overlap: lowest IoU of a box with an object of its class that counts as a match.

    Returns:
        (N,) bool, which boxes are right, and (M,) bool, which objects are found.
    """
    from torchvision.ops import box_iou

    boxes, labels = truth
    right, matched = torch.zeros(len(found.boxes), dtype=torch.bool), torch.zeros(len(boxes), dtype=torch.bool)
    iou = box_iou(found.boxes, boxes) if len(boxes) and len(found.boxes) else torch.zeros(len(found.boxes), len(boxes))
    iou[found.labels[:, None] != labels[None]] = 0
    for index in found.scores.argsort(descending=True, stable=True).tolist() if len(boxes) else []:
        free = iou[index].masked_fill(matched, -1)
        best = int(free.argmax())
        if free[best] >= overlap:
            right[index] = matched[best] = True
    return right, matched


def of_classes(objects: Objects, classes: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return boxes (N, 4) and class indices (N,) of the objects of the given classes."""
    kept = [index for index, label in enumerate(objects.labels) if label in classes]
    labels = [classes.index(objects.labels[index]) for index in kept]
    return objects.boxes[kept].reshape(-1, 4), torch.tensor(labels, dtype=torch.int64)


def _mirrored(image: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    width = image.shape[-1]
    return image.flip(-1), torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1), labels


def _coco(found: Mapping[str, Found], objects: Mapping[str, Objects], classes: Sequence[str]) -> list[Any]:
    """Return the results of pycocotools: a list over classes, area ranges and images."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truths: list[dict[str, Any]] = []
    guesses: list[dict[str, Any]] = []
    for image, name in enumerate(found, start=1):
        for boxes, labels, scores, into in (
            (*of_classes(objects[name], classes), None, truths),
            (found[name].boxes, found[name].labels, found[name].scores, guesses),
        ):
            for index, (left, top, right, bottom) in enumerate(boxes.tolist()):
                width, height = right - left, bottom - top
                entry: dict[str, Any] = {"id": len(into) + 1, "image_id": image, "category_id": int(labels[index]) + 1}
                entry |= {"bbox": [left, top, width, height], "area": width * height, "iscrowd": 0}
                into.append(entry if scores is None else entry | {"score": float(scores[index])})
    images = [{"id": image} for image in range(1, len(found) + 1)]
    categories = [{"id": index + 1, "name": word} for index, word in enumerate(classes)]
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for annotations in (truths, guesses):
            side = COCO()
            side.dataset = {"images": images, "categories": categories, "annotations": annotations}
            side.createIndex()
            sides.append(side)
        evaluation = COCOeval(*sides, iouType="bbox")
        evaluation.params.imgIds = [image["id"] for image in images]
        evaluation.params.catIds = [category["id"] for category in categories]
        evaluation.evaluate()
    evaluated: list[Any] = evaluation.evalImgs
    return evaluated


def _area(hit: np.ndarray, weights: np.ndarray, total: float) -> float:
    """COCO's area under the precision-recall curve: monotone precision at 101 recalls, mean over the rows of `hit`."""
    right, wrong = np.cumsum(hit * weights, axis=1), np.cumsum(~hit * weights, axis=1)
    precision = right / np.maximum(right + wrong, np.spacing(1))
    falling = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # beyond the greatest recall precision is 0
    falling = np.concatenate([falling, np.zeros((len(hit), 1))], axis=1)
    area = 0.0
    for recall, curve in zip(right / total, falling, strict=True):
        area += float(curve[np.searchsorted(recall, RECALLS, side="left")].mean())
    return area / len(hit)


def _or_nan(value: float) -> float:
    """Replace -1, COCO's mark of missing values, with NaN."""
    return float("nan") if value < 0 else value
