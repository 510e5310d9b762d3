"""Atomic writing of files, locks, file names, and matching of files by their stem."""

import json
import os
import re
import secrets
import stat
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lit_thermal.errors import InputError, short

PART = ".part"
"""Suffix of the hidden temporary file that is written first."""
LONGEST = 255
"""Largest length of a file name in bytes on common file systems."""
_ROOM = len(".12345678") + len(PART) + 1


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield the path of a hidden file next to `path`, which replaces `path` if the body ends without an error.

    The hidden name is unique to this call, so that two writers do not interfere, and keeps the suffix of `path` before
    `.part`. After an error the hidden file is removed and `path` is unchanged. A missing folder is created.

    Raises:
        InputError: the file cannot be written: the disk is full, the folder is read-only, or the name is too long.
    """
    path = Path(path)
    check_name(path.name)
    aside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a long name is cut to leave room for the ending of the hidden name
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
    """Write a text in UTF-8, completely or not at all.

    Raises:
        InputError: same as in `replacing`.
    """
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="")


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes, completely or not at all.

    Raises:
        InputError: same as in `replacing`.
    """
    with replacing(path) as aside:
        aside.write_bytes(data)


def write_json(path: str | Path, value: Any) -> None:
    """Write plain values as indented JSON, completely or not at all.

    Raises:
        InputError: same as in `replacing`.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def check_folder(folder: str | Path, option: str) -> None:
    """Check before long work that its results can be written to a folder; nothing remains of the check.

    Args:
        folder: folder of the results, which need not exist.
        option: option of the command line that gave the folder, such as "--out", for the error message.

    Raises:
        InputError: the folder or one of its parents is a file or not writable.
    """
    folder = Path(folder)
    if "\0" in str(folder):
        raise InputError(f"{option} {str(folder)!r} contains a NUL character: name another folder")
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
    """Hold a lock while the body runs; the system releases it if the process ends in any other way.

    Args:
        file: hidden file for the lock, such as `.lock` in a run folder. It is not removed when the lock is released,
            because two processes could then lock two files of the same name.
        what: name of the locked object for the error message, such as "the run folder runs/theris/1".

    Raises:
        InputError: another process holds the lock, or the file cannot be created.
    """
    # imported here, because the command line imports this module before it checks that filelock is installed
    from filelock import FileLock, Timeout

    file = Path(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InputError(f"another process is using {what}: wait until it has ended or choose another") from error
    except OSError as error:
        raise InputError(f"{what} cannot be written ({short(error)}): choose another place") from error
    try:
        yield
    finally:
        lock.release()


def check_name(name: str) -> None:
    """Check that a name is valid for a file, before the file is created.

    Raises:
        InputError: the name is empty, refers to another folder, contains a NUL character, or is too long.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name or (os.name == "nt" and re.search(r'[\\:*?"<>|]', name)):
        raise InputError(f"{name!r} is not a valid file name: rename the input")
    if len(os.fsencode(name)) > LONGEST:
        raise InputError(
            f"the name {name[:40]}... has {len(os.fsencode(name))} bytes, more than the limit of {LONGEST} for a file: "
            "shorten it"
        )


def same_name(stem: str) -> str:
    """Return the normalised stem by which files are matched (Unicode NFC, since systems encode accents differently).

    Nothing else is normalised: stems that differ in case, spaces or punctuation are different.
    """
    return unicodedata.normalize("NFC", stem)


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key for the name of a path that puts frame_2 before frame_10."""
    parts = re.split(r"([0-9]+)", path.name)
    return [(0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part.lower()) for part in parts]


def by_stem(paths: Iterable[Path], where: str | Path) -> dict[str, Path]:
    """Return files by their normalised stems (`same_name`), in the given order.

    Args:
        paths: files, or folders, for which the whole name is the stem.
        where: folder for the error message.

    Raises:
        InputError: two files have the same stem, or a name is not UTF-8.
    """
    found: dict[str, Path] = {}
    for path in paths:
        stem = same_name(path.name if path.is_dir() else path.stem)
        if not _is_text(stem):
            raise InputError(f"{where} holds {path.name!r}, whose name is not valid UTF-8: rename it")
        if (other := found.setdefault(stem, path)) != path:
            raise InputError(
                f"{where} holds {other.name} and {path.name}, which have the same stem: rename or remove one"
            )
    return found


def check_partners(names: Iterable[str], listed: Mapping[str, Collection[str]], advice: str) -> None:
    """Check that files which belong together exist in every place.

    Args:
        names: stems that every place must have, as `by_stem` returns them.
        listed: stems that each place has, by the folder or file that the error message names.
        advice: advice for the user at the end of the error message.

    Raises:
        InputError: a place lacks a stem.
    """
    lacking = without_partner(names, listed)
    if lacking:
        raise InputError(f"files that belong together must have the same name, but {lacking}: {advice}")


def without_partner(names: Iterable[str], listed: Mapping[str, Collection[str]]) -> str:
    """Return a clause about the stems that a place lacks, or an empty string; the arguments are those of the check."""
    names = list(names)
    clauses = []
    for place, stems in listed.items():
        lacking = [name for name in names if name not in stems]
        if lacking:
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            clauses.append(f"{place} has no {', '.join(lacking[:3])}{more}")
    return " and ".join(clauses)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_plain(path: Path) -> bool:
    """Return whether a path is a regular file, not a pipe, socket or device, which could block its reader."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False
