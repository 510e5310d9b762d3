"""Check of the file that a verb writes, before any work is done."""

from pathlib import Path

from lit_thermal.errors import InputError


def check_target(named: dict[str, Path], target: Path, overwrite: bool) -> None:
    """Check the checkpoint to write, the argument OUTPUT.

    Args:
        named: files that the verb reads, by their placeholders in the help.
        target: file to write.
        overwrite: allow that an existing file is replaced.

    Raises:
        InputError: the target is a folder or one of the files that are read, its folder is missing, or it exists.
    """
    if target.is_dir():
        raise InputError(f"OUTPUT {target} is a folder: name a file in it, such as {target / 'converted.ckpt'}")
    if not target.parent.is_dir():
        raise InputError(f"OUTPUT {target} cannot be written: there is no folder {target.parent}; make it first")
    for name, path in named.items():
        if target.exists() and path.exists() and target.samefile(path):
            raise InputError(f"OUTPUT {target} is {name} itself: choose another name")
    if target.exists() and not overwrite:
        raise InputError(f"OUTPUT {target} exists: choose another name or give --overwrite")
