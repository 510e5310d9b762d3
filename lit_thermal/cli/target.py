"""The file that a verb writes: refused before any work where it cannot or should not be written."""

from pathlib import Path

from lit_thermal.errors import InputError


def check_target(named: dict[str, Path], target: Path, overwrite: bool) -> None:
    """Check the place of the checkpoint that a verb calls OURS.

    Args:
        named: what the verb reads, by the names of its help.
        target: what it writes.
        overwrite: an existing file may be replaced.

    Raises:
        InputError: it is a folder, in none, one of the files that are read, or there already.
    """
    if target.is_dir():
        raise InputError(f"OURS {target} is a folder: name a file in it, such as {target / 'converted.ckpt'}")
    if not target.parent.is_dir():
        raise InputError(f"OURS {target} cannot be written: there is no folder {target.parent}; make it first")
    for name, path in named.items():
        if target.exists() and path.exists() and target.samefile(path):
            raise InputError(f"OURS {target} is {name} itself: choose another name")
    if target.exists() and not overwrite:
        raise InputError(f"OURS {target} exists: choose another name or give --overwrite")
