"""The verb `merge`: folds the LoRA of a checkpoint into the base weights."""

from collections.abc import Sequence
from pathlib import Path

from lit_thermal.cli.parser import Parser
from lit_thermal.cli.target import check_target


def main(argv: Sequence[str]) -> int:
    """Merge one checkpoint; return the exit code."""
    arguments = _parser().parse_args(argv)
    source, target = Path(arguments.checkpoint), Path(arguments.output)
    check_target({"CHECKPOINT": source}, target, arguments.overwrite)
    from lit_thermal.blocks.prompt import TextPrompt
    from lit_thermal.weights import save_model
    from lit_thermal.weights.merge import merged

    model = merged(source, arguments.base)
    save_model(model, target)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{source}: {len(model.state_dict())} entries, {parameters:,} parameters, no LoRA -> {target}")
    assert model.config is not None
    # These settings change the result but not the weights, so that no check would report a difference.
    kept = {name: model.config["init_args"].get(name) for name in ("train", "latent", "timestep", "upsampling")}
    words = " ".join(["-c EXPERIMENT", *(f"--model.{name}={value}" for name, value in kept.items() if value)])
    print(f"use it:      lit_thermal predict {words} --ckpt_path {target}")
    if isinstance(model.prompt, TextPrompt):
        print(f"it needs:    text_encoder/ and tokenizer/ in {model.prompt.encoder.folder}, no other files of the base")
    return 0


def _parser() -> Parser:
    parser = Parser(
        "lit_thermal merge",
        "Fold the LoRA of a checkpoint into the base weights, and write all weights as one checkpoint.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint with LoRA that `fit` or `convert` wrote")
    parser.add_argument("output", metavar="OUTPUT", help="checkpoint to write (.ckpt)")
    parser.add_argument(
        "--base",
        metavar="FOLDER",
        default="",
        help="folder of the base model, or its name on the hub (default: the folder or name used in training)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT if it exists")
    return parser
