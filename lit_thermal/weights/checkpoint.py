"""Checkpoints: reading them safely, the model that one was made by, and whether its weights fit a model."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
from jsonargparse import ArgumentParser
from torch import nn

import lit_thermal
from lit_thermal import trust
from lit_thermal.blocks.pretrained import without_pretrained
from lit_thermal.errors import InputError
from lit_thermal.files import is_plain
from lit_thermal.methods.base import SuperResolver
from lit_thermal.shapes import COUNT, check
from lit_thermal.weights.old_records import translated
from lit_thermal.weights.surgery import compare
from lit_thermal.weights_file import check_finite, check_kinds, check_tensors, named_as, read_file, save_file

STATES = ("state_dict", "current_model_state")
"""Keys of a checkpoint under which weights lie: those to restore with, and with a moving average those in training."""


_TRAINING = {
    "epoch": COUNT,
    "global_step": COUNT,
    "loops": {"fit_loop": dict},
    "callbacks?": dict,
    "optimizer_states": [{"state": dict, "param_groups": [dict]}],
    "lr_schedulers": list,
}
"""The shape of what a training goes on from, beside the weights."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors and plain values are unpickled.

    Returns:
        What Lightning saved: `state_dict`, optimizer states, and `lit_thermal`, the record of the model.

    Raises:
        InputError: there is no such file, it cannot be read or is damaged, or it holds no weights.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder, not a checkpoint file; give a file such as {path / 'best.ckpt'}")
    if not is_plain(path):
        raise InputError(f"there is no checkpoint {path}{_beside(path)}")
    return as_checkpoint(read_values(path), path)


def as_checkpoint(checkpoint: Any, path: str | Path) -> dict[str, Any]:
    """Return what was read from a file where that is a checkpoint with weights.

    Raises:
        InputError: it is something else, or its weights are no dense tensors.
    """
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise InputError(f"{path} holds no weights under 'state_dict'; give a checkpoint that `fit` wrote")
    for key in STATES:
        if isinstance(state := checkpoint.get(key), dict):
            check_tensors(state, path)
    return checkpoint


def read_values(path: Path, mapped: bool = False) -> Any:
    """Return what `torch.save` wrote to a file, or .safetensors, onto the CPU, as `weights_file.read_file` does.

    Args:
        path: of the file.
        mapped: leave tensors in the file until they are used, and those that are not used for good. It must not be
            written to meanwhile.

    Raises:
        InputError: it cannot be read, is damaged, or holds more than tensors and plain values.
    """
    return read_file(path, "a checkpoint", mapped=mapped)


def load_model(path: str | Path) -> SuperResolver:
    """Rebuild the model that a checkpoint was made by, with its weights, in eval mode on the CPU.

    Raises:
        InputError: the checkpoint cannot be read, carries no record of its model, names one that this version does
            not have, or does not fit it.
    """
    return rebuild(read_checkpoint(path), path)


def rebuild(checkpoint: dict[str, Any], path: str | Path) -> SuperResolver:
    """Rebuild the model that a checkpoint was made by, as `load_model` does.

    Args:
        checkpoint: what was read.
        path: where it was read from, for the sentences.

    Raises:
        InputError: as `load_model`, but for the reading.
    """
    config = recorded_model(checkpoint)
    if config is None:
        raise InputError(f"{path} does not say what model it belongs to; give a checkpoint that `fit` wrote")
    try:
        model = build_model(config, f"the model recorded in {path}")
    except InputError:
        raise
    except Exception as error:  # the record is of others: null or a size below 0 makes a constructor raise anything
        version = checkpoint["lit_thermal"].get("version")
        raise InputError(
            f"{path} was made by lit_thermal {version}, and version {lit_thermal.__version__} cannot build its model "
            f"({config.get('class_path')}): {' '.join(str(error).split())[:300] or type(error).__name__}"
        ) from error
    check_fit(model, checkpoint, path)
    model.load_state_dict(checkpoint["state_dict"])
    return model.eval()


def build_model(config: dict[str, Any], where: str = "the config of a model") -> SuperResolver:
    """Build the model that a config names, to be given all its weights: none are fetched to start from.

    Args:
        config: class path and arguments as plain values; the model keeps it for its checkpoints.
        where: what the config comes from, for the sentence.

    Raises:
        argparse.ArgumentError: there is no such class, or it does not take these arguments.
        InputError: it names what a checkpoint may not name.
    """
    packages = trust.allowed(trust.CHECKPOINTS)
    trust.check_values(config, where, packages)
    trust.check_named(config, Path(), packages)
    with trust.only(packages):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(SuperResolver, "model", required=True)
        try:
            namespace = parser.parse_object({"model": config})
        except argparse.ArgumentError as error:
            if why := trust.refused_import(str(error), packages):
                raise InputError(f"{where}: {why}") from error
            raise
        trust.check_classes(namespace, where, packages)
        try:
            with without_pretrained():
                model = parser.instantiate(namespace)["model"]
        except ValueError as error:
            raise constructor_error(error) from None
    model.config = config
    return model


