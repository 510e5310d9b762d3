"""Object detectors of torchvision and transformers with one interface for training and detection."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor, nn

from lit_thermal.blocks.pretrained import hub_answers, local_folder
from lit_thermal.downstream.small_detector import fcos_small
from lit_thermal.downstream.training import read_trained
from lit_thermal.errors import InputError, reading
from lit_thermal.torchvision_weights import fetch_published
from lit_thermal.weights_file import read_file

SCORE = 0.05
"""Lowest score of a detection; below it precision says little."""
SMALL = "fcos_small"
SYNONYMS = (
    {"person", "people", "pedestrian", "human"},
    {"car", "automobile"},
    {"motorcycle", "motorbike"},
    {"bicycle", "bike"},
    {"lamp", "traffic light"},
    {"animal", "dog"},
)
"""Groups of synonyms in the class names of data sets and detectors."""


class Found(NamedTuple):
    """Detections in one image."""

    boxes: Tensor
    """(N, 4) float32: left, top, right, bottom in pixels."""
    scores: Tensor
    """(N,) in [0, 1]."""
    labels: Tensor
    """(N,) int64 class indices."""


class Detector(nn.Module):
    """A network that detects objects; its class indices start at 0.

    Args:
        name: name of the network, or the folder from which it was loaded.
        classes: names of the classes.
        network: detection network.
    """

    def __init__(self, name: str, classes: Sequence[str], network: nn.Module) -> None:
        super().__init__()
        self.name, self.classes, self.network = name, tuple(classes), network

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.network.parameters()).device

    @abstractmethod
    def loss(self, images: Sequence[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
        """Loss of a batch: images (3, H, W) in [0, 1], boxes (N, 4) in pixels and labels (N,)."""

    @abstractmethod
    def find(self, images: Sequence[Tensor]) -> list[Found]:
        """Find objects in images (3, H, W) in [0, 1]; results are on the CPU."""


class TorchvisionDetector(Detector):
    """A detector with the interface of torchvision's, whose label 0 is the background.

    Args:
        name: name of the network.
        classes: names of the classes.
        network: network with torchvision's interface.
        columns: the network's own label of each class (default: counted from 1).
    """

    def __init__(
        self, name: str, classes: Sequence[str], network: nn.Module, columns: Sequence[int] | None = None
    ) -> None:
        super().__init__(name, classes, network)
        self.columns = list(columns) if columns is not None else list(range(1, len(classes) + 1))
        for part in (network, getattr(network, "roi_heads", None)):
            if part is not None and hasattr(part, "score_thresh"):
                part.score_thresh = SCORE

    def loss(self, images: Sequence[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
        """Sum of the network's own losses."""
        columns = torch.tensor(self.columns, device=self.device)
        targets = [
            {"boxes": box.to(self.device), "labels": columns[label.to(self.device)]}
            for box, label in zip(boxes, labels, strict=True)
        ]
        losses: dict[str, Tensor] = self.network([image.to(self.device) for image in images], targets)
        return torch.stack(list(losses.values())).sum()

    @torch.no_grad()
    def find(self, images: Sequence[Tensor]) -> list[Found]:
        """Find objects; detections of other classes are left out."""
        result = []
        for found in self.network([image.to(self.device) for image in images]):
            own = torch.full((max(self.columns + found["labels"].tolist()) + 1,), -1)
            own[self.columns] = torch.arange(len(self.columns))
            labels = own[found["labels"].cpu()]
            kept = labels >= 0
            result.append(Found(found["boxes"].cpu()[kept], found["scores"].cpu()[kept], labels[kept]))
        return result


