"""Strict reading of text, JSON and CSV files, and CSV writing that prevents spreadsheets from running formulas."""

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lit_thermal.errors import InputError, reading
from lit_thermal.files import is_plain

MOST_BYTES = 64 << 20
"""Default limit on the size of a text file in bytes."""
DEEPEST = 64
"""Largest number of nested levels of lists and mappings in a file."""
LONGEST_NUMBER = 40
"""Largest number of digits of an integer in a file."""

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_FORMULA = re.compile(r"'*\s*[=+\-@\t\r\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH COMMERCIAL AT}]")
_WIDE = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\0\0\xfe\xff": "UTF-32"}


def read_bytes(path: str | Path, what: str, advice: str = "replace or remove it", most: int = MOST_BYTES) -> bytes:
    """Read a file of at most `most` bytes. A pipe or device is refused, because reading it could block or never end.

    Args:
        path: path of the file.
        what: expected contents with an article, such as "a list of pairs", for error messages.
        advice: advice for the user at the end of error messages.
        most: largest size in bytes.

    Raises:
        InputError: the file is missing, not a regular file, too large, or cannot be read.
    """
    path = Path(path)
    with reading(path, what, advice):
        if not is_plain(path):
            size = path.stat()  # raises an error if nothing is there
            if path.is_dir():
                raise IsADirectoryError(size)
            raise InputError(f"{path} is a pipe or a device, but {what} is expected: give a file")
        if (found := path.stat().st_size) > most:
            raise InputError(f"{path} has {found:,} bytes, but {what} may have at most {most:,}: {advice}")
        with path.open("rb") as file:
            return file.read(most + 1)


def read_text(path: str | Path, what: str, advice: str = "replace or remove it", most: int = MOST_BYTES) -> str:
    """Read a UTF-8 file, with or without a byte order mark; all line ends are converted to Unix's.

    Arguments are as in `read_bytes`.

    Raises:
        InputError: same as in `read_bytes`, or the file has another encoding or contains NUL characters.
    """
    data = read_bytes(path, what, advice, most)
    for mark, name in _WIDE.items():
        if data.startswith(mark):
            raise InputError(f"{path} is in {name}: save it in UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not in UTF-8 (byte {error.start}): save it in UTF-8, or {advice}") from error
    if "\0" in text:
        raise InputError(f"{path} contains NUL characters, so it is not {what}: {advice}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(
    path: str | Path,
    what: str,
    advice: str = "replace or remove it",
    *,
    nan: bool = False,
    most: int = MOST_BYTES,
) -> Any:
    """Read JSON strictly: unique keys, limited nesting, finite numbers and complete characters.

    Args:
        path: path of the file.
        what: expected contents with an article, for error messages.
        advice: advice for the user at the end of error messages.
        nan: whether NaN and infinities are allowed as numbers.
        most: largest size in bytes.

    Raises:
        InputError: same as in `read_text`, or the file is not valid JSON in this sense.
    """
    text = read_text(path, what, advice, most)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"{path} has the key {twice[:60]!r} twice in one mapping: keep one of them")
        return found

    def whole(digits: str) -> int:
        if len(digits) > LONGEST_NUMBER:
            raise InputError(f"{path} has a number of {len(digits)} digits: {advice}")
        return int(digits)

    def broken(digits: str) -> float:
        number = float(digits)
        if not nan and abs(number) == float("inf"):
            raise InputError(f"{path} has the number {digits[:40]}, which is too large: {advice}")
        return number

    def constant(word: str) -> float:
        if not nan:
            raise InputError(f"{path} has {word} in place of a number: {advice}")
        return float(word)

    with reading(path, what, advice):
        value = json.loads(text, object_pairs_hook=once, parse_int=whole, parse_float=broken, parse_constant=constant)
        _check_depth(value, path, advice, halves="\\u" in text or "\\U" in text)
    return value


def _check_depth(value: Any, path: str | Path, advice: str, halves: bool) -> None:
    """Refuse values nested deeper than `DEEPEST`, and texts with surrogate halves, which no file can hold."""
    level: list[Any] = [value]
    for _ in range(DEEPEST + 1):
        if halves and (half := next((v for v in level if isinstance(v, str) and not _is_whole(v)), None)) is not None:
            raise InputError(f"{path} has the text {half[:40]!r}, which holds half a character: {advice}")
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += [*item, *item.values()] if halves else item.values()
            elif isinstance(item, list):
                below += item
        level = below
        if not level:
            return
    raise InputError(f"{path} is nested more than {DEEPEST} levels deep: {advice}")


def _is_whole(text: str) -> bool:
    return re.search(r"[\ud800-\udfff]", text) is None


def read_table(
    path: str | Path, what: str, advice: str = "replace or remove it", most: int = 1 << 30
) -> list[dict[str, str]]:
    """Read a CSV with a header: each row as a mapping from column names to cells; missing cells are empty.

    Apostrophes that `as_csv` put before formulas are removed.

    Arguments are as in `read_bytes`.

    Raises:
        InputError: same as in `read_text`, or there is no header, two columns share a name, or a row is too long.
    """
    text = read_text(path, what, advice, most)
    with reading(path, what, advice):
        lines = csv.reader(io.StringIO(text, newline=""))
        head = [bare(cell) for cell in next(lines, [])]
        if not head:
            raise InputError(f"{path} is empty, but {what} is expected: {advice}")
        if len(set(head)) < len(head):
            twice = next(name for name in head if head.count(name) > 1)
            raise InputError(f"{path} has two columns named {twice[:60]!r}: {advice}")
        found = []
        for cells in lines:
            if len(cells) > len(head):
                raise InputError(
                    f"line {lines.line_num} of {path} has {len(cells)} cells, but the header has {len(head)}: {advice}"
                )
            if cells:
                found.append(dict(zip(head, [*map(bare, cells), *[""] * (len(head) - len(cells))], strict=True)))
    return found


def as_csv(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV in which no text is a formula (`cell`); numbers are unchanged."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([cell(value) for value in row] for row in rows)
    return text.getvalue()


def cell(value: Any) -> Any:
    """Return a value for a CSV: text that a spreadsheet would run as a formula gets an apostrophe before it.

    A formula that already has an apostrophe gets one more, so that `bare` restores every text.
    """
    if not isinstance(value, str):
        return value
    value = printable(value)
    return f"'{value}" if _FORMULA.match(value) and not _is_number(value) else value


def bare(text: str) -> str:
    """Return the text that `cell` was given, without its apostrophe."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def printable(text: str) -> str:
    """Return a text in which control characters and surrogate halves are replaced by the replacement character."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()


def inside(folder: str | Path, name: str, where: str | Path) -> Path:
    """Return the path of a file that a record in a folder names, which must be inside the folder.

    A link that leads out of the folder is refused. The file need not exist.

    Args:
        folder: folder of the record.
        name: relative path in the record.
        where: file of the record, for error messages.

    Raises:
        InputError: the path is absolute or leads out of the folder, by its parts or by a link.
    """
    folder = Path(folder)
    advice = "it was edited by hand, so create it again"
    try:
        parts = Path(name).parts
        if not name or "\0" in name or Path(name).is_absolute() or ".." in parts or os.path.splitdrive(name)[0]:
            raise InputError(f"{where} names {printable(name[:120])!r}, not a path inside its folder: {advice}")
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{path} leads out of {folder}, the folder of {where}: {advice}")
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, a circle of links
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where} names {printable(name[:120])!r}, which is not a valid path: {advice}") from error
    return path
