"""Weights files: checks before use, atomic writing, and comparison with the network that loads them."""

import logging
import os
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_thermal.errors import InputError, reading, short
from lit_thermal.files import is_plain, replacing

WRAPPERS = ("module", "_orig_mod")
"""Words that wrappers insert into the names of weights: `module` by DDP, `_orig_mod` by `torch.compile`."""
_CHUNK = 1 << 20
_log = logging.getLogger(__name__)


def read_file(path: Path, what: str = "weights", advice: str = "", mapped: bool = False) -> Any:
    """Read a weights file (.safetensors, or a file of `torch.save`) to the CPU.

    Only tensors and plain values are unpickled, so that no code in the file is run. The checksums of a torch archive
    are verified first, because torch ignores them; safetensors and files of torch before 1.6 have none.

    Args:
        path: path of the file.
        what: expected contents, for error messages.
        advice: advice for a file that cannot be read; by default that it is truncated or has another format.
        mapped: whether to memory-map tensors, so that they are read when they are used. The file must not be modified
            in the meantime.

    Raises:
        InputError: the file cannot be read, is damaged, or holds more than tensors and plain values.
    """
    if not is_plain(path):
        raise InputError(f"{path} is not a file that can be read as {what}: give an existing file")
    size = path.stat().st_size
    with reading(path, what, advice or f"it is truncated or has another format ({size} bytes)"):
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        archive = _is_archive(path)
        if archive:
            check_archive(path)
        try:
            # files of old torch versions cannot be memory-mapped
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and archive)
        except pickle.UnpicklingError as error:
            if "unsupported global" not in str(error).lower():  # in capitals for blocked modules such as os
                raise
            raise InputError(
                f"{path} holds more than tensors and plain values and is refused, because loading it could run code; "
                "save only its state dict"
            ) from error


