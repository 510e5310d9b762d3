"""Folders and files that the command line gives with names, or that are named after themselves."""

from collections.abc import Sequence
from pathlib import Path

from lit_thermal.errors import InputError

GENERAL = ("hr", "lr", "predictions", "results", "checkpoints")
"""Names of folders that say nothing of what is in them."""


def named_paths(words: Sequence[str]) -> dict[str, Path]:
    """`NAME=PATH` or a path, which is named after its last part, to name and path.

    Raises:
        InputError: a word is neither, or two have one name.
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
    """What to call a folder or file; what a run restored is called after the run."""
    path = path.resolve()
    if path.name.lower() in GENERAL:
        return path.parent.name
    return path.stem if path.suffix in (".pth", ".ckpt", ".safetensors") else path.name
