"""`evaluate detection`, `evaluate segmentation`, `evaluate zero_shot`: downstream tasks on restored images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_thermal.cli import evaluate_scenes
from lit_thermal.cli.device import choose_device
from lit_thermal.cli.evaluate_task_options import task_parser
from lit_thermal.cli.named_paths import name_of, named_paths
from lit_thermal.data.formats.normalize import check_normalize
from lit_thermal.errors import InputError
from lit_thermal.files import check_folder

if TYPE_CHECKING:
    import argparse

    from torch import Tensor

    from lit_thermal.data.formats.class_masks import MaskFormat
    from lit_thermal.data.formats.objects import Objects
    from lit_thermal.downstream.pictures import Pictures
    from lit_thermal.downstream.task_result import TaskResult

TASKS = ("detection", "segmentation", "zero_shot", "scenes")
"""Words after `evaluate`: three tasks, and `scenes` to try them on."""


def main(task: str, argv: Sequence[str]) -> int:
    """Evaluate images by a task; returns the exit code.

    Args:
        task: one of `TASKS`.
        argv: words after the task.
    """
    if task == "scenes":
        return evaluate_scenes.main(argv)
    arguments = task_parser(task).parse_args(argv)
    restored = named_paths(arguments.pred)
    out = Path(arguments.out)
    check_folder(out, "--out")
    check_normalize(arguments.normalize, "--normalize")
    if arguments.pictures < 0:
        raise InputError(f"--pictures {arguments.pictures} must be 0 or more")
    if arguments.resamples < 2:
        raise InputError(f"--resamples {arguments.resamples} must be 2 or more")
    from lit_thermal.downstream.pictures import rows
    from lit_thermal.downstream.task_result import show, write

    images = rows(
        Path(arguments.hr),
        restored,
        Path(arguments.lr) if arguments.lr else None,
        Path(arguments.guide) if arguments.guide else None,
        arguments.normalize,
    )
    judge = {"detection": _detection, "segmentation": _segmentation, "zero_shot": _zero_shot}[task]
    result = judge(arguments, images, out)
    write(result, out)
    show(result)
    print(f"numbers in {out / 'metrics.json'} and {out / 'table.csv'}, pictures in {out / 'pictures'}")
    return 0


def _detection(arguments: "argparse.Namespace", images: "Mapping[str, Pictures]", out: Path) -> "TaskResult":
    from lit_thermal.data.formats.objects import FORMAT_CLASSES
    from lit_thermal.downstream.detection import Recipe, train_detector
    from lit_thermal.downstream.detectors import trained_detector
    from lit_thermal.downstream.judging import judge_detection

    objects = _objects(Path(arguments.boxes), images["HR"], arguments)
    classes = arguments.classes or FORMAT_CLASSES.get(arguments.format or "") or _words(objects)
    device = choose_device(arguments.device)
    weights = arguments.weights
    if arguments.train:
        pictures = _training_images(arguments)
        known = _objects(Path(arguments.train_boxes or arguments.boxes), pictures, arguments)
        file = Path(weights or out / "detector.pt")
        recipe = Recipe(**_given(arguments, "steps", "batch", "seed", "learning_rate"))
        train_detector(arguments.detector, classes, pictures, known, file, recipe, device)
        weights = str(file)
    detector, unknown = trained_detector(arguments.detector, weights, classes)
    return judge_detection(
        images,
        objects,
        detector.to(device),
        dataset=_dataset(arguments),
        note=f"Detector {arguments.detector}, {_of_weights(weights)}.",
        folder=out / "pictures",
        pictures=arguments.pictures,
        resamples=arguments.resamples,
        unknown=unknown,
    )


def _segmentation(arguments: "argparse.Namespace", images: "Mapping[str, Pictures]", out: Path) -> "TaskResult":
    from lit_thermal.downstream.judging import judge_segmentation
    from lit_thermal.downstream.segmentation import Recipe, train_segmenter, trained_segmenter

    classes = _mask_classes(arguments)
    masks = _masks(Path(arguments.masks), images["HR"], classes, arguments)
    device = choose_device(arguments.device)
    weights = Path(arguments.weights) if arguments.weights else None
    if arguments.train:
        if not arguments.train_masks:
            raise InputError("--train needs the masks of its images: --train_masks FOLDER")
        pictures = _training_images(arguments)
        known = _masks(Path(arguments.train_masks), pictures, classes, arguments)
        weights = weights or out / "segmenter.pt"
        recipe = Recipe(**_given(arguments, "steps", "batch", "seed", "learning_rate"))
        train_segmenter(
            arguments.segformer, classes, pictures, lambda name: known[name].long(), weights, recipe, device
        )
    segmenter = trained_segmenter(arguments.segformer, weights, classes)
    return judge_segmentation(
        images,
        lambda name: masks[name].long(),
        segmenter.to(device),
        dataset=_dataset(arguments),
        note=f"SegFormer {arguments.segformer}, {_of_weights(weights)}.",
        folder=out / "pictures",
        pictures=arguments.pictures,
        resamples=arguments.resamples,
    )


def _zero_shot(arguments: "argparse.Namespace", images: "Mapping[str, Pictures]", out: Path) -> "TaskResult":
    from lit_thermal.data.formats.objects import FORMAT_CLASSES
    from lit_thermal.downstream.judging_zero_shot import judge_zero_shot
    from lit_thermal.downstream.zero_shot import Grounding, Segmenting, match_words

    if arguments.masks and not arguments.sam:
        raise InputError("--masks are compared with the masks of SAM: give --sam too")
    given = _meanings(arguments.match)
    objects = _objects(Path(arguments.boxes), images["HR"], arguments) if arguments.boxes else None
    classes = _mask_classes(arguments) if arguments.masks else ()
    known = _masks(Path(arguments.masks), images["HR"], classes, arguments) if arguments.masks else None
    device = choose_device(arguments.device)
    grounding = Grounding(arguments.model, arguments.prompt, arguments.threshold, arguments.text_threshold, device)
    segmenting = Segmenting(arguments.sam, device) if arguments.sam else None
    meaning = {}
    if objects is not None:
        # _words(objects) lacks classes that no image shows
        named = [name for names in given.values() for name in names if name not in classes]
        boxed = FORMAT_CLASSES.get(arguments.format or "") or tuple(dict.fromkeys((*_words(objects), *named)))
        meaning = match_words(grounding.words, boxed, _only(given, boxed))
    masks = None
    if known is not None:
        levels = match_words(grounding.words, classes, _only(given, classes) if objects is not None else given)
        masks = {name: _as_words(mask, classes, levels).byte() for name, mask in known.items()}
    return judge_zero_shot(
        images,
        objects,
        meaning,
        grounding,
        dataset=_dataset(arguments),
        folder=out / "pictures",
        segmenting=segmenting,
        masks=None if masks is None else lambda name: masks[name].long(),
        pictures=arguments.pictures,
        resamples=arguments.resamples,
        note=f"Grounding DINO {arguments.model}" + (f", SAM {arguments.sam}." if arguments.sam else "."),
    )


def _objects(source: Path, images: "Pictures", arguments: "argparse.Namespace") -> "dict[str, Objects]":
    """Read the objects of images, with boxes in the images' own pixels."""
    from lit_thermal.data.formats.objects import place_objects, read_objects

    found = read_objects(source, images.names, arguments.format)
    return {name: place_objects(objects, images.size(name), arguments.change, name) for name, objects in found.items()}


