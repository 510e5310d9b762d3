"""Options of `evaluate detection`, `evaluate segmentation` and `evaluate zero_shot`."""

from lit_thermal.cli.parser import Parser
from lit_thermal.data.formats.normalize import HELP, NORMALIZE

_ABOUT = {
    "detection": "Average precision of one detector on enlarged LR, restored, visible and HR images.",
    "segmentation": "Intersection over union of one SegFormer on enlarged LR, restored, visible and HR images.",
    "zero_shot": "Boxes of Grounding DINO and masks of SAM by one prompt; rows: enlarged LR, restored, visible, HR.",
}


def task_parser(task: str) -> Parser:
    """Return the parser of a task."""
    parser = Parser(f"lit_thermal evaluate {task}", _ABOUT[task])
    _add_images(parser)
    _add_annotations(parser, task)
    if task == "zero_shot":
        _add_prompt(parser)
    else:
        _add_network(parser, task)
    return parser


def _add_images(parser: Parser) -> None:
    add = parser.add_argument
    add("--pred", metavar="[NAME=]DIR", nargs="+", action="extend", default=[], help="folders of restored images")
    add("--hr", metavar="DIR", required=True, help="folder of targets; the images of all folders are paired by stem")
    add("--lr", metavar="DIR", help="folder of inputs, which are enlarged by bicubic interpolation")
    add("--guide", metavar="DIR", help="folder of visible images")
    add("--out", metavar="DIR", required=True, help="folder for metrics.json, tables and pictures")
    add("--name", help="name of the data set in tables (default: the name of the --hr folder)")
    add("--change", choices=("resized", "cropped"), help="change that made the images from the annotated ones")
    text = f"mapping of 16-bit counts to [0, 1]: {HELP} (default: robust)"
    add("--normalize", default=NORMALIZE, metavar="MAPPING", help=text)
    add("--pictures", type=int, default=4, metavar="N", help="number of scenes to draw (default: 4)")
    add("--resamples", type=int, default=500, metavar="N", help="bootstrap resamples for intervals (default: 500)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")


def _add_annotations(parser: Parser, task: str) -> None:
    add = parser.add_argument
    if task != "segmentation":
        text = "folder of Pascal VOC XML files, or a COCO JSON file"
        add("--boxes", metavar="PATH", required=task == "detection", help=text)
        text = "format of the boxes (default: recognised from PATH)"
        add("--format", choices=("voc", "coco", "llvip", "m3fd"), help=text)
    if task != "detection":
        text = "folder of gray images with one level per class"
        add("--masks", metavar="DIR", required=task == "segmentation", help=text)
        text = "meaning of the levels (default: index, the order of --classes)"
        add("--mask_format", choices=("index", "fmb", "simulated"), default="index", help=text)
    add("--classes", nargs="+", metavar="WORD", help="classes to evaluate; for masks in the order of their levels")


def _add_prompt(parser: Parser) -> None:
    add = parser.add_argument
    text = "words to find, each ended by a full stop (default: those of 3M-TI)"
    add("--prompt", default="automobile. person.", help=text)
    text = "classes that a word of the prompt means (default: its own name or a synonym)"
    add("--match", metavar="WORD=CLASS[+CLASS]", action="append", default=[], help=text)
    text = "Grounding DINO: a folder, or a name on the hub"
    add("--model", default="IDEA-Research/grounding-dino-tiny", metavar="SOURCE", help=text)
    add("--sam", metavar="SOURCE", help="SAM for masks of the boxes: a folder, or a name on the hub")
    add("--threshold", type=float, default=0.3, help="lowest score of a box (default: 0.3)")
    add("--text_threshold", type=float, default=0.25, help="lowest score of a word (default: 0.25)")


def _add_network(parser: Parser, task: str) -> None:
    add = parser.add_argument
    if task == "detection":
        text = "fcos_small, a detector of torchvision, or a transformers model: a folder, or a name on the hub"
        add("--detector", default="fasterrcnn_mobilenet_v3_large_fpn", metavar="NAME", help=text)
        add("--train_boxes", metavar="PATH", help="boxes of the images to train on (default: --boxes)")
    else:
        add("--segformer", default="b1", metavar="SIZE", help="b0 to b5, a folder, or a name on the hub (default: b1)")
        add("--train_masks", metavar="DIR", help="folder of the masks of the images to train on")
    coco = "; DEFAULT takes torchvision's COCO weights" if task == "detection" else ""
    add("--weights", metavar="FILE", help=f"weights of the network; with --train the file to write or resume{coco}")
    add("--train", metavar="DIR", help="folder of targets to train on first")
    add("--steps", type=int, help=f"training steps (default: {3000 if task == 'detection' else 25_000})")
    add("--batch", type=int, help=f"images per step (default, as in the paper: {16 if task == 'detection' else 8})")
    rate = "0.01" if task == "detection" else "6e-5"
    add("--learning_rate", type=float, help=f"learning rate (default, as in the paper: {rate})")
    add("--seed", type=int, help="seed of the training (default: 0)")
