"""The verb `convert`: weights in the layout of a released code become a checkpoint."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lit_thermal.cli.parser import Parser, did_you_mean
from lit_thermal.errors import InputError


class Layout(NamedTuple):
    """How a method's released weights are read."""

    function: str
    """`module:function`, which takes the file and the options below and returns the model with its weights."""
    about: str
    options: dict[str, tuple[tuple[str, ...], str]]
    """Name to its choices, the default first, and one line about it."""
    words: str
    """What the verbs are given besides, an option in braces."""
    anew: str
    """What `fit` is given beyond that, so that it fetches nothing that the checkpoint replaces."""


METHODS = {
    "corefusion": Layout(
        "lit_thermal.weights.convert.corefusion:convert",
        "the state dict of the published network: two ResNet-34, decoder and contrastive heads",
        {
            "upsampling": (
                ("nearest", "bilinear", "bicubic"),
                "how the thermal input is enlarged: nearest, as the weights were trained, or bilinear as in the paper",
            )
        },
        "-c paper/corefusion --model.upsampling={upsampling}",
        "--model.guide_encoder.pretrained=false --model.thermal_encoder.pretrained=false",
    ),
}


def main(argv: Sequence[str]) -> int:
    """Convert one file; returns the exit code."""
    method = argv[0] if argv else ""
    if method not in METHODS:
        _overview().parse_args(argv[:1])
        raise InputError(
            f"lit_thermal convert knows no method {method!r}{did_you_mean(method, METHODS)} "
            f"(methods: {', '.join(METHODS)})"
        )
    layout = METHODS[method]
    arguments = _parser(method, layout).parse_args(argv[1:])
    options = {name: getattr(arguments, name) for name in layout.options}
    source, target = Path(arguments.reference), Path(arguments.ours)
    _check_target(source, target, arguments.overwrite)
    from lit_thermal.weights import save_model

    module, function = layout.function.split(":")
    model = getattr(importlib.import_module(module), function)(source, **options)
    save_model(model, target)
    parameters = sum(p.numel() for p in model.parameters())
    words = layout.words.format(**options)
    print(f"{source}: {len(model.state_dict())} entries, {parameters:,} parameters -> {target}")
    print(f"measure it:  lit_thermal test {words} --ckpt_path {target}")
    print(f"use it:      lit_thermal predict {words} --ckpt_path {target}")
    print(f"go on:       lit_thermal fit {words} {layout.anew} --from {target}")
    return 0


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    """Refuse a place that cannot or should not be written, before anything is read."""
    if target.is_dir():
        raise InputError(f"OURS {target} is a folder: name a file in it, such as {target / 'converted.ckpt'}")
    if not target.parent.is_dir():
        raise InputError(f"OURS {target} cannot be written: there is no folder {target.parent}; make it first")
    if target.exists() and source.exists() and target.samefile(source):
        raise InputError(f"OURS {target} is REFERENCE itself: choose another name")
    if target.exists() and not overwrite:
        raise InputError(f"OURS {target} exists: choose another name or give --overwrite")


def _overview() -> Parser:
    parser = Parser("lit_thermal convert", "Make a checkpoint of weights in the layout of a method's released code.")
    parser.add_argument(
        "method", metavar="METHOD", help=f"{', '.join(METHODS)}; `lit_thermal convert METHOD --help` tells its options"
    )
    return parser


def _parser(method: str, layout: Layout) -> Parser:
    parser = Parser(f"lit_thermal convert {method}", f"Read {layout.about}, and write it as a checkpoint.")
    parser.add_argument("reference", metavar="REFERENCE", help="file that the released code wrote (.pth)")
    parser.add_argument("ours", metavar="OURS", help="checkpoint to write (.ckpt)")
    for name, (choices, about) in layout.options.items():
        parser.add_argument(f"--{name}", choices=choices, default=choices[0], help=f"{about} (default: {choices[0]})")
    parser.add_argument("--overwrite", action="store_true", help="replace OURS where it exists")
    return parser