class TransformersDetector(Detector):
    """A detector of transformers with its image processor.

    Args:
        name: folder or name on the hub that it came from.
        classes: names of the classes.
        network: network of transformers.
        processor: image processor of the network.
        columns: the network's own label of each class (default: counted from 0).
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        network: nn.Module,
        processor: Any,
        columns: Sequence[int] | None = None,
    ) -> None:
        super().__init__(name, classes, network)
        self.processor = processor
        self.columns = list(columns) if columns is not None else list(range(len(classes)))

    def loss(self, images: Sequence[Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
        """The network's own loss."""
        columns = torch.tensor(self.columns)
        targets = []
        for image, box, label in zip(images, boxes, labels, strict=True):
            size = torch.tensor([image.shape[-1], image.shape[-2]] * 2)
            relative = torchvision.ops.box_convert(box, "xyxy", "cxcywh") / size
            targets.append({"boxes": relative.to(self.device), "class_labels": columns[label].to(self.device)})
        loss: Tensor = self.network(**self._prepared(images), labels=targets).loss
        return loss

    @torch.no_grad()
    def find(self, images: Sequence[Tensor]) -> list[Found]:
        """Find objects; detections of other classes are left out."""
        outputs = self.network(**self._prepared(images))
        sizes = [tuple(image.shape[-2:]) for image in images]
        result = []
        for found in self.processor.post_process_object_detection(outputs, threshold=SCORE, target_sizes=sizes):
            labels = torch.full_like(found["labels"].cpu(), -1)
            for index, column in enumerate(self.columns):
                labels[found["labels"].cpu() == column] = index
            kept = labels >= 0
            result.append(Found(found["boxes"].cpu().float()[kept], found["scores"].cpu()[kept], labels[kept]))
        return result

    def _prepared(self, images: Sequence[Tensor]) -> dict[str, Tensor]:
        levels = [(image.clamp(0, 1) * 255).round().byte().cpu() for image in images]
        prepared = self.processor(images=levels, return_tensors="pt")
        return {key: value.to(self.device) for key, value in prepared.items() if key in ("pixel_values", "pixel_mask")}


def known_detectors() -> list[str]:
    """Return the names that `untrained_detector` takes in addition to folders and names on the hub."""
    found = torchvision.models.list_models(module=torchvision.models.detection)
    return [SMALL, *(name for name in found if not name.startswith(("maskrcnn", "keypointrcnn")))]


def untrained_detector(name: str, classes: Sequence[str]) -> Detector:
    """Return a detector to train: one of torchvision has random weights, one of transformers those of its folder.

    Raises:
        InputError: no detector has this name.
    """
    if name == SMALL:
        return TorchvisionDetector(name, classes, fcos_small(len(classes) + 1))
    if name in known_detectors():
        network = torchvision.models.get_model(
            name, weights=None, weights_backbone=None, num_classes=len(classes) + 1, trainable_backbone_layers=None
        )
        return TorchvisionDetector(name, classes, network)
    network, processor = _from_transformers(name, classes)
    return TransformersDetector(name, classes, network, processor)


def trained_detector(name: str, weights: str | None, classes: Sequence[str]) -> tuple[Detector, list[str]]:
    """Return a detector with weights, and the classes that it does not know and therefore cannot find.

    Args:
        name: one of `known_detectors`, or a folder or a name on the hub of transformers.
        weights: file that `train_detector` or torchvision wrote, or DEFAULT for torchvision's COCO weights; None
            for the weights in the folder.
        classes: classes to find.

    Raises:
        InputError: the weights are missing or belong to another network, or it knows none of the classes.
    """
    if weights and weights != "DEFAULT" and (saved := _trained(Path(weights))) is not None:
        record = saved["record"]
        if record["detector"] != name:
            raise InputError(f"{weights} is a {record['detector']}: give --detector {record['detector']}")
        with reading(weights, f"the weights of {name}", "train again"):
            words: Sequence[str] = record["classes"]
            detector = untrained_detector(name, words)
            detector.network.load_state_dict({k.removeprefix("network."): v for k, v in saved["state_dict"].items()})
    elif name == SMALL:
        raise InputError(f"{SMALL} has no published weights: train it by --train, or give a file by --weights")
    elif name in known_detectors():
        if weights is None:
            raise InputError(f"{name} needs weights: --weights FILE, --weights DEFAULT (COCO), or --train")
        detector, words = _published(name, weights)
    else:
        if weights:
            raise InputError(f"{weights} is not a checkpoint of a detector that --train wrote")
        network, processor = _from_transformers(name, None)
        named: dict[int, str] = network.config.id2label  # type: ignore[union-attr, assignment]
        words = [named[index] for index in range(len(named))]
        detector = TransformersDetector(name, words, network, processor)
    places = {wanted: place for wanted in classes if (place := same_word(wanted, words)) is not None}
    if not places:
        raise InputError(f"{name} knows none of {', '.join(classes)}: it finds {', '.join(words[:12])}")
    assert isinstance(detector, (TorchvisionDetector, TransformersDetector))
    columns = detector.columns
    detector.columns, detector.classes = [columns[place] for place in places.values()], tuple(places)
    return detector.eval(), [wanted for wanted in classes if wanted not in places]


