"""The verb `publish`: writes a checkpoint as safetensors with a config and a card, to a folder or to the hub."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_thermal.cli.parser import Parser
from lit_thermal.errors import InputError


def main(argv: Sequence[str]) -> int:
    """Publish one checkpoint; return the exit code."""
    arguments = _parser().parse_args(argv)
    source = Path(arguments.checkpoint)
    metrics, where = _metrics(source, arguments.metrics)
    from lit_thermal.weights import load_model, read_checkpoint
    from lit_thermal.weights.published import publish

    checkpoint = read_checkpoint(source)
    load_model(source)  # refuses weights that do not fit their record
    place = publish(
        checkpoint, arguments.target, metrics=metrics, license=arguments.license, overwrite=arguments.overwrite
    )
    print(f"{source} -> {place}: model.safetensors, config.json and the card README.md, {where}")
    print(f"use it:  lit_thermal upscale INPUT -o OUTPUT --model {arguments.target}")
    return 0


def _metrics(source: Path, given: str | None) -> tuple[dict[str, Any] | None, str]:
    """Return the record of the test that the card is made of, and a clause for the user.

    Without a given file, the newest `metrics.json` among the runs of the checkpoint's experiment is taken whose config
    of the model is that of the checkpoint.
    """
    from lit_thermal.plain_files import read_json

    if given is not None:
        found = read_json(given, "the record of a test")
        if not isinstance(found, dict) or "results" not in found:
            raise InputError(f"{given} is no record of a test: give a metrics.json that `test` wrote")
        return found, f"with the numbers of {given}"
    runs = source.resolve().parent.parent  # runs/<experiment>/<run>/checkpoints/best.ckpt
    tests = sorted({*runs.glob("metrics.json"), *runs.parent.glob("*/metrics.json")}, key=lambda p: p.stat().st_mtime)
    if source.parent.name != "checkpoints" or not tests:
        return None, "without numbers, because no test of its run was found (--metrics gives one)"
    from lit_thermal.weights import read_checkpoint

    record = read_checkpoint(source).get("lit_thermal") or {}
    for path in reversed(tests):
        found = read_json(path, "the record of a test")
        if isinstance(found, dict) and found.get("model") == record.get("model"):
            return found, f"with the numbers of {path}"
    return None, "without numbers, because the tests of its experiment are of other models (--metrics gives one)"


def _parser() -> Parser:
    parser = Parser(
        "lit_thermal publish",
        "Write a checkpoint as a model that others can load: safetensors, config and a card with the run's numbers.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint that `fit` wrote")
    parser.add_argument("target", metavar="TARGET", help="folder to write, or owner/name on the Hugging Face hub")
    parser.add_argument(
        "--metrics", metavar="FILE", help="metrics.json of a test (default: the newest test of this model's runs)"
    )
    parser.add_argument(
        "--license", default="apache-2.0", help="licence of the weights, as the hub names it (default: apache-2.0)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier publication in the folder")
    return parser
