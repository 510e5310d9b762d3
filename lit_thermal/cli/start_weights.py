"""Initial weights of a run: `--ckpt_path` loads all of a checkpoint, `--from` loads what fits."""

import os
from collections.abc import Container
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lit_thermal.cli import run_folder
from lit_thermal.errors import InputError
from lit_thermal.methods.base import SuperResolver
from lit_thermal.weights import check_fit, read_checkpoint, transplant
from lit_thermal.weights.checkpoint import check_resumes, check_training
from lit_thermal.weights.schedule import describe_rates, rates_ahead

WHOLE_FILES = (SingleDeviceStrategy, DDPStrategy)
"""Strategies that write a checkpoint as one file; sharded strategies write folders, which only they can read."""


def choose_weights(
    config: Namespace, experiment: Path, options: Container[str], is_first: bool
) -> dict[str, Any] | None:
    """Resolve `last` and `best` in the config, and read the checkpoint before anything is made for the run.

    Args:
        config: config of the verb; its `ckpt_path` and `from` are changed in place.
        experiment: folder of the experiment.
        options: options of the command line; an option there replaces the other one in a file.
        is_first: this is the process of rank 0; others may find its run folder, which is newer than the checkpoint.

    Returns:
        The checkpoint, or None if the run starts from a new model or from a folder that a sharded strategy wrote.

    Raises:
        InputError: the checkpoint does not exist or cannot be read, or both options are given.
    """
    found: list[str] = []
    for key in ("ckpt_path", "from"):
        if (which := config[key]) in ("last", "best"):
            config[key] = str(run_folder.short_path(run_folder.find_checkpoint(experiment, which, strict=is_first)))
            found.append(f"{which} checkpoint of {experiment.name}: {config[key]}")
    if config.ckpt_path and config["from"]:
        if "--ckpt_path" in options and "--from" in options:
            raise InputError("--ckpt_path and --from exclude each other: give only one of them")
        config["ckpt_path" if "--from" in options else "from"] = None
    for key in ("ckpt_path", "from"):
        if config[key] and "://" in config[key]:  # Lightning would download it and run the code that it holds
            raise InputError(f"{key} {config[key]} is an address: download the file and give its path")
    path = config.ckpt_path or config["from"]
    for line in found:
        if path and line.endswith(f": {path}"):
            print_first(line)
    return read_checkpoint(path) if path and not (config.ckpt_path and os.path.isdir(path)) else None


def load_weights(
    verb: str,
    config: Namespace,
    model: SuperResolver,
    model_config: dict[str, Any],
    trainer: Trainer,
    checkpoint: dict[str, Any] | None,
) -> None:
    """With `ckpt_path`, check that the checkpoint fits (Lightning loads it); with `from`, copy the weights that fit.

    Args:
        verb: verb of the Trainer.
        config: config of the verb.
        model: model of the run.
        model_config: class path and arguments of the model.
        trainer: trainer of the run.
        checkpoint: result of `choose_weights`.

    Raises:
        InputError: the checkpoint does not fit.
    """
    if config.ckpt_path:
        if checkpoint is None and isinstance(trainer.strategy, WHOLE_FILES):
            checkpoint = read_checkpoint(config.ckpt_path)  # raises, because it is a folder
        if checkpoint is not None:
            check_fit(model, checkpoint, config.ckpt_path)
            if verb == "fit":
                check_training(checkpoint, config.ckpt_path)
                schedule = describe_rates(rates_ahead(model, checkpoint, trainer.max_steps))
                check_resumes(model_config, checkpoint, config.ckpt_path, schedule)
                if schedule:
                    print_first(f"the training continues from step {checkpoint['global_step']}: {schedule}")
            if "pytorch-lightning_version" not in checkpoint:  # Lightning fails without it
                raise InputError(f"{config.ckpt_path} was not written by `fit`; give it by --from instead")
    elif checkpoint is not None:
        copied = transplant(model, checkpoint["state_dict"], config["from"])
        print_first(f"weights from {config['from']}:\n{copied.table()}")
    elif verb != "fit" and any(True for _ in model.parameters()):
        print_first("neither --ckpt_path nor --from was given: the weights are those of a new model")


@rank_zero_only
def print_first(text: str) -> None:
    """Print a line in the process of rank 0 only."""
    print(text, flush=True)
