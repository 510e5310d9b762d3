"""Zero-shot detection by words: Grounding DINO and SAM, not trained on thermal images, and 3M-TI's scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from lit_thermal.downstream.detection import judge_boxes
from lit_thermal.downstream.detectors import Found, load_pretrained, same_word
from lit_thermal.errors import InputError
from lit_thermal.evaluation.statistics import Interval, mean_interval

METRICS = ("precision", "recall", "f1", "iou")


class Grounding:
    """Grounding DINO: boxes of the objects that a prompt names.

    Args:
        source: folder with the model and its processor in the layout of transformers, or a name on the hub.
        prompt: words, each ended by a full stop, as "automobile. person.".
        threshold: lowest score of a box (default: that of Grounded SAM).
        text_threshold: lowest score of a word (default: that of Grounded SAM).
        device: device to run on.

    Raises:
        InputError: the model is missing and cannot be fetched, or the prompt names nothing.

    Source: Liu et al., "Grounding DINO", ECCV 2024; Ren et al., "Grounded SAM", 2024.
    """

    def __init__(
        self,
        source: str = "IDEA-Research/grounding-dino-tiny",
        prompt: str = "automobile. person.",
        threshold: float = 0.3,
        text_threshold: float = 0.25,
        device: torch.device | str = "cpu",
    ) -> None:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        self.words = [word.strip().lower() for word in prompt.split(".") if word.strip()]
        if not self.words:
            raise InputError(f"the prompt {prompt!r} names nothing: write words that end with full stops")
        self.prompt = " ".join(f"{word}." for word in self.words)
        self.threshold, self.text_threshold, self.device = threshold, text_threshold, device
        network, self.processor = load_pretrained(
            source, AutoModelForZeroShotObjectDetection, AutoProcessor, "a Grounding DINO"
        )
        self.network: nn.Module = network.to(device).eval()

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Found:
        """Find the objects that the prompt names in an image (3, H, W); labels are indices into `words`.

        A box belongs to the longest word that the model's phrase for it contains, else to the first word that shares a
        part with the phrase, as "traffic" does with "traffic light". A box without such a word is left out.
        """
        inputs = self.processor(images=_levels(image), text=self.prompt, return_tensors="pt").to(self.device)
        outputs = self.network(**inputs)
        found = self.processor.post_process_grounded_object_detection(
            outputs,
            inputs["input_ids"],
            threshold=self.threshold,
            text_threshold=self.text_threshold,
            target_sizes=[tuple(image.shape[-2:])],
        )[0]
        # If nothing was found, transformers returns one empty phrase.
        phrases = found["text_labels"][: len(found["boxes"])]
        labels = torch.tensor([self._word(phrase) for phrase in phrases], dtype=torch.int64)
        kept = labels >= 0
        return Found(found["boxes"].cpu().float()[kept], found["scores"].cpu()[kept], labels[kept])

    def _word(self, phrase: str) -> int:
        phrase = phrase.lower()
        inside = [word for word in self.words if word in phrase]
        alike = [word for word in self.words if set(word.split()) & set(phrase.split())]
        return self.words.index(max(inside, key=len) if inside else alike[0]) if inside or alike else -1


class Segmenting:
    """SAM: the mask of the object in a box.

    Args:
        source: folder with the model and its processor in the layout of transformers, or a name on the hub.
        device: device to run on.

    Raises:
        InputError: the model is missing and cannot be fetched.

    Source: Kirillov et al., "Segment Anything", ICCV 2023.
    """

    def __init__(self, source: str = "facebook/sam-vit-base", device: torch.device | str = "cpu") -> None:
        from transformers import SamModel, SamProcessor

        network, self.processor = load_pretrained(source, SamModel, SamProcessor, "a SAM")
        self.network: nn.Module = network.to(device).eval()
        self.device = device

    @torch.no_grad()
    def __call__(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Return masks (N, H, W) bool of the objects in the boxes (N, 4) of an image (3, H, W)."""
        if not len(boxes):
            return torch.zeros(0, *image.shape[-2:], dtype=torch.bool)
        inputs = self.processor(images=_levels(image), input_boxes=[boxes.tolist()], return_tensors="pt")
        sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
        outputs = self.network(**inputs.to(self.device), multimask_output=False)
        masks: list[Tensor] = self.processor.post_process_masks(outputs.pred_masks.cpu(), *(s.cpu() for s in sizes))
        return masks[0][:, 0].bool()


