"""Evaluation of Grounding DINO and SAM by one prompt, without training, on each row."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lit_thermal.data.formats.objects import Objects
from lit_thermal.downstream.detectors import Found
from lit_thermal.downstream.judging import ROWS, chosen, counted, overlap_result, shown_rows
from lit_thermal.downstream.overlays import draw_boxes
from lit_thermal.downstream.pictures import Pictures
from lit_thermal.downstream.segmentation import confusion
from lit_thermal.downstream.task_result import TaskResult
from lit_thermal.downstream.zero_shot import METRICS, Grounding, Segmenting, mean_scores, score_image, word_masks


def judge_zero_shot(
    rows: Mapping[str, Pictures],
    objects: Mapping[str, Objects] | None,
    meaning: Mapping[str, int],
    grounding: Grounding,
    *,
    dataset: str,
    folder: Path,
    segmenting: Segmenting | None = None,
    masks: Callable[[str], Tensor] | None = None,
    pictures: int = 4,
    resamples: int = 500,
    note: str = "",
) -> TaskResult:
    """Measure precision, recall, F1 and IoU of Grounding DINO on each row by one prompt, and SAM's masks of its boxes.

    Args:
        rows: images by name of the row; all rows have the same scenes.
        objects: annotated objects by name of the image; None draws boxes without measuring them.
        meaning: index of the prompt's word by class of the objects.
        grounding: detector by words.
        dataset: name of the data set.
        folder: folder for the pictures.
        segmenting: segmenter of the objects in boxes.
        masks: function of an image's name that returns its words (H, W): 0 for no word, else 1 plus the word's index.
        pictures: number of scenes to draw.
        resamples: number of resamples for the overlap of masks.
        note: sentence about the networks, for the protocol.
    """
    names, words = rows["HR"].names, grounding.words
    truths = {name: _of_words(None if objects is None else objects[name], meaning) for name in names}
    drawn = set(chosen([n for n in names if len(truths[n][0])] or list(names), pictures))
    found, joined, counts = _find_words(rows, grounding, segmenting, masks, drawn)
    for name in drawn:
        draw_boxes(
            folder / f"{name}.png",
            {row: each[name] for row, each in rows.items()},
            {row: found[row][name] for row in rows},
            truths[name],
            words,
            0.0,
            masks={row: joined[row][name] for row in rows if name in joined[row]},
            title=f"{dataset}: {name}, prompt {grounding.prompt!r}",
        )
    images: dict[str, dict[str, dict[str, float]]] = {row: {} for row in rows}
    if objects is not None:
        images = {row: {n: score_image(each[n], truths[n]) or {} for n in names} for row, each in found.items()}
    data = {"images": len(names), "words": list(words), "meaning": dict(meaning)}
    data |= {} if objects is None else {"objects": counted(objects, list(meaning))}
    result = _word_result(dataset, grounding, note, images, data)
    if objects is None:
        result.skipped |= dict.fromkeys(METRICS, "no boxes were given with --boxes")
    if segmenting is None:
        result.skipped["miou"] = "no SAM was given with --sam"
    elif masks is None:
        result.skipped["miou"] = "no masks were given with --masks"
    else:
        _add_overlap(result, counts, names, words, resamples)
    return result


class _FoundWords(NamedTuple):
    """What Grounding DINO and SAM find, by row."""

    boxes: dict[str, dict[str, Found]]
    """Boxes by name of the image."""
    masks: dict[str, dict[str, Tensor]]
    """Masks of the words by name of the image, of the images to draw."""
    counts: dict[str, list[Tensor]]
    """Confusion matrix of each image; none without annotated masks."""


def _find_words(
    rows: Mapping[str, Pictures],
    grounding: Grounding,
    segmenting: Segmenting | None,
    masks: Callable[[str], Tensor] | None,
    drawn: Collection[str],
) -> _FoundWords:
    words = grounding.words
    result = _FoundWords({row: {} for row in rows}, {row: {} for row in rows}, {row: [] for row in rows})
    for row, images in shown_rows(rows):
        for name in rows["HR"].names:
            found = result.boxes[row][name] = grounding(images[name])
            if segmenting is None:
                continue
            cut = word_masks(segmenting(images[name], found.boxes), found, len(words))
            if name in drawn:
                result.masks[row][name] = cut
            if masks is not None:
                # a pixel that several words claim belongs to the first of them in the prompt
                level = torch.where(cut.any(0), cut.int().argmax(0) + 1, 0)
                result.counts[row].append(confusion(level, masks(name), len(words) + 1))
    return result


def _word_result(
    dataset: str,
    grounding: Grounding,
    note: str,
    images: dict[str, dict[str, dict[str, float]]],
    data: dict[str, Any],
) -> TaskResult:
    """Return the means of the scores of each image, with their intervals and the protocol."""
    means = {row: mean_scores(each) for row, each in images.items()}
    return TaskResult(
        task="zero_shot",
        dataset=dataset,
        table={row: {metric: each[metric].mean for metric in METRICS if metric in each} for row, each in means.items()},
        intervals={row: dict(each) for row, each in means.items()},
        differences={},
        headline="f1",
        images=images,
        data=data,
        protocol=f"Zero-shot by the prompt {grounding.prompt!r}, boxes of a score of at least {grounding.threshold}, "
        f"words of {grounding.text_threshold}, the same for all rows. {note} {ROWS} A box is right where its IoU with "
        "an object of its word is at least 0.5, greedily by score, one to one; precision, recall and F1 of each image, "
        "then their mean; iou: mean over an image's objects of the greatest IoU of any box of their word, then the "
        "mean over images. Intervals: 95 %, BCa bootstrap over images.",
    )


def _add_overlap(
    result: TaskResult, counts: Mapping[str, list[Tensor]], names: Sequence[str], words: Sequence[str], resamples: int
) -> None:
    """Add the overlap of the masks to the scores of the boxes."""
    stacked = {row: torch.stack(each).numpy() for row, each in counts.items()}
    overlap = overlap_result(
        result.task, stacked, names, words, dataset=result.dataset, resamples=resamples, protocol="", skip=1
    )
    for row in counts:
        result.table[row] |= overlap.table[row]
        result.intervals[row] |= overlap.intervals[row]
        for name in names:
            result.images[row].setdefault(name, {}).update(overlap.images[row][name])
    result.protocol += " miou: intersection over union of SAM's masks with those of the words' classes over all pixels."


def _of_words(objects: Objects | None, meaning: Mapping[str, int]) -> tuple[Tensor, Tensor]:
    """Return the boxes of the objects that the prompt names, and the indices of its words."""
    if objects is None:
        return torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    kept = [index for index, label in enumerate(objects.labels) if label in meaning]
    words = torch.tensor([meaning[objects.labels[index]] for index in kept], dtype=torch.int64)
    return objects.boxes[kept].reshape(-1, 4), words
