"""Checkpoints: safe reading, rebuilding the recorded model, and checks that weights fit a model."""

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
from lit_thermal.moved import with_current_paths
from lit_thermal.shapes import COUNT, check
from lit_thermal.weights.find import is_published, located
from lit_thermal.weights.old_records import translated
from lit_thermal.weights.published import read_published
from lit_thermal.weights.surgery import compare
from lit_thermal.weights_file import check_finite, check_kinds, check_tensors, named_as, read_file, save_file

STATES = ("state_dict", "current_model_state")
"""Keys of a checkpoint with weights: those to restore with, and with a moving average also those being trained."""


_TRAINING = {
    "epoch": COUNT,
    "global_step": COUNT,
    "loops": {"fit_loop": dict},
    "callbacks?": dict,
    "optimizer_states": [{"state": dict, "param_groups": [dict]}],
    "lr_schedulers": list,
}
"""Structure of the training state in a checkpoint."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors and plain values are unpickled.

    Returns:
        The checkpoint of Lightning: `state_dict`, optimizer states, and `lit_thermal`, the record of the model.

    Raises:
        InputError: the file does not exist, cannot be read, is damaged, or contains no weights.
    """
    path = Path(path)
    if is_published(path):
        return as_checkpoint(read_published(path), path)
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder, not a checkpoint file; give a file such as {path / 'best.ckpt'}")
    if not is_plain(path):
        raise InputError(f"there is no checkpoint {path}{_beside(path)}")
    return as_checkpoint(read_values(path), path)


def as_checkpoint(checkpoint: Any, path: str | Path) -> dict[str, Any]:
    """Return the content of a file after checking that it is a checkpoint with weights.

    Raises:
        InputError: the content is not a checkpoint, or its weights are not dense tensors.
    """
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise InputError(f"{path} holds no weights under 'state_dict'; give a checkpoint that `fit` wrote")
    for key in STATES:
        if isinstance(state := checkpoint.get(key), dict):
            check_tensors(state, path)
    return checkpoint


def read_values(path: Path, mapped: bool = False) -> Any:
    """Read a file of `torch.save`, or .safetensors, onto the CPU, as `weights_file.read_file` does.

    Args:
        path: file to read.
        mapped: map tensors from the file and read only those that are used. The file must not change meanwhile.

    Raises:
        InputError: the file cannot be read, is damaged, or contains other objects than tensors and plain values.
    """
    return read_file(path, "a checkpoint", mapped=mapped)


def load_model(path: str | Path) -> SuperResolver:
    """Rebuild the model of a checkpoint with its weights, in eval mode on the CPU.

    Args:
        path: checkpoint, published folder, name of a shipped model such as "x4", or `owner/name` on the hub.

    Raises:
        InputError: the checkpoint cannot be read, has no record of its model, names a model that this version does not
            have, or does not fit it.
    """
    return rebuild(read_checkpoint(located(path)), path)


def recorded_class(path: str | Path) -> type[SuperResolver]:
    """Return the class of a checkpoint's model without building it; its weights stay on the disk.

    Raises:
        InputError: the checkpoint cannot be read, has no record of its model, or names no method that may be used.
    """
    path = Path(path)
    values = read_published(path) if is_published(path) else read_values(path, mapped=True)
    config = recorded_model(as_checkpoint(values, path))
    if config is None:
        raise InputError(f"{path} has no record of its model; give a checkpoint that `fit` wrote")
    name, packages = config["class_path"], trust.allowed(trust.CHECKPOINTS)
    kind = trust.find(name if "." in name else f"lit_thermal.methods.{name}", packages)
    if kind is None or not issubclass(kind, SuperResolver):
        raise InputError(f"the model recorded in {path}: {trust.outside(name, packages) or f'{name} is no method'}")
    return kind


def rebuild(checkpoint: dict[str, Any], path: str | Path) -> SuperResolver:
    """Rebuild the model of a checkpoint, as `load_model` does.

    Args:
        checkpoint: content of the checkpoint.
        path: file of the checkpoint, used in error messages.

    Raises:
        InputError: the checkpoint has no record of its model, the model cannot be built, or the weights do not fit it.
    """
    config = recorded_model(checkpoint)
    if config is None:
        raise InputError(f"{path} has no record of its model; give a checkpoint that `fit` wrote")
    try:
        model = build_model(config, f"the model recorded in {path}")
    except InputError:
        raise
    except Exception as error:  # with arguments of another version, such as null, a constructor may raise anything
        version = checkpoint["lit_thermal"].get("version")
        raise InputError(
            f"{path} was made by lit_thermal {version}, and version {lit_thermal.__version__} cannot build its model "
            f"({config.get('class_path')}): {' '.join(str(error).split())[:300] or type(error).__name__}"
        ) from error
    check_fit(model, checkpoint, path)
    model.load_state_dict(checkpoint["state_dict"])
    normalize = checkpoint["lit_thermal"].get("normalize")
    model.normalize = normalize if isinstance(normalize, str) else None
    degradation = checkpoint["lit_thermal"].get("degradation")
    model.degradation = degradation if isinstance(degradation, str) else None
    return model.eval()