def match_words(words: Sequence[str], classes: Sequence[str], given: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Match the classes of the annotation with the words of the prompt.

    Args:
        words: words of the prompt.
        classes: classes of the annotation.
        given: classes that a word means, by word; other words mean the class of their name or of a synonym.

    Returns:
        Index of the prompt's word by class of the annotation.

    Raises:
        InputError: a word or a class is unknown, or a word means no class.
    """
    result: dict[str, int] = {}
    for word, meant in given.items():
        if word.lower() not in words:
            raise InputError(f"--match {word}: the prompt has {', '.join(words)}")
        for name in meant:
            if name not in classes:
                raise InputError(f"--match {word}={name}: the classes are {', '.join(classes)}")
            result[name] = words.index(word.lower())
    for place, word in enumerate(words):
        if (index := same_word(word, classes)) is not None and word not in {w.lower() for w in given}:
            result[classes[index]] = place
    if silent := [word for place, word in enumerate(words) if place not in result.values()]:
        raise InputError(
            f"the prompt's {silent[0]!r} is none of the classes {', '.join(classes)}: give --match {silent[0]}=CLASS"
        )
    return result


def score_image(found: Found, truth: tuple[Tensor, Tensor], overlap: float = 0.5) -> dict[str, float] | None:
    """Precision, recall, F1 and IoU of one image.

    A box is right if its IoU with an object of its word is at least `overlap`; boxes are matched one to one with
    objects, from the highest score down. ``iou`` is the mean over the objects of the largest IoU of any box of their
    word. An image without objects has no recall and no IoU; its precision and F1 are 0 if a box is found in it;
    otherwise the image is skipped.

    3M-TI's Table 3 does not define its scores. Its F1 is below the harmonic mean of its precision and recall, as a
    mean over images is. Its IoU is above its F1 in one row, so it cannot be a mean that counts wrong boxes as zero.

    Args:
        found: detections, whose labels are indices of the prompt's words.
        truth: boxes (M, 4) and words (M,) of the objects that the prompt names.
        overlap: lowest IoU that counts as a match.

    Returns:
        Values by metric (`METRICS`), without undefined ones; None if the image has neither objects nor boxes.
    """
    boxes, labels = truth
    if not len(boxes):
        return {"precision": 0.0, "f1": 0.0} if len(found.boxes) else None
    right, matched = judge_boxes(found, truth, overlap)
    precision = float(right.float().mean()) if len(right) else 0.0
    recall = float(matched.float().mean())
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    each = box_iou(found.boxes, boxes) if len(found.boxes) else torch.zeros(1, len(boxes))
    if len(found.boxes):
        each = each * (found.labels[:, None] == labels[None])
    return {"precision": precision, "recall": recall, "f1": f1, "iou": float(each.amax(0).mean())}


def mean_scores(images: Mapping[str, dict[str, float]]) -> dict[str, Interval]:
    """Return the mean of each metric with its interval over the images that have it; absent if none has it."""
    columns = {name: [scores[name] for scores in images.values() if name in scores] for name in METRICS}
    return {name: mean_interval(values) for name, values in columns.items() if values}


def word_masks(masks: Tensor, found: Found, words: int) -> Tensor:
    """Merge the masks (N, H, W) of boxes into one for each word of the prompt: (words, H, W) bool."""
    joined = torch.zeros(words, *masks.shape[-2:], dtype=torch.bool)
    for mask, label in zip(masks, found.labels.tolist(), strict=True):
        joined[label] |= mask
    return joined


def _levels(image: Tensor) -> Any:
    """Return the image as (H, W, 3) uint8."""
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