def save_model(model: SuperResolver, path: Path) -> None:
    """Write a model as a checkpoint that `load_model`, `--from`, and `--ckpt_path` of all verbs but `fit` take.

    Args:
        model: with the config that it was built by.
        path: of the file; it appears whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    checkpoint: dict[str, Any] = {"state_dict": model.state_dict(), "epoch": 0, "global_step": 0}
    checkpoint["pytorch-lightning_version"] = lightning.__version__
    model.on_save_checkpoint(checkpoint)
    save_file(checkpoint, path)


def constructor_error(error: ValueError) -> BaseException:
    """Return what a constructor raised; jsonargparse wraps it in one about the types that it tried."""
    wrapped = str(error).startswith("Does not validate against any of the Union subtypes")
    return error.__cause__ if wrapped and error.__cause__ is not None else error


def recorded_model(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """Return class path and arguments of the model that a checkpoint was made by, where it says so."""
    record = checkpoint.get("lit_thermal")
    config = record.get("model") if isinstance(record, dict) else None
    if not isinstance(config, dict) or not isinstance(config.get("class_path"), str):
        return None
    return translated(config) if isinstance(config.get("init_args", {}), dict) else None


def check_fit(model: nn.Module, checkpoint: dict[str, Any], path: str | Path) -> None:
    """Check that a checkpoint holds exactly the weights of the model, by name, shape and kind, and that all are finite.

    Words that wrappers put into the names (`module.`, `_orig_mod.`) are taken off in the checkpoint.

    Raises:
        InputError: it does not; the sentence counts what is missing, unexpected and of another shape, and names the
            settings that differ.
    """
    made = recorded_model(checkpoint) or {}
    made_by = made.get("class_path", "").rsplit(".", 1)[-1]
    method = type(model).__name__
    if made_by and made_by != method:
        raise InputError(f"{path} was made by {made_by} and does not fit {method}; give the config of {made_by}")
    own = model.state_dict()
    for key in STATES:
        if isinstance(state := checkpoint.get(key), dict):
            checkpoint[key] = named_as(own, state, path)
    if differences := compare(own, checkpoint["state_dict"]).told():
        others = _other_settings(made, getattr(model, "config", None) or {})
        raise InputError(
            f"{path} does not fit the model: of its weights {differences}{others}; give it by --from to keep what "
            "fits, or build the model that it was made by"
        )
    for key in STATES:
        if isinstance(state := checkpoint.get(key), dict):
            check_kinds(state, own, path)
            check_finite(state, own, path)


def check_training(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Check that the state of a training, where a checkpoint has one, is as a training wrote it.

    Raises:
        InputError: it is not; Lightning would fail on it, or begin anew without a word.
    """
    if "optimizer_states" not in checkpoint:
        return
    advice = "take another checkpoint, or give it by --from"
    check(checkpoint, _TRAINING, f"{path} is damaged", advice)
    if not checkpoint["optimizer_states"]:
        raise InputError(f"{path} is damaged: it holds no state of an optimizer; {advice}")


def check_resumes(config: dict[str, Any], checkpoint: dict[str, Any], path: str | Path, schedule: str = "") -> None:
    """Check that training can go on from a checkpoint as the config says.

    The optimizer's and the schedule's settings lie in their state, which a resumed run loads: other settings in the
    config would be lost without a word.

    Args:
        config: class path and arguments of the model.
        checkpoint: what the training goes on from.
        path: where it was read from.
        schedule: what the learning rate does when the training goes on, in words.

    Raises:
        InputError: the checkpoint has no training state, or one of other settings.
    """
    if "optimizer_states" not in checkpoint:
        raise InputError(f"{path} holds weights only, so training cannot go on from it; give it by --from instead")
    before = (recorded_model(checkpoint) or config).get("init_args", {})
    for key in ("optimizer", "lr_scheduler"):
        old, new = before.get(key), config.get("init_args", {}).get(key)
        if old != new:
            name, was, now = _differing(old, new)
            keep = f" by --model.{key}.{name}={was}" if name not in ("", "class_path") else ""
            goes_on = ""
            if key == "lr_scheduler" and schedule:
                goes_on = f"a training that goes on keeps the one there, by which {schedule}; to go on so, "
            raise InputError(
                f"{path} carries the state of another model.{key}: {f'{name} {was}'.strip()} there and {now} here; "
                f"{goes_on}keep the old setting{keep}, or give it by --from to start a new training with its weights"
                f"{' and a schedule of its own' * bool(goes_on)}"
            )


def _other_settings(made: dict[str, Any], own: dict[str, Any]) -> str:
    """Return in words which settings that may shape a model, such as widths and ranks, differ between two configs."""
    told = [f"model.{name} {old} (here {new})" for name, old, new in _differing_sizes(made, own)]
    return f"; it was made with {', '.join(told)}" if told else ""


def _differing_sizes(made: Any, own: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield name, old and new value of the numbers and words that two configs of one class both give and differ in."""
    if not (isinstance(made, dict) and isinstance(own, dict) and made.get("class_path") == own.get("class_path")):
        return
    before, now = made.get("init_args") or {}, own.get("init_args") or {}
    for name, old in before.items():
        if isinstance(old, (int, str)) and isinstance(now.get(name), (int, str)) and old != now[name]:
            yield f"{path}{name}", old, now[name]
        else:
            yield from _differing_sizes(old, now.get(name), f"{path}{name}.")


def _differing(old: Any, new: Any, key: str = "") -> tuple[str, Any, Any]:
    """Return name, old and new of the first value that differs between two configs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(n for n in new if n not in old)]:
            if old.get(name) != new.get(name):
                return _differing(old.get(name), new.get(name), name)
    return key, old, new


def _beside(path: Path) -> str:
    """Return which checkpoints lie where one was looked for."""
    names = sorted(p.name for p in path.parent.glob("*.ckpt")) if os.path.isdir(path.parent) else []
    if names:
        return f"; {path.parent} has {', '.join(names[:5])}"
    return "" if os.path.isdir(path.parent) else f": the folder {path.parent} does not exist"