def check_archive(path: Path) -> None:
    """Verify the checksums of a torch archive, and refuse an archive that torch would not write.

    Compressed and overlapping entries are refused before anything is read, because with them a small file could declare
    more data than fits into memory.

    Raises:
        InputError: a checksum is wrong, or the archive is not one of torch.
        zipfile.BadZipFile: the archive has no valid directory.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise InputError(f"{path} is compressed, but torch files never are: unpack it")
        if len({entry.filename for entry in entries}) < len(entries):
            raise InputError(f"{path} is damaged: two of its entries have the same name; copy or download it again")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise InputError(f"{path} is damaged: it declares more than it contains; copy or download it again")
        for entry in entries:
            try:
                with archive.open(entry) as part:
                    while part.read(_CHUNK):
                        pass
            except zipfile.BadZipFile as error:
                raise InputError(
                    f"{path} is damaged: its entry {entry.filename[:80]!r} does not match its checksum; copy or "
                    "download it again, or use another checkpoint"
                ) from error


def save_file(value: Any, path: Path) -> None:
    """Write a value by `torch.save`, completely or not at all.

    Raises:
        InputError: the file cannot be written: the disk is full, the folder is read-only, or the name is too long.
    """
    with replacing(path) as aside:
        try:
            # given a path, torch would name the entries of the archive after the hidden file, whose name is random
            with open(aside, "wb") as file:
                torch.save(value, file)
        except RuntimeError as error:
            # torch's writer reports a full disk by an error without an error number
            if "PytorchStreamWriter" in str(error) or "inline_container" in str(error):
                full = _full(aside, error)
                raise InputError(f"{path} cannot be written ({full}): make room or choose another place") from error
            raise


def check_tensors(state: Mapping[Any, Any], path: str | Path) -> None:
    """Check that a state dict maps names to dense tensors; the extra state of a module may be any value.

    Raises:
        InputError: a value is a sparse, quantised or nested tensor, a tensor without values, or not a tensor.
    """
    for name, value in state.items():
        if not isinstance(name, str):
            raise InputError(f"{path} is damaged: one of its weights is named {name!r}; copy or download it again")
        if name.endswith("_extra_state"):
            continue
        kind = _unusable(value)
        if kind:
            raise InputError(f"{path} holds {name} as {kind}, but weights must be dense tensors: convert it")


def check_kinds(theirs: Mapping[str, Any], own: Mapping[str, Any], path: str | Path) -> None:
    """Check that weights of a file have the same kind of numbers as those of the same name in a network.

    Args:
        theirs: weights of the file.
        own: weights of the network.
        path: path of the file for error messages.

    Raises:
        InputError: the file and the network differ, for example in integers and real numbers.
    """
    for name, value in theirs.items():
        mine = own.get(name)
        if isinstance(value, Tensor) and isinstance(mine, Tensor) and _numbers(value) != _numbers(mine):
            raise InputError(
                f"{path} holds {name} as {str(value.dtype).removeprefix('torch.')}, but the network has "
                f"{str(mine.dtype).removeprefix('torch.')}: the file is damaged or belongs to another network"
            )


def check_finite(theirs: Mapping[str, Any], own: Mapping[str, Any], path: str | Path) -> None:
    """Check that weights of a file are finite, except those that are also not finite in the new network.

    Args:
        theirs: weights of the file; those without a weight of the same name and shape in the network are not checked.
        own: weights of the newly built network; those on the meta device are not compared.
        path: path of the file for error messages.

    Raises:
        InputError: some weights are not finite.
    """
    found = [
        name
        for name, value in theirs.items()
        if isinstance(value, Tensor) and isinstance(mine := own.get(name), Tensor) and value.shape == mine.shape
        if not mine.is_meta and not _finite(value) and _finite(mine)
    ]
    if found:
        raise InputError(
            f"{path} holds weights that are not finite ({len(found)} of {len(theirs)}, first: {found[0]}): its "
            "training diverged; use an earlier checkpoint"
        )


def named_as(own: Iterable[str], state: Mapping[str, Any], path: str | Path = "") -> dict[str, Any]:
    """Return a state dict with the names of a network, without the words of wrappers, and log the change.

    A name that the network has is unchanged. Wrappers of parts of a network put their words into the middle of names.

    Args:
        own: names of the network's weights.
        state: state dict from a file.
        path: path of the file for the log; without it, nothing is logged.
    """
    names = {_bare(name): name for name in own}
    known = set(own)
    renamed: dict[str, Any] = {}
    mended: list[str] = []
    for name, value in state.items():
        bare = name if name in known else _bare(name)
        bare = names.get(bare, bare)
        if bare == name or bare in state or bare in renamed:
            renamed[name] = value
        else:
            renamed[bare] = value
            mended.append(name)
    if mended and not known.isdisjoint(renamed):
        if path:
            words = [f"`{word}.`" for word in WRAPPERS if any(word in name.split(".") for name in mended)]
            _log.info("%s: %s removed from the names of %d weights", path, " and ".join(words), len(mended))
        return renamed
    return dict(state)


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _is_archive(path: Path) -> bool:
    """Return whether a file begins like a zip archive, which is how torch recognises its archives."""
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _unusable(value: Any) -> str:
    """Return the kind of value if it cannot be a weight, such as "a sparse tensor"; an empty string if it can."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.is_meta:
        return "a tensor without values"
    if value.is_quantized:
        return "a quantised tensor"
    if value.is_nested:
        return "a nested tensor"
    if value.layout != torch.strided:
        return "a sparse tensor"
    return ""


def _numbers(value: Tensor) -> str:
    if value.is_complex():
        return "complex"
    if value.is_floating_point():
        return "real"
    return "boolean" if value.dtype == torch.bool else "integer"


def _finite(value: Tensor) -> bool:
    if not (value.is_floating_point() or value.is_complex()) or not value.numel():
        return True
    if value.is_complex():
        value = torch.view_as_real(value.resolve_conj())
    if value.element_size() < 2:
        value = value.float()  # 8-bit types do not support aminmax
    # unlike isfinite, this needs no mask as large as the weights
    low, high = value.detach().aminmax()
    return bool(low.isfinite() and high.isfinite())


def _full(path: Path, error: Exception) -> str:
    """Return why torch could not write, by the free disk space, because its own message describes its code."""
    try:
        room = os.statvfs(path.parent)
        if room.f_bavail * room.f_frsize < 1 << 20:
            return "no space left on the disk"
    except (OSError, AttributeError):
        pass
    return short(error)
