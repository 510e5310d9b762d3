"""The verb `evaluate`: measure restored files of any program against their targets."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_thermal.cli import evaluate_task
from lit_thermal.cli.device import choose_device
from lit_thermal.cli.named_paths import name_of, named_paths
from lit_thermal.cli.parser import Parser
from lit_thermal.data.formats.normalize import HELP, NORMALIZE, check_normalize
from lit_thermal.errors import InputError
from lit_thermal.files import check_folder

if TYPE_CHECKING:
    import torch

    from lit_thermal.measuring.comparators import Comparator
    from lit_thermal.measuring.folders import Matched


def main(argv: Sequence[str]) -> int:
    """Measure one data set, or run a task; returns the exit code."""
    if argv and argv[0] in evaluate_task.TASKS:
        return evaluate_task.main(argv[0], argv[1:])
    arguments = _parser(*(_names() if {"-h", "--help"} & set(argv) else ())).parse_args(argv)
    predictions = named_paths(arguments.pred)
    given = named_paths([*arguments.comparator, *arguments.two_stage])
    _check(arguments, predictions, given)
    check_normalize(arguments.normalize, "--normalize")
    from lit_thermal.evaluation.evaluator import Evaluator
    from lit_thermal.evaluation.protocols import protocols_by_name
    from lit_thermal.measuring.folders import Folders, match
    from lit_thermal.measuring.measure import against_first, cost, measure, show_paired
    from lit_thermal.metrics.catalogue import by_name

    metrics, protocols = by_name(arguments.metrics), protocols_by_name(arguments.protocol)
    lr = None if arguments.lr is None else Path(arguments.lr)
    matched = match(
        Folders(
            Path(arguments.hr),
            predictions,
            lr,
            arguments.common,
            arguments.normalize,
            arguments.temporal_scale,
        )
    )
    if matched.left_out:
        print(f"measuring the {len(matched.names)} that all folders have: {matched.left_out}")
    if matched.cut:
        print(matched.cut)
    if arguments.protocol and matched.video:
        raise InputError("--protocol is for images, and these are videos: leave it out")
    device = choose_device(arguments.device)
    comparators = _comparators(arguments, given, matched, device)
    methods = [*predictions, *comparators]
    dataset = arguments.name or name_of(Path(arguments.hr))
    evaluator = Evaluator(matched.scale or 1, metrics, protocols)
    scores = evaluator.scores
    seconds = measure(matched.pieces(), evaluator, dataset, comparators, device)
    if len(methods) == len(comparators) == 1:
        images = sum(row.method == methods[0] for row in scores.rows)
        scores.cost = cost(comparators[methods[0]], device, seconds, images)
    pairs = against_first(scores, methods)
    # printed first, so that a failure to write loses nothing
    evaluator.print()
    show_paired(pairs, methods[0])
    if arguments.out is not None:
        sources = {"hr": arguments.hr, "lr": arguments.lr, **{n: str(p) for n, p in (predictions | given).items()}}
        more = {"paired": {"first": methods[0], "others": pairs}, "sources": sources}
        evaluator.write(Path(arguments.out), seconds=seconds, config=None, more=more)
    return 0


def _check(arguments: argparse.Namespace, predictions: dict[str, Path], given: dict[str, Path]) -> None:
    if not predictions and not given:
        raise InputError("evaluate has nothing to measure; give --pred DIR, or --comparator FILE with --lr DIR")
    if given and arguments.lr is None:
        raise InputError("--comparator and --two_stage restore the inputs: give the folder of the inputs with --lr")
    if both := predictions.keys() & given.keys():
        raise InputError(f"two methods have the name {min(both)}: give them different names, as in NAME=PATH")
    if arguments.temporal_scale < 1:
        raise InputError(f"--temporal_scale {arguments.temporal_scale} must be at least 1")
    if arguments.out is not None:
        check_folder(arguments.out, "--out")


def _comparators(
    arguments: argparse.Namespace, given: dict[str, Path], matched: "Matched", device: "torch.device"
) -> "dict[str, Comparator]":
    """Load the models that restore the inputs, and check that their scales fit."""
    from lit_thermal.measuring.comparators import load_comparator

    if arguments.comparator and matched.video:
        raise InputError("--comparator restores images, and these are videos; --two_stage blends them in time first")
    if arguments.two_stage and not matched.video:
        raise InputError("--two_stage is for videos, and these are images: give the file with --comparator")
    found = {name: load_comparator(path, device) for name, path in given.items()}
    for name, comparator in found.items():
        if comparator.scale != matched.scale:
            raise InputError(
                f"{given[name]} holds {comparator.name} of scale {comparator.scale}, and the targets are "
                f"{matched.scale} times as large as the inputs"
            )
    return found


def _names() -> tuple[str, str]:
    """Return the names that --metrics and --protocol accept, for their help texts; this imports torch."""
    from lit_thermal.evaluation.protocols import all_protocols
    from lit_thermal.metrics.catalogue import on_request

    return ", ".join(metric.name for metric in on_request()), ", ".join(all_protocols())


def _parser(metrics: str = "", protocols: str = "") -> Parser:
    parser = Parser(
        "lit_thermal evaluate",
        "Measure restored files against their targets: images (8 or 16 bit, paired by name) or videos (folders of "
        "frames, or files). See also `evaluate detection|segmentation|zero_shot --help` for downstream tasks, and "
        "`evaluate scenes --help` for files to try them on.",
    )
    parser.add_argument(
        "--pred", metavar="[NAME=]DIR", nargs="+", action="extend", default=[], help="folders of restored files"
    )
    parser.add_argument("--hr", metavar="DIR", required=True, help="folder of targets")
    parser.add_argument("--lr", metavar="DIR", help="folder of inputs; with it the simple baselines are measured too")
    parser.add_argument(
        "--comparator",
        metavar="[NAME=]FILE",
        nargs="+",
        action="extend",
        default=[],
        help="also measure images restored from --lr by a lit_thermal checkpoint or by weights that spandrel supports",
    )
    parser.add_argument(
        "--two_stage",
        metavar="[NAME=]FILE",
        nargs="+",
        action="extend",
        default=[],
        help="the same for videos, whose frames are first interpolated linearly in time",
    )
    parser.add_argument(
        "--metrics",
        metavar="NAME",
        nargs="+",
        action="extend",
        default=[],
        help=f"further metrics: {metrics}; DOVER as dover=FILE.onnx",
    )
    parser.add_argument(
        "--protocol",
        metavar="NAME",
        nargs="+",
        action="extend",
        default=[],
        help=f"further protocols to measure images by: {protocols}",
    )
    parser.add_argument("--out", metavar="DIR", help="folder for metrics.json and metrics.csv")
    parser.add_argument("--name", help="name of the data set in tables (default: the name of the --hr folder)")
    parser.add_argument("--common", action="store_true", help="skip files that are missing in any of the folders")
    parser.add_argument(
        "--temporal_scale",
        type=int,
        default=2,
        metavar="S",
        help="videos without --lr: every S-th frame was an input frame (default: 2)",
    )
    parser.add_argument(
        "--normalize",
        default=NORMALIZE,
        metavar="MAPPING",
        help=f"mapping of 16-bit counts to [0, 1]: {HELP} (default: robust, the range without isolated dead and hot "
        "pixels)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    return parser
