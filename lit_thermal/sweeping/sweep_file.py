"""Reads W&B sweep files, as `wandb sweep` takes them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lit_thermal.errors import InputError

METHODS = ("grid", "random")
KNOWN = {"program", "project", "entity", "name", "description", "method", "metric", "parameters", "command"}
"""Keys of a sweep file that are heeded here or say nothing of the points."""
LEFT_OUT = {"early_terminate": "points run to their end"}
"""Keys that W&B heeds and this runner does not, with what happens instead."""


@dataclass(frozen=True)
class SweepFile:
    """A sweep as its file states it."""

    path: Path
    text: str
    method: str
    parameters: dict[str, dict[str, Any]]
    """Name to its specification: `value`, `values`, or `distribution` with its constants."""
    command: tuple[str, ...]
    run_cap: int | None
    left_out: tuple[str, ...]
    """Sentences about keys that have no effect here."""

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem


def read_sweep_file(path: Path) -> SweepFile:
    """Read a sweep file.

    Raises:
        InputError: it cannot be read, is no sweep file, or asks for what only W&B's server can do.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the sweep file {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("parameters"), dict) or not content["parameters"]:
        raise InputError(f"{path} is no sweep file: it needs `parameters`, a mapping of each name to its values")
    if unknown := sorted(set(content) - KNOWN - set(LEFT_OUT) - {"run_cap"}):
        raise InputError(f"{path} has the key {unknown[0]!r}, which a sweep file has not ({', '.join(sorted(KNOWN))})")
    method = content.get("method", "grid")
    if method not in METHODS:
        raise InputError(
            f"{path} searches by {method!r}, for which W&B's server is needed (`wandb sweep {path}`); "
            f"{' and '.join(METHODS)} run without it"
        )
    for name, specification in content["parameters"].items():
        if not isinstance(name, str):
            raise InputError(f"{path}: a parameter has the name {name!r}, which is no text")
        if not isinstance(specification, dict):
            raise InputError(f"{path}: the parameter {name} needs `value`, `values` or `distribution`, as a mapping")
        if "parameters" in specification:
            raise InputError(
                f"{path}: the parameter {name} holds parameters of its own; write flat dotted names, as in {name}.NAME"
            )
    command = content.get("command")
    if not isinstance(command, list) or "${args}" not in command:
        raise InputError(f"{path} needs `command`, a list of words with ${{args}} among them")
    cap = content.get("run_cap")
    if cap is not None and (type(cap) is not int or cap < 1):
        raise InputError(f"{path}: run_cap is {cap!r} and must be a whole number above 0")
    left_out = tuple(f"{key} has no effect here: {instead}" for key, instead in LEFT_OUT.items() if key in content)
    return SweepFile(path, text, method, content["parameters"], tuple(map(str, command)), cap, left_out)
