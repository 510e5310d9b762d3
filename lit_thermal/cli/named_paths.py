"""Folders and files of the command line as NAME=PATH, or named after the last part of their path."""

from collections.abc import Sequence
from pathlib import Path

from lit_thermal.errors import InputError

GENERAL = ("hr", "lr", "predictions", "results", "checkpoints")
"""Folder names that do not describe their content; the name of the parent folder is used instead."""


def named_paths(words: Sequence[str]) -> dict[str, Path]:
    """Return name and path of each word, which is `NAME=PATH` or a path that is named after its last part.

    Raises:
        InputError: a word is neither, or two words have the same name.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, sign, path = word.partition("=")
        if not sign or Path(word).exists():
            name, path = name_of(Path(word)), word
        if not name or not path:
            raise InputError(f"{word!r} is not NAME=PATH")
        if name in found:
            raise InputError(f"two methods have the name {name}; give them names, as in NAME=PATH")
        found[name] = Path(path)
    return found


def name_of(path: Path) -> str:
    """Return the name of a folder or file; the folder of a run's predictions is named after the run."""
    path = path.resolve()
    if path.name.lower() in GENERAL:
        return path.parent.name
    return path.stem if path.suffix in (".pth", ".ckpt", ".safetensors") else path.name