def _masks(
    folder: Path, images: "Pictures", classes: Sequence[str], arguments: "argparse.Namespace"
) -> "dict[str, Tensor]":
    """Read the masks of images at their size, one byte per pixel, since those of a training stay in memory."""
    from lit_thermal.data.formats.class_masks import find_masks, place_mask, read_mask

    form: MaskFormat = "fmb" if arguments.mask_format == "fmb" else "index"
    return {
        name: place_mask(read_mask(file, len(classes), form), images.size(name), arguments.change, name).byte()
        for name, file in find_masks(folder, list(images.names)).items()
    }


def _as_words(mask: "Tensor", classes: Sequence[str], meaning: Mapping[str, int]) -> "Tensor":
    """Replace the classes of a mask with the words of a prompt; 0 is no word."""
    import torch

    from lit_thermal.data.formats.class_masks import IGNORED

    levels = torch.zeros(256, dtype=torch.int64)
    levels[IGNORED] = IGNORED
    for name, word in meaning.items():
        levels[list(classes).index(name)] = word + 1
    return levels[mask.long()]


def _mask_classes(arguments: "argparse.Namespace") -> tuple[str, ...]:
    from lit_thermal.data.datamodules.scene_files import SIMULATED_MASK_CLASSES
    from lit_thermal.data.formats.class_masks import FMB_CLASSES

    known = {"fmb": FMB_CLASSES, "simulated": SIMULATED_MASK_CLASSES}.get(arguments.mask_format)
    if known and arguments.classes:
        raise InputError(f"--mask_format {arguments.mask_format} has its own classes: leave --classes out")
    if not known and not arguments.classes:
        raise InputError(
            "the classes of the masks are unknown: name them with --classes, level 0 first, or give --mask_format"
        )
    return known or tuple(arguments.classes)


