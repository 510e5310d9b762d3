"""Reading of W&B sweep files, in the format of `wandb sweep`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_thermal import plain_yaml
from lit_thermal.errors import InputError
from lit_thermal.plain_files import read_text
from lit_thermal.shapes import check_plain

METHODS = ("grid", "random")
KNOWN = {"program", "project", "entity", "name", "description", "method", "metric", "parameters", "command"}
"""Keys of a sweep file that are used here or do not affect the points."""
LEFT_OUT = {"early_terminate": "points run to their end"}
"""Keys that W&B uses and this runner does not, with the behaviour here instead."""


@dataclass(frozen=True)
class SweepFile:
    """Content of a sweep file."""

    path: Path
    text: str
    method: str
    parameters: dict[str, dict[str, Any]]
    """Specifications by name: `value`, `values`, or `distribution` with its constants."""
    command: tuple[str, ...]
    run_cap: int | None
    left_out: tuple[str, ...]
    """Messages about keys that have no effect here."""

    @property
    def name(self) -> str:
        """Name of the sweep: the stem of its file."""
        return self.path.stem


def read_sweep_file(path: Path) -> SweepFile:
    """Read a sweep file.

    Raises:
        InputError: the file cannot be read, is not a sweep file, or needs W&B's server.
    """
    text = read_text(path, "a sweep file", "give another file", most=1 << 20)
    content = plain_yaml.load(text, path)
    given = content.get("parameters") if isinstance(content, dict) else None
    for name in given if isinstance(given, dict) else ():
        if not isinstance(name, str):
            raise InputError(f"{path}: a parameter has the name {name!r:.60}, which is no text")
    check_plain(content, f"{path}", "correct it", most=20_000)
    if not isinstance(content, dict) or not isinstance(content.get("parameters"), dict) or not content["parameters"]:
        raise InputError(f"{path} is no sweep file: it needs `parameters`, a mapping of each name to its values")
    if unknown := sorted(set(content) - KNOWN - set(LEFT_OUT) - {"run_cap"}):
        raise InputError(f"{path} has the unknown key {unknown[0]!r} (known keys: {', '.join(sorted(KNOWN))})")
    method = content.get("method", "grid")
    if method not in METHODS:
        raise InputError(
            f"{path} searches by {method!r}, for which W&B's server is needed (`wandb sweep {path}`); "
            f"{' and '.join(METHODS)} run without it"
        )
    for name, specification in content["parameters"].items():
        if not isinstance(specification, dict):
            raise InputError(f"{path}: the parameter {name} needs `value`, `values` or `distribution`, as a mapping")
        if "parameters" in specification:
            raise InputError(
                f"{path}: the parameter {name} has nested parameters; write flat dotted names, as in {name}.NAME"
            )
    command = content.get("command")
    if not isinstance(command, list) or "${args}" not in command:
        raise InputError(f"{path} needs `command`, a list of words with ${{args}} among them")
    cap = content.get("run_cap")
    if cap is not None and (type(cap) is not int or cap < 1):
        raise InputError(f"{path}: run_cap is {cap!r} and must be a whole number above 0")
    left_out = tuple(f"{key} has no effect here: {instead}" for key, instead in LEFT_OUT.items() if key in content)
    return SweepFile(path, text, method, content["parameters"], tuple(map(str, command)), cap, left_out)
