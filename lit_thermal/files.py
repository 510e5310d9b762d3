"""Files that appear whole or not at all, locks, and the one rule by which files belong together: their stem."""

import json
import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lit_thermal.errors import InputError, short

PART = ".part"
"""Suffix of the hidden file that is written beside its place."""
LONGEST = 255
"""Bytes that the name of a file may have on the usual file systems."""
_ROOM = len(".12345678") + len(PART) + 1


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield the path of a hidden file beside `path`, which takes its place when the body ends well.

    The hidden name belongs to this call alone, so that two writers never mix, and keeps the suffix of `path` before
    `.part`. After an error nothing is left of it and `path` is as it was. The folder is made where it is missing.

    Raises:
        InputError: the file cannot be written: the disk is full, the place is read-only, or the name is too long.
    """
    path = Path(path)
    check_name(path.name)
    aside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a long name is cut: the hidden one needs room for its own ending
        start = os.fsencode(path.name)[: LONGEST - _ROOM].decode(errors="ignore")
        free = path.with_name(f".{start}.{secrets.token_hex(4)}{PART}")
        os.close(os.open(free, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        aside = free
        yield aside
        os.replace(aside, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({short(error)}): make room or choose another place") from error
    finally:
        if aside is not None:
            with suppress(OSError):
                aside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text as UTF-8, whole or not at all.

    Raises:
        InputError: as `replacing`.
    """
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes, whole or not at all.

    Raises:
        InputError: as `replacing`.
    """
    with replacing(path) as aside:
        aside.write_bytes(data)


def write_json(path: str | Path, value: Any) -> None:
    """Write plain values as indented JSON, whole or not at all.

    Raises:
        InputError: as `replacing`.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def check_folder(folder: str | Path, option: str) -> None:
    """Check that files can be written into a folder, before long work whose results belong there; nothing is left.

    Args:
        folder: that of the results; it need not exist.
        option: how the user gave it ("--out"), for the sentence.

    Raises:
        InputError: it, or what it would be made in, is a file or may not be written.
    """
    folder = Path(folder)
    if "\0" in str(folder):
        raise InputError(f"{option} {str(folder)!r} holds a NUL character: name another folder")
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), Path("."))
    if not there.is_dir():
        raise InputError(f"{option} {folder}: {there} is a file; name a folder")
    made = [parent for parent in (folder, *folder.parents) if not os.path.lexists(parent)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{secrets.token_hex(4)}{PART}"
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        probe.unlink()
    except (OSError, ValueError) as error:
        raise InputError(f"{option} {folder} cannot be written ({short(error)}): choose another folder") from error
    finally:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()


@contextmanager
def locked(file: str | Path, what: str) -> Iterator[None]:
    """Hold a lock while the body runs; it goes with the process, however that ends.

    Args:
        file: hidden file that is the lock, such as `.lock` in a run folder. It stays when the lock is released, because
            removing it would let two processes hold two locks of one name.
        what: what is locked, for the sentence of the second process ("the run folder runs/theris/1").

    Raises:
        InputError: another process holds it, or the file cannot be made.
    """
    # imported here, since the command line reads this file before it knows whether it is installed
    from filelock import FileLock, Timeout

    file = Path(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(f"another process is at work in {what}: wait until it has ended or choose another") from error
    except OSError as error:
        raise InputError(f"{what} cannot be written ({short(error)}): choose another place") from error
    try:
        yield
    finally:
        lock.release()


def check_name(name: str) -> None:
    """Check that a name can be that of one file, before anything is made for it.

    Raises:
        InputError: it is empty, names another folder, holds a NUL character, or is too long for a file system.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name or (os.name == "nt" and re.search(r'[\\:*?"<>|]', name)):
        raise InputError(f"{name!r} cannot be the name of a file: rename the input")
    if len(os.fsencode(name)) > LONGEST:
        raise InputError(
            f"the name {name[:40]}... has {len(os.fsencode(name))} bytes, more than a file may have ({LONGEST}): "
            "shorten it"
        )


def same_name(stem: str) -> str:
    """Return the form of a stem by which files are matched: one accent is one letter or two, by the writing system.

    Nothing else is folded: case, spaces and punctuation tell files apart.
    """
    return unicodedata.normalize("NFC", stem)


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Sort key of a path by its name that puts frame_2 before frame_10."""
    parts = re.split(r"([0-9]+)", path.name)
    return [(0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part.lower()) for part in parts]


def by_stem(paths: Iterable[Path], where: str | Path) -> dict[str, Path]:
    """Return files by the stems that match them (`same_name`), in the order given.

    Args:
        paths: files, or folders, whose whole name is their stem.
        where: the folder, for the sentence.

    Raises:
        InputError: two have one stem, or a name is not UTF-8.
    """
    found: dict[str, Path] = {}
    for path in paths:
        stem = same_name(path.name if path.is_dir() else path.stem)
        if not _is_text(stem):
            raise InputError(f"{where} holds {path.name!r}, whose name is not text (UTF-8), as tables need: rename it")
        if (other := found.setdefault(stem, path)) != path:
            raise InputError(f"{where} holds {other.name} and {path.name}, which have one name: rename or remove one")
    return found


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_plain(path: Path) -> bool:
    """Return whether a path is a file of bytes, not a pipe, socket or device, which would block its reader."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False
