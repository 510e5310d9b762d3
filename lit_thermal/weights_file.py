"""Files of weights: checked before they are used, written whole, and held against the network that takes them."""

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
"""What wrappers put into the names of weights: of parallel networks (DDP), and of compiled ones."""
_CHUNK = 1 << 20
_log = logging.getLogger(__name__)


def read_file(path: Path, what: str = "weights", advice: str = "", mapped: bool = False) -> Any:
    """Read a file of weights (.safetensors, or what `torch.save` wrote) onto the CPU.

    Only tensors and plain values are unpickled, so that no code in the file is run. The checksums of an archive of
    torch are compared first, because torch does not look at them; safetensors and files of torch before 1.6 have none.

    Args:
        path: of the file.
        what: what it should be, for the sentence.
        advice: what to do about a file that cannot be read; by default that follows from its size.
        mapped: leave tensors in the file until they are used, and those that are not used for good. It must not be
            written to meanwhile.

    Raises:
        InputError: it cannot be read, is damaged, or holds more than tensors and plain values.
    """
    if not is_plain(path):
        raise InputError(f"{path} is not a file that can be read as {what}: give one that exists")
    size = path.stat().st_size
    with reading(path, what, advice or f"it is truncated or of another kind ({size} bytes)"):
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        archive = _is_archive(path)
        if archive:
            check_archive(path)
        try:
            # files of old versions of torch cannot be mapped
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and archive)
        except pickle.UnpicklingError as error:
            if "Unsupported global" not in str(error):
                raise
            raise InputError(
                f"{path} holds more than tensors and plain values, and is not read because loading it could run "
                "code; save its state dict alone"
            ) from error


def check_archive(path: Path) -> None:
    """Compare all that an archive of torch holds with its checksums, and refuse one that torch would not write.

    Compressed entries, and entries that lie in each other, are refused before anything is read: a small file can so
    declare more than any memory holds.

    Raises:
        InputError: a checksum is wrong, or the archive is of another kind.
        zipfile.BadZipFile: the archive has no order.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise InputError(f"{path} is compressed, which no file of torch is: unpack it")
        if len({entry.filename for entry in entries}) < len(entries):
            raise InputError(f"{path} is damaged: two of its entries have one name; copy or download it anew")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise InputError(f"{path} is damaged: it declares more than it holds; copy or download it anew")
        for entry in entries:
            try:
                with archive.open(entry) as part:
                    while part.read(_CHUNK):
                        pass
            except zipfile.BadZipFile as error:
                raise InputError(
                    f"{path} is damaged: its entry {entry.filename[:80]!r} does not match its checksum; copy or "
                    "download it anew, or take another checkpoint"
                ) from error


def save_file(value: Any, path: Path) -> None:
    """Write what `torch.save` writes, whole or not at all.

    Raises:
        InputError: it cannot be written: the disk is full, the place is read-only, or the name is too long.
    """
    with replacing(path) as aside:
        try:
            # torch would name the parts of the archive after the hidden file, by another name at every saving
            with open(aside, "wb") as file:
                torch.save(value, file)
        except RuntimeError as error:
            # torch's writer tells of a full disk by an error without a number
            if "PytorchStreamWriter" in str(error) or "inline_container" in str(error):
                full = _full(aside, error)
                raise InputError(f"{path} cannot be written ({full}): make room or choose another place") from error
            raise


def check_tensors(state: Mapping[Any, Any], path: str | Path) -> None:
    """Check that a state dict maps names to dense tensors; extra state of a module may be anything.

    Raises:
        InputError: it holds something else: a sparse, quantised or nested tensor, one without values, no tensor.
    """
    for name, value in state.items():
        if not isinstance(name, str):
            raise InputError(f"{path} is damaged: one of its weights is named {name!r}; copy or download it anew")
        if name.endswith("_extra_state"):
            continue
        kind = _unusable(value)
        if kind:
            raise InputError(f"{path} holds {name} as {kind}, and weights are dense tensors: save it as such")


def check_kinds(theirs: Mapping[str, Any], own: Mapping[str, Any], path: str | Path) -> None:
    """Check that weights of a file are of the kinds of numbers that a network has by the same names.

    Args:
        theirs: weights of the file.
        own: those of the network.
        path: of the file, for the sentence.

    Raises:
        InputError: whole or complex numbers are given where the network has real ones, or the like.
    """
    for name, value in theirs.items():
        mine = own.get(name)
        if isinstance(value, Tensor) and isinstance(mine, Tensor) and _numbers(value) != _numbers(mine):
            raise InputError(
                f"{path} holds {name} as {str(value.dtype).removeprefix('torch.')}, where the network has "
                f"{str(mine.dtype).removeprefix('torch.')}: it is damaged or of another network"
            )


def check_finite(theirs: Mapping[str, Any], own: Mapping[str, Any], path: str | Path) -> None:
    """Check that weights of a file are finite, but for those that the network itself has infinite values in.

    Args:
        theirs: weights of the file; those that the network has by the same name and shape are looked at.
        own: those of the network as it was built; those on the meta device are not held against anything.
        path: of the file, for the sentence.

    Raises:
        InputError: some are not.
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
            "training diverged; give an earlier checkpoint"
        )


def named_as(own: Iterable[str], state: Mapping[str, Any], path: str | Path = "") -> dict[str, Any]:
    """Return a state dict by the names of a network, without what wrappers put into its names, and say so.

    A name that the network has stays. Wrappers around parts of a network put their words into the middle of names.

    Args:
        own: names of the network's weights.
        state: read from a file.
        path: of the file, for the sentence; none is said without it.
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
            _log.info("%s: %s taken off the names of %d weights", path, " and ".join(words), len(mended))
        return renamed
    return dict(state)


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _is_archive(path: Path) -> bool:
    """Whether torch takes a file for an archive, which it does by its first bytes."""
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _unusable(value: Any) -> str:
    """What makes a value no weight, or nothing."""
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
    return "truth" if value.dtype == torch.bool else "whole"


def _finite(value: Tensor) -> bool:
    if not (value.is_floating_point() or value.is_complex()) or not value.numel():
        return True
    if value.is_complex():
        value = torch.view_as_real(value.resolve_conj())
    if value.element_size() < 2:
        value = value.float()  # the types of 8 bits have no order
    # no tensor of truth values is made, as large as the weights
    low, high = value.detach().aminmax()
    return bool(low.isfinite() and high.isfinite())


def _full(path: Path, error: Exception) -> str:
    """Why torch could not write: by the room that is left, because its own words are about its code."""
    try:
        room = os.statvfs(path.parent)
        if room.f_bavail * room.f_frsize < 1 << 20:
            return "no space left on the disk"
    except (OSError, AttributeError):
        pass
    return short(error)
