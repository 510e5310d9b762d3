"""The verb `convert`: converts weights of a method's released code to a checkpoint."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lit_thermal.cli.parser import Parser, did_you_mean
from lit_thermal.cli.target import check_target
from lit_thermal.errors import InputError


class Layout(NamedTuple):
    """Layout of the released weights of a method."""

    function: str
    """`module:function` that takes the files and options below and returns the model with its weights."""
    about: str
    """Description of the file."""
    files: dict[str, tuple[str, str]]
    """Further required files: name of the option to its placeholder in the help and its help text."""
    options: dict[str, tuple[tuple[str, ...], str]]
    """Further options: name to its choices, the default first, and its help text."""
    verb_words: str
    """Options of the verbs for the converted model; braces enclose an option, a file or an argument of the model."""
    fit_words: str
    """Further options of `fit` that prevent downloads of weights which the checkpoint replaces."""
    note: str = ""
    """Last line of the output, about inputs of the model that are never in a checkpoint."""
    restores: bool = True
    """Whether the model restores images; otherwise it is only a start for training."""


METHODS = {
    "corefusion": Layout(
        "lit_thermal.weights.convert.corefusion:convert",
        "the state dict of the published network: two ResNet-34, decoder and contrastive heads",
        {},
        {
            "upsampling": (
                ("nearest", "bilinear", "bicubic"),
                "enlargement of the thermal input: nearest, as in the released training, or bilinear, as in the paper",
            )
        },
        "-c paper/corefusion --model.upsampling={upsampling}",
        "--model.guide_encoder.pretrained=false --model.thermal_encoder.pretrained=false",
    ),
    "difiisr": Layout(
        "lit_thermal.weights.convert.difiisr:convert",
        "the state dicts of the published networks: a Swin U-Net and the VQ autoencoder around it",
        {"vq": ("AUTOENCODER", "file of the VQ autoencoder, autoencoder_vq_f4.pth of ResShift's release v2.0")},
        {},
        "-c paper/difiisr_distilled",
        "--model.first_stage.weights= --model.objective=Denoising",
    ),
    "3m_ti": Layout(
        "lit_thermal.weights.convert.three_m_ti:convert",
        "the file that the released training code saved: a UNet with LoRA, and LoRA and skips of the autoencoder",
        {"base": ("FOLDER", "local folder of SD-Turbo, the base of the training, or its name on the hub")},
        {},
        "-c paper/3m_ti --model.base.folder={base} --model.train={train} --model.unet_rank={unet_rank} "
        "--model.vae_rank={vae_rank} --model.latent={latent} --model.upsampling={upsampling}",
        "",
        "prompts:     --model.prompt.file needs a file with tags of each image, as in 'name.png: tag, tag'; without it "
        "add --model.prompt=FixedPrompt",
    ),
    "real_iisr": Layout(
        "lit_thermal.weights.convert.real_iisr:convert",
        "the file of the released training code, Real-IISR.pth: the transformer with encoders and tokenizer",
        {},
        {},
        "-c paper/real_iisr_released",
        "--model.tokenizer_weights=",
    ),
    "varsr": Layout(
        "lit_thermal.weights.convert.varsr:convert",
        "the file of VARSR's released training code, VARSR.pth, as a start for the training of Real-IISR",
        {},
        {},
        "-c paper/real_iisr_released",
        "",
        restores=False,
    ),
}


def main(argv: Sequence[str]) -> int:
    """Convert one file; return the exit code."""
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
    source, target = Path(arguments.reference), Path(arguments.output)
    files = {name: Path(getattr(arguments, name)) for name in layout.files}
    named = {"REFERENCE": source} | {layout.files[name][0]: path for name, path in files.items()}
    check_target(named, target, arguments.overwrite)
    from lit_thermal.weights import save_model

    module, function = layout.function.split(":")
    model = getattr(importlib.import_module(module), function)(source, **files, **options)
    save_model(model, target)
    state = model.state_dict()
    # Frozen parts with files of their own are not in the checkpoint.
    parameters = sum(p.numel() for name, p in model.named_parameters() if name in state)
    assert model.config is not None
    words = layout.verb_words.format(**model.config["init_args"] | options | files)
    read = ", ".join(map(str, named.values()))
    print(f"{read}: {len(state)} entries, {parameters:,} parameters -> {target}")
    if layout.restores:
        print(f"measure it:  lit_thermal test {words} --ckpt_path {target}")
        print(f"use it:      lit_thermal predict {words} --ckpt_path {target}")
    print(f"continue:    lit_thermal fit {' '.join([words, *layout.fit_words.split()])} --from {target}")
    if layout.note:
        print(layout.note)
    return 0


def _overview() -> Parser:
    parser = Parser("lit_thermal convert", "Convert weights of a method's released code to a checkpoint.")
    parser.add_argument(
        "method", metavar="METHOD", help=f"{', '.join(METHODS)}; `lit_thermal convert METHOD --help` lists its options"
    )
    return parser


def _parser(method: str, layout: Layout) -> Parser:
    parser = Parser(f"lit_thermal convert {method}", f"Read {layout.about}. Write a checkpoint.")
    parser.add_argument("reference", metavar="REFERENCE", help="weights file of the released code")
    parser.add_argument("output", metavar="OUTPUT", help="checkpoint to write (.ckpt)")
    for name, (called, about) in layout.files.items():
        parser.add_argument(f"--{name}", metavar=called, required=True, help=about)
    for name, (choices, about) in layout.options.items():
        parser.add_argument(f"--{name}", choices=choices, default=choices[0], help=f"{about} (default: {choices[0]})")
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT if it exists")
    return parser
