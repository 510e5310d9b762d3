"""Evaluation of detection and segmentation on each row: enlarged LR, restored images, visible images and HR."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lit_thermal.data.formats.objects import Objects
from lit_thermal.downstream.detection import (
    Matches,
    average_precision,
    find_all,
    judge_boxes,
    of_classes,
    precision_intervals,
)
from lit_thermal.downstream.detectors import SCORE, Detector, Found
from lit_thermal.downstream.overlays import draw_boxes, draw_classes
from lit_thermal.downstream.pictures import Pictures
from lit_thermal.downstream.segmentation import Segmenter, confusion, overlap_intervals, overlap_of, segment
from lit_thermal.downstream.task_result import TaskResult
from lit_thermal.evaluation.statistics import Interval

ROWS = (
    "Rows: LR enlarged to the target's size by bicubic interpolation (a = -0.5) and rounded to the depth of its file; "
    "restored images; RGB, the visible image; HR, the target. Thermal images have three equal channels, and all of "
    "a scene are mapped to [0, 1] alike."
)


def judge_detection(
    rows: Mapping[str, Pictures],
    objects: Mapping[str, Objects],
    detector: Detector,
    *,
    dataset: str,
    note: str,
    folder: Path,
    pictures: int = 4,
    resamples: int = 500,
    unknown: Sequence[str] = (),
) -> TaskResult:
    """Measure the average precision of one detector on each row, and draw its detections.

    Args:
        rows: images by name of the row; all rows have the same scenes.
        objects: annotated objects by name of the image.
        detector: detector of the classes to measure.
        dataset: name of the data set.
        note: sentence about the detector and its training, for the protocol.
        folder: folder for the pictures.
        pictures: number of scenes to draw.
        resamples: number of resamples of the bootstrap.
        unknown: classes that the detector does not know.
    """
    classes = detector.classes
    found = {row: find_all(detector, images) for row, images in shown_rows(rows)}
    table, matches = {}, {}
    for row in rows:
        ap = average_precision(found[row], objects, classes)
        table[row] = {key: ap[key] for key in ("map", "map_50", "map_75")} | {f"ap_{w}": v for w, v in ap["ap"].items()}
        matches[row] = Matches(found[row], objects, classes)
    intervals = precision_intervals(matches, resamples)
    truths = {name: of_classes(objects[name], classes) for name in rows["HR"].names}
    score = best_score(found["HR"], truths)
    images: dict[str, dict[str, dict[str, float]]] = {row: {} for row in rows}
    for row in rows:
        for name, truth in truths.items():
            right, matched = judge_boxes(above(found[row][name], score), truth)
            images[row][name] = {"objects": len(matched), "right": int(right.sum()), "wrong": int((~right).sum())}
            images[row][name]["missed"] = int((~matched).sum())
    for name in chosen([name for name, truth in truths.items() if len(truth[0])], pictures):
        draw_boxes(
            folder / f"{name}.png",
            {row: images[name] for row, images in rows.items()},
            {row: found[row][name] for row in rows},
            truths[name],
            classes,
            score,
            title=f"{dataset}: {name}, {detector.name}, scores of {score:.2f} and more",
        )
    return TaskResult(
        task="detection",
        dataset=dataset,
        table=table,
        intervals={row: {"map": each.map} for row, each in intervals.items()},
        differences={row: each.above for row, each in intervals.items()},
        headline="map",
        images=images,
        data={"images": len(truths), "objects": counted(objects, classes), "classes": list(classes)},
        protocol=f"{note} {ROWS} COCO's mean average precision over IoU 0.5 to 0.95 (map), at most 100 boxes an image "
        f"of a score of at least {SCORE}, ap_<class> over the same. Intervals: 95 %, bias-corrected bootstrap over "
        f"images ({resamples} resamples, the same for all rows). Right, wrong and missed of an image: IoU 0.5, one to "
        f"one, scores of {score:.2f} and more, where F1 on HR is highest.",
        skipped={f"ap_{word}": f"the detector {detector.name} does not know this class" for word in unknown},
    )


def judge_segmentation(
    rows: Mapping[str, Pictures],
    masks: Callable[[str], Tensor],
    segmenter: Segmenter,
    *,
    dataset: str,
    note: str,
    folder: Path,
    pictures: int = 4,
    resamples: int = 500,
) -> TaskResult:
    """Measure the intersection over union of one SegFormer on each row, and draw its classes.

    Args:
        rows: images by name of the row; all rows have the same scenes.
        masks: function of an image's name that returns its classes (H, W).
        segmenter: SegFormer that knows these classes.
        dataset: name of the data set.
        note: sentence about the segmenter and its training, for the protocol.
        folder: folder for the pictures.
        pictures: number of scenes to draw.
        resamples: number of resamples of the bootstrap.
    """
    classes, names = segmenter.classes, rows["HR"].names
    drawn: dict[str, dict[str, Tensor]] = {name: {} for name in chosen(names, pictures)}
    counts: dict[str, list[Tensor]] = {row: [] for row in rows}
    for row, images in shown_rows(rows):
        for name in names:
            predicted = segment(segmenter, images[name])
            counts[row].append(confusion(predicted, masks(name), len(classes)))
            if name in drawn:
                drawn[name][row] = predicted
    for name, levels in drawn.items():
        shown = {row: images[name] for row, images in rows.items()}
        draw_classes(folder / f"{name}.png", shown, levels, masks(name), classes, f"{dataset}: {name}")
    return overlap_result(
        "segmentation",
        {row: torch.stack(each).numpy() for row, each in counts.items()},
        names,
        classes,
        dataset=dataset,
        resamples=resamples,
        protocol=f"{note} {ROWS} Intersection over union of each class over all pixels of all images, miou their mean "
        "over the classes that are in the masks or predicted; unlabelled pixels are left out. Intervals: 95 %, "
        f"bias-corrected bootstrap over images ({resamples} resamples, the same for all rows).",
    )


def best_score(found: Mapping[str, Found], truths: Mapping[str, tuple[Tensor, Tensor]]) -> float:
    """Return the lowest score, in steps of 0.05, at which F1 over all boxes of all images is highest."""
    best, value = 0.5, 0.0
    for score in np.arange(0.05, 1.0, 0.05).round(2).tolist():
        right = boxes = objects = 0
        for name, truth in truths.items():
            own, matched = judge_boxes(above(found[name], score), truth)
            right, boxes, objects = right + int(own.sum()), boxes + len(own), objects + len(matched)
        if (f1 := 2 * right / max(1, boxes + objects)) > value:
            best, value = score, f1
    return best


def above(found: Found, score: float) -> Found:
    """Return the detections with a score of at least `score`."""
    kept = found.scores >= score
    return Found(found.boxes[kept], found.scores[kept], found.labels[kept])


def chosen(names: Sequence[str], count: int) -> list[str]:
    """Return `count` names, spread evenly over all of them."""
    places = np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)
    return [names[place] for place in places]


def overlap_result(
    task: str,
    counts: Mapping[str, np.ndarray],
    names: Sequence[str],
    classes: Sequence[str],
    *,
    dataset: str,
    resamples: int,
    protocol: str,
    skip: int = 0,
) -> TaskResult:
    """Return the overlap of the classes after the first `skip`, from the confusion matrices of each row's images."""
    table: dict[str, dict[str, float]] = {}
    images: dict[str, dict[str, dict[str, float]]] = {}
    for row, each in counts.items():
        total = overlap_of(each.sum(0), classes, skip)
        table[row] = {"miou": total.miou} | {f"iou_{word}": value for word, value in total.iou.items()}
        single = [overlap_of(one, classes, skip).miou for one in each]
        images[row] = {
            name: {} if np.isnan(value) else {"miou": value} for name, value in zip(names, single, strict=True)
        }
    intervals = overlap_intervals(counts, resamples, skip=skip)
    own: dict[str, dict[str, Interval]] = {row: {"miou": each} for row, (each, _) in intervals.items()}
    return TaskResult(
        task=task,
        dataset=dataset,
        table=table,
        intervals=own,
        differences={row: above for row, (_, above) in intervals.items()},
        headline="miou",
        images=images,
        data={"images": len(names), "classes": list(classes)},
        protocol=protocol,
    )


def counted(objects: Mapping[str, Objects], classes: Sequence[str]) -> dict[str, int]:
    """Return the number of objects of each class."""
    counts = Counter(label for each in objects.values() for label in each.labels)
    return {word: counts[word] for word in classes}


def shown_rows(rows: Mapping[str, Pictures]) -> Iterator[tuple[str, Pictures]]:
    """Yield the rows with a progress bar."""
    from rich.progress import track

    yield from track(rows.items(), description="Evaluating", total=len(rows))