def same_word(wanted: str, words: Sequence[str]) -> int | None:
    """Return the index of a word or of a synonym of it among others; None if there is none."""
    folded = [word.strip().lower() for word in words]
    if wanted.lower() in folded:
        return folded.index(wanted.lower())
    alike = next((group for group in SYNONYMS if wanted.lower() in group), set())
    return next((place for place, word in enumerate(folded) if word in alike), None)


def _trained(file: Path) -> dict[str, Any] | None:
    """Read a checkpoint of `train_detector`; return None for any other file of weights."""
    if not file.is_file():
        raise InputError(f"there is no file of weights {file}")
    values = read_file(file)
    if not isinstance(values, dict) or "record" not in values:
        return None
    saved = read_trained(file)
    if "detector" not in saved["record"]:
        raise InputError(f"{file} is not a detector")
    return saved


def _published(name: str, weights: str) -> tuple[TorchvisionDetector, list[str]]:
    """Return a network of torchvision with all classes of COCO, and their names."""
    best = torchvision.models.get_model_weights(name)["DEFAULT"]
    words: list[str] = best.meta["categories"]
    network = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    if weights == "DEFAULT":
        state = read_file(fetch_published(name, "give it by --weights", "DEFAULT"))
    else:
        state = read_file(Path(weights))
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise InputError(f"{weights} does not hold the weights of torchvision's {name} for COCO") from error
    named = [(place, word) for place, word in enumerate(words) if word not in ("__background__", "N/A")]
    kept = [word for _, word in named]
    return TorchvisionDetector(name, kept, network, [place for place, _ in named]), kept


def _from_transformers(source: str, classes: Sequence[str] | None) -> tuple[nn.Module, Any]:
    """Load a network and its processor from a folder or the hub; `classes` replaces its head by a new one for them."""
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    options: dict[str, Any] = {}
    if classes is not None:
        options = {
            "id2label": dict(enumerate(classes)),
            "label2id": {word: index for index, word in enumerate(classes)},
            "ignore_mismatched_sizes": True,
        }
    return load_pretrained(source, AutoModelForObjectDetection, AutoImageProcessor, "a detector", **options)


def load_pretrained(source: str, network: Any, processor: Any, what: str, **options: Any) -> tuple[nn.Module, Any]:
    """Load a network of transformers and its processor from a local folder, the hub, or the hub's cache.

    Args:
        source: folder, or name on the hub.
        network: class of transformers that reads the network.
        processor: class of transformers that reads the processor.
        what: name of the kind of network with its article, for error messages.
        options: further arguments of the network.

    Raises:
        InputError: the source is missing and cannot be fetched, holds another kind of network, or lacks weights.
    """
    names = ", ".join(known_detectors())
    local = local_folder(source, what, f"give a folder, owner/name on the Hugging Face hub, or a detector of {names}")
    place = local or source
    offline = local is not None or not hub_answers(source)
    try:
        made, report = network.from_pretrained(place, local_files_only=offline, output_loading_info=True, **options)
        prepared = processor.from_pretrained(place, local_files_only=offline)
    except Exception as error:  # the type of the first error in transformers depends on the files present
        reason = next((line for line in str(error).splitlines() if line), type(error).__name__)[:160]
        advice = (
            "" if local else f": download it elsewhere by `hf download {source} --local-dir FOLDER` and give FOLDER"
        )
        raise InputError(f"{source} could not be read as {what} ({reason}){advice}") from error
    lacking = report["missing_keys"] if not options else []
    if lacking:
        raise InputError(f"{source} is not {what}: it has no weights for {min(lacking)}; give a complete one")
    return made, prepared
