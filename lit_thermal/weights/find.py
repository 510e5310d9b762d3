"""Finding the weights that a user names, or the ones that fit an input, before torch is imported."""

import os
import re
from pathlib import Path

from lit_thermal.errors import InputError, reading
from lit_thermal.files import is_plain

_STARTS = (b"PK\x03\x04", b"\x80")
"""First bytes of a torch archive and of a pickle, the format of torch before 1.6."""
_LONGEST_HEADER = 100_000_000
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
"""Files of a published model."""
SHIPPED = Path(__file__).parents[1] / "pretrained"
"""Folder with a published model for each name that users may give instead of a path."""
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def find_model(name: str | Path) -> Path:
    """Return the file or folder of a model after a quick check that it may be one.

    Args:
        name: path of a checkpoint or of a published folder, name of a shipped model, or `owner/name` on the hub.

    Raises:
        InputError: the file does not exist, or its first bytes are not those of a checkpoint; or the hub has no such
            model.
    """
    path = located(name)
    if is_published(path):
        return path
    if os.path.isdir(path):
        raise InputError(f"--model {path} is a folder, not a checkpoint file; give a file such as {path / 'best.ckpt'}")
    if not is_plain(path):
        beside = sorted(file.name for file in path.parent.glob("*.ckpt")) if os.path.isdir(path.parent) else []
        others = f"; {path.parent} has {', '.join(beside[:5])}" if beside else ""
        if not others and path.name == str(name) and shipped():
            others = f"; the models that come with this package are {', '.join(shipped())}"
        raise InputError(f"--model {path}: there is no such checkpoint{others}")
    with reading(path, "a checkpoint"), path.open("rb") as file:
        start = file.read(9)
    tensors = path.suffix == ".safetensors" and len(start) == 9 and start[8:] == b"{"
    if tensors and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER:
        return path
    if path.suffix == ".safetensors" or not start.startswith(_STARTS):
        raise InputError(f"--model {path} is not a checkpoint: give a file that `fit` wrote, such as best.ckpt")
    return path


def located(name: str | Path) -> Path:
    """Return the path that a name stands for: itself, a shipped model, or a model of the hub, which is downloaded.

    Args:
        name: path of a file or folder, name of a shipped model, or `owner/name` on the hub.

    Raises:
        InputError: the hub cannot be reached, or has no such model.
    """
    if os.path.lexists(name):
        return Path(name)
    if str(name) in shipped():
        return SHIPPED / str(name)
    if is_hub_id(name):
        from lit_thermal.weights.published import fetched

        return fetched(str(name))
    return Path(name)


def shipped() -> list[str]:
    """Return the names of the models that come with this package."""
    return sorted(folder.name for folder in SHIPPED.glob("*") if is_published(folder))


def model_for(clips: bool, guided: bool) -> Path:
    """Return the shipped model for an input: `video` for clips, `x8_guided` for images with a guide, `x4` for others.

    Args:
        clips: whether the input is a video.
        guided: whether there is a guide.

    Raises:
        InputError: this installation has no such model.
    """
    name = "video" if clips else "x8_guided" if guided else "x4"
    if name not in shipped():
        raise InputError(f"this installation comes without the model {name}: give a checkpoint by --model")
    return SHIPPED / str(name)


def is_published(folder: str | Path) -> bool:
    """Return whether a path is a folder with a published model."""
    return all(is_plain(Path(folder) / name) for name in (WEIGHTS, CONFIG))


def is_hub_id(name: str | Path) -> bool:
    """Return whether a text is `owner/name` on the hub: no folder or file of this machine that it may mean exists."""
    text, path = str(name), Path(name)
    known = path.suffix in (".ckpt", ".safetensors", ".pth", ".pt")
    return bool(_HUB.fullmatch(text)) and not known and not path.exists() and not path.parent.is_dir()
