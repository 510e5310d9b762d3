"""`evaluate detection`, `evaluate segmentation`, `evaluate zero_shot`: what restored images are good for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from lit_thermal.cli import evaluate_scenes
from lit_thermal.cli.device import choose_device
from lit_thermal.cli.named_paths import name_of, named_paths
from lit_thermal.cli.parser import Parser
from lit_thermal.data.formats.normalize import NORMALIZE, Normalize
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
"""What `evaluate` hands over: three tasks, and the simulated scenes to try them on."""


def main(task: str, argv: Sequence[str]) -> int:
    """Judge images by a task; returns the exit code.

    Args:
        task: one of `TASKS`.
        argv: the words after it.
    """
    if task == "scenes":
        return evaluate_scenes.main(argv)
    arguments = _parser(task).parse_args(argv)
    restored = named_paths(arguments.pred)
    out = Path(arguments.out)
    check_folder(out, "--out")
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
        told=f"Detector {arguments.detector}, {_of_weights(weights)}.",
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
        told=f"SegFormer {arguments.segformer}, {_of_weights(weights)}.",
        folder=out / "pictures",
        pictures=arguments.pictures,
        resamples=arguments.resamples,
    )


def _zero_shot(arguments: "argparse.Namespace", images: "Mapping[str, Pictures]", out: Path) -> "TaskResult":
    from lit_thermal.data.formats.objects import FORMAT_CLASSES
    from lit_thermal.downstream.judging import judge_zero_shot
    from lit_thermal.downstream.zero_shot import Grounding, Segmenting, match_words

    if arguments.masks and not arguments.sam:
        raise InputError("--masks are held against SAM's: give it by --sam")
    told = _meanings(arguments.match)
    objects = _objects(Path(arguments.boxes), images["HR"], arguments) if arguments.boxes else None
    classes = _mask_classes(arguments) if arguments.masks else ()
    known = _masks(Path(arguments.masks), images["HR"], classes, arguments) if arguments.masks else None
    device = choose_device(arguments.device)
    grounding = Grounding(arguments.model, arguments.prompt, arguments.threshold, arguments.text_threshold, device)
    segmenting = Segmenting(arguments.sam, device) if arguments.sam else None
    meaning = {}
    if objects is not None:
        # A class that no image shows is not among the words that were read.
        named = [name for names in told.values() for name in names if name not in classes]
        boxed = FORMAT_CLASSES.get(arguments.format or "") or tuple(dict.fromkeys((*_words(objects), *named)))
        meaning = match_words(grounding.words, boxed, _only(told, boxed))
    masks = None
    if known is not None:
        levels = match_words(grounding.words, classes, _only(told, classes) if objects is not None else told)
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
        told=f"Grounding DINO {arguments.model}" + (f", SAM {arguments.sam}." if arguments.sam else "."),
    )


def _objects(source: Path, images: "Pictures", arguments: "argparse.Namespace") -> "dict[str, Objects]":
    """The objects of images, their boxes where the images are."""
    from lit_thermal.data.formats.objects import place_objects, read_objects

    found = read_objects(source, images.names, arguments.format)
    return {name: place_objects(objects, images.size(name), arguments.change, name) for name, objects in found.items()}


def _masks(
    folder: Path, images: "Pictures", classes: Sequence[str], arguments: "argparse.Namespace"
) -> "dict[str, Tensor]":
    """The masks of images, of their size, in one byte a pixel: those of a training are kept in memory."""
    from lit_thermal.data.formats.class_masks import find_masks, place_mask, read_mask

    form: MaskFormat = "fmb" if arguments.mask_format == "fmb" else "index"
    return {
        name: place_mask(read_mask(file, len(classes), form), images.size(name), arguments.change, name).byte()
        for name, file in find_masks(folder, list(images.names)).items()
    }


def _as_words(mask: "Tensor", classes: Sequence[str], meaning: Mapping[str, int]) -> "Tensor":
    """Classes of a mask as words of a prompt: 0 is none of them."""
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
        raise InputError("name the classes of the masks, level 0 first, by --classes, or give --mask_format")
    return known or tuple(arguments.classes)


def _training_images(arguments: "argparse.Namespace") -> "Pictures":
    """The targets to train on, kept in memory as far as 2 GiB go."""
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
            raise InputError(f"--match {word} is no WORD=CLASS or WORD=CLASS+CLASS")
        result[name] = classes.split("+")
    return result


def _only(told: Mapping[str, Sequence[str]], classes: Sequence[str]) -> dict[str, list[str]]:
    """What words mean among these classes, where boxes and masks have different ones."""
    kept = {word: [name for name in names if name in classes] for word, names in told.items()}
    return {word: names for word, names in kept.items() if names}


def _given(arguments: "argparse.Namespace", *names: str) -> dict[str, Any]:
    """What of a recipe the command line says."""
    found = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    for name, value in found.items():
        if value < (0 if name == "seed" else 1 if name in ("steps", "batch") else 1e-12):
            raise InputError(f"--{name} {value} is too small")
    if "learning_rate" in found:
        found["lr"] = found.pop("learning_rate")
    return found


def _of_weights(weights: str | Path | None) -> str:
    """What a protocol says of weights: how they were trained, where their file tells."""
    from lit_thermal.downstream.training import read_trained

    if weights is None:
        return "weights as published"
    if weights == "DEFAULT":
        return "torchvision's weights for COCO"
    try:
        record = read_trained(Path(weights))["record"]
    except InputError:
        return f"weights {Path(weights).name}"
    told = ", ".join(f"{key} {value}" for key, value in record.items() if key not in ("detector", "segmenter"))
    return f"trained on targets (HR) alone: {told}"


def _dataset(arguments: "argparse.Namespace") -> str:
    return str(arguments.name or name_of(Path(arguments.hr)))


def _parser(task: str) -> Parser:
    about = {
        "detection": "Average precision of one detector on LR enlarged, restored, visible and HR images.",
        "segmentation": "Intersection over union of one SegFormer on LR enlarged, restored, visible and HR images.",
        "zero_shot": "What Grounding DINO and SAM find by one prompt in LR enlarged, restored, visible and HR images.",
    }
    parser = Parser(f"lit_thermal evaluate {task}", about[task])
    add = parser.add_argument
    add("--pred", metavar="[NAME=]DIR", nargs="+", action="extend", default=[], help="what programs restored")
    add("--hr", metavar="DIR", required=True, help="targets; files of one stem belong together everywhere")
    add("--lr", metavar="DIR", help="inputs, enlarged by bicubic interpolation")
    add("--guide", metavar="DIR", help="visible images")
    add("--out", metavar="DIR", required=True, help="for metrics.json, tables and pictures")
    add("--name", help="of the data set in tables (default: after --hr)")
    add("--change", choices=("resized", "cropped"), help="how images came from those that were annotated")
    add("--normalize", choices=get_args(Normalize), default=NORMALIZE, help="of 16 bit (default: robust)")
    add("--pictures", type=int, default=4, metavar="N", help="how many scenes are drawn (default: 4)")
    add("--resamples", type=int, default=500, metavar="N", help="of the images, for intervals (default: 500)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    if task != "segmentation":
        text = "folder of Pascal VOC's XML, or COCO's JSON"
        add("--boxes", metavar="PATH", required=task == "detection", help=text)
        add("--format", choices=("voc", "coco", "llvip", "m3fd"), help="of the boxes (default: by PATH)")
    if task != "detection":
        add("--masks", metavar="DIR", required=task == "segmentation", help="gray images, one level a class")
        add("--mask_format", choices=("index", "fmb", "simulated"), default="index", help="what levels mean")
    add("--classes", nargs="+", metavar="WORD", help="what is judged; of masks in the order of levels")
    if task == "zero_shot":
        add("--prompt", default="automobile. person.", help="the same for all rows (default: 3M-TI's)")
        add(
            "--match", metavar="WORD=CLASS[+CLASS]", action="append", default=[], help="what a word of the prompt means"
        )
        add("--model", default="IDEA-Research/grounding-dino-tiny", metavar="SOURCE", help="Grounding DINO, by folder")
        add("--sam", metavar="SOURCE", help="SAM, by folder or name on the hub, for masks of the boxes")
        add("--threshold", type=float, default=0.3, help="least score of a box (default: 0.3)")
        add("--text_threshold", type=float, default=0.25, help="least score of a word (default: 0.25)")
        return parser
    if task == "detection":
        add("--detector", default="fasterrcnn_mobilenet_v3_large_fpn", metavar="NAME", help=_DETECTORS)
        add("--train_boxes", metavar="PATH", help="of the images to train on (default: --boxes)")
    else:
        add("--segformer", default="b1", metavar="SIZE", help="b0 to b5, or a folder or name on the hub (default: b1)")
        add("--train_masks", metavar="DIR", help="of the images to train on")
    add("--weights", metavar="FILE", help="of a training, which is made or gone on with by --train; DEFAULT: COCO's")
    add("--train", metavar="DIR", help="targets to train on before")
    add("--steps", type=int, help="of the training")
    add("--batch", type=int, help="images a step (default: the papers' 16, for segmentation 8)")
    add("--learning_rate", type=float, help="(default: the papers' 0.01, for segmentation 6e-5)")
    add("--seed", type=int, help="of the training")
    return parser


_DETECTORS = "fcos_small, a detector of torchvision, or a folder or name on the hub of transformers"