def build_model(config: dict[str, Any], where: str = "the config of a model") -> SuperResolver:
    """Build the model of a config without loading pretrained weights, because a checkpoint has all weights.

    Args:
        config: class path and arguments as plain values; the model keeps it for its checkpoints.
        where: source of the config, used in error messages.

    Raises:
        argparse.ArgumentError: the class does not exist, or does not accept these arguments.
        InputError: the config names a class that a checkpoint is not allowed to name.
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
    """Write a model as a checkpoint for `load_model`, `--from`, and `--ckpt_path` of all verbs except `fit`.

    Args:
        model: model that keeps the config from which it was built.
        path: checkpoint to write, completely or not at all.

    Raises:
        InputError: the checkpoint cannot be written.
    """
    checkpoint: dict[str, Any] = {"state_dict": model.state_dict(), "epoch": 0, "global_step": 0}
    checkpoint["pytorch-lightning_version"] = lightning.__version__
    model.on_save_checkpoint(checkpoint)
    save_file(checkpoint, path)


def constructor_error(error: ValueError) -> BaseException:
    """Return the original exception of a constructor, which jsonargparse wraps in a list of the types that it tried."""
    wrapped = str(error).startswith("Does not validate against any of the Union subtypes")
    return error.__cause__ if wrapped and error.__cause__ is not None else error


def recorded_model(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """Return class path and arguments of the model recorded in a checkpoint, or None if there is no record."""
    record = checkpoint.get("lit_thermal")
    config = record.get("model") if isinstance(record, dict) else None
    if not isinstance(config, dict) or not isinstance(config.get("class_path"), str):
        return None
    if not isinstance(config.get("init_args", {}), dict):
        return None
    return translated(with_current_paths(config), checkpoint.get("state_dict"))


def check_fit(model: nn.Module, checkpoint: dict[str, Any], path: str | Path) -> None:
    """Check that a checkpoint has exactly the weights of the model (name, shape, kind of number), all of them finite.

    Prefixes of wrappers in the names (`module.`, `_orig_mod.`) are removed in the checkpoint.

    Raises:
        InputError: the checkpoint does not fit; the message counts missing, unexpected and reshaped weights, and names
            the settings that differ.
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
    if differences := compare(own, checkpoint["state_dict"]).describe():
        others = _other_settings(made, getattr(model, "config", None) or {})
        raise InputError(
            f"{path} does not fit the model: of its weights {differences}{others}; give it by --from to keep what "
            "fits, or use the config of its model"
        )
    for key in STATES:
        if isinstance(state := checkpoint.get(key), dict):
            check_kinds(state, own, path)
            check_finite(state, own, path)


def check_training(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Check the structure of the training state in a checkpoint, if it has one.

    Raises:
        InputError: the state is damaged, so that Lightning would fail, or silently restart the training.
    """
    if "optimizer_states" not in checkpoint:
        return
    advice = "take another checkpoint, or give it by --from"
    check(checkpoint, _TRAINING, f"{path} is damaged", advice)
    if not checkpoint["optimizer_states"]:
        raise InputError(f"{path} is damaged: it holds no state of an optimizer; {advice}")


def check_resumes(config: dict[str, Any], checkpoint: dict[str, Any], path: str | Path, schedule: str = "") -> None:
    """Check that training can continue from a checkpoint with the settings of the config.

    The state of optimizer and schedule includes their settings, and a resumed run loads it: different settings in the
    config would silently be ignored.

    Args:
        config: class path and arguments of the model.
        checkpoint: checkpoint of the earlier training.
        path: file of the checkpoint, used in error messages.
        schedule: description of the coming learning rates, used in the error message.

    Raises:
        InputError: the checkpoint has no training state, or it was trained with other settings.
    """
    if "optimizer_states" not in checkpoint:
        raise InputError(f"{path} holds weights only, so training cannot continue from it; give it by --from instead")
    before = (recorded_model(checkpoint) or config).get("init_args", {})
    for key in ("optimizer", "lr_scheduler"):
        old, new = before.get(key), config.get("init_args", {}).get(key)
        if old != new:
            name, was, now = _differing(old, new)
            keep = f" by --model.{key}.{name}={was}" if name not in ("", "class_path") else ""
            goes_on = ""
            if key == "lr_scheduler" and schedule:
                goes_on = f"a resumed training keeps the old one: {schedule}; to resume, "
            raise InputError(
                f"{path} has the state of another model.{key}: {f'{name} {was}'.strip()} there and {now} here; "
                f"{goes_on}keep the old setting{keep}, or give it by --from to start a new training with its weights"
                f"{' and a schedule of its own' * bool(goes_on)}"
            )


def _other_settings(made: dict[str, Any], own: dict[str, Any]) -> str:
    """Return a clause that lists different settings, such as widths and ranks, of two configs."""
    different = [f"model.{name} {old} (here {new})" for name, old, new in _differing_sizes(made, own)]
    return f"; it was made with {', '.join(different)}" if different else ""


def _differing_sizes(made: Any, own: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield name, old value and new value of each number or word that differs between two configs of one class."""
    if not (isinstance(made, dict) and isinstance(own, dict) and _class_name(made) == _class_name(own)):
        return
    before, now = made.get("init_args") or {}, own.get("init_args") or {}
    for name, old in before.items():
        if isinstance(old, (int, str)) and isinstance(now.get(name), (int, str)) and old != now[name]:
            yield f"{path}{name}", old, now[name]
        else:
            yield from _differing_sizes(old, now.get(name), f"{path}{name}.")


def _class_name(config: dict[str, Any]) -> str:
    """Return the class of a config without its module, which may be left out."""
    return str(config.get("class_path")).rsplit(".", 1)[-1]


def _differing(old: Any, new: Any, key: str = "") -> tuple[str, Any, Any]:
    """Return name, old value and new value of the first difference between two configs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(n for n in new if n not in old)]:
            if old.get(name) != new.get(name):
                return _differing(old.get(name), new.get(name), name)
    return key, old, new


def _beside(path: Path) -> str:
    """Return a clause for the error message about a missing checkpoint: the checkpoints that its folder has."""
    names = sorted(p.name for p in path.parent.glob("*.ckpt")) if os.path.isdir(path.parent) else []
    if names:
        return f"; {path.parent} has {', '.join(names[:5])}"
    return "" if os.path.isdir(path.parent) else f": the folder {path.parent} does not exist"