def _training_images(arguments: "argparse.Namespace") -> "Pictures":
    """Return the targets to train on; up to 2 GiB of them are kept in memory."""
    from lit_thermal.downstream.pictures import targets

    pictures = targets(Path(arguments.train), arguments.normalize)
    height, width = pictures.size(pictures.names[0])
    return targets(Path(arguments.train), arguments.normalize, keep=2**31 // (4 * height * width))


def _words(objects: "Mapping[str, Objects]") -> tuple[str, ...]:
    words = sorted({label for each in objects.values() for label in each.labels})
    if not words:
        raise InputError("no image has a box: give annotated images")
    return tuple(words)


def _meanings(given: Sequence[str]) -> dict[str, list[str]]:
    result = {}
    for word in given:
        name, sign, classes = word.partition("=")
        if not sign or not classes:
            raise InputError(f"--match {word} must be WORD=CLASS or WORD=CLASS+CLASS")
        result[name] = classes.split("+")
    return result


def _only(given: Mapping[str, Sequence[str]], classes: Sequence[str]) -> dict[str, list[str]]:
    """Return the meanings of words among these classes; boxes and masks may have different classes."""
    kept = {word: [name for name in names if name in classes] for word, names in given.items()}
    return {word: names for word, names in kept.items() if names}


def _given(arguments: "argparse.Namespace", *names: str) -> dict[str, Any]:
    """Return the settings of a recipe that the command line gives."""
    found = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    for name, value in found.items():
        if value < (0 if name == "seed" else 1 if name in ("steps", "batch") else 1e-12):
            raise InputError(f"--{name} {value} is too small")
    if "learning_rate" in found:
        found["lr"] = found.pop("learning_rate")
    return found


def _of_weights(weights: str | Path | None) -> str:
    """Describe weights for the protocol, with the settings of their training if the file has them."""
    from lit_thermal.downstream.training import read_trained

    if weights is None:
        return "weights as published"
    if weights == "DEFAULT":
        return "torchvision's weights for COCO"
    try:
        record = read_trained(Path(weights))["record"]
    except InputError:
        return f"weights {Path(weights).name}"
    settings = ", ".join(f"{key} {value}" for key, value in record.items() if key not in ("detector", "segmenter"))
    return f"trained on targets (HR) alone: {settings}"


def _dataset(arguments: "argparse.Namespace") -> str:
    return str(arguments.name or name_of(Path(arguments.hr)))
