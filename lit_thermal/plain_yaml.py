"""The one reader of YAML: plain values in bounds, no key twice, and one sentence where a text is not that.

JSON is read too, being a part of YAML.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from lit_thermal.errors import InputError, reading
from lit_thermal.files import is_plain

LARGEST = 1 << 20
"""Bytes that a file may have; the longest of ours has ten thousand."""
DEEPEST = 64
"""Levels of lists and mappings, aliases followed."""
MOST = 50_000
"""Values and keys, aliases followed: a few lines of aliases of aliases can stand for billions."""
_INTEGER = "tag:yaml.org,2002:int"
_NUMBER = re.compile(r"[-+]?[0-9][0-9_]*\.?[0-9_]*([eE][-+]?[0-9]+)?")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class RefusedYAMLError(yaml.YAMLError):
    """A text is YAML and is not read all the same."""


def read(path: str | Path) -> Any:
    """Read a file.

    Returns:
        Its plain values; None for an empty file.

    Raises:
        InputError: it is no file of text in UTF-8 within `LARGEST`, or as `load`.
    """
    path = Path(path)
    with reading(path, "a YAML file", "give another file"):
        size = path.stat().st_size
        if not path.is_dir() and not is_plain(path):
            raise InputError(f"{path} is a pipe or a device, not a file: save what it gives and name that file")
        if size > LARGEST:
            raise InputError(f"{path} has {size:,} bytes, and a YAML file may have {LARGEST:,}: give another file")
        return load(_decoded(path.read_bytes(), path), path)


def load(text: str, where: str | Path) -> Any:
    """Return the plain values of a text.

    Args:
        text: YAML.
        where: the file that it comes from, for the sentence.

    Raises:
        InputError: it is not YAML, names a key twice, holds a character that no text has or a number that no computer
            takes, or stands for more than `MOST` values or `DEEPEST` levels.
    """
    try:
        return _loaded(text)
    except RefusedYAMLError as error:
        raise InputError(f"{where}{error}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        raise InputError(f"{where}, {place}: not YAML: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        raise InputError(
            f"{where} holds the character {_named(error.character)}, which a text has not: save it as plain text"
        ) from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # such as the 31st of February
        raise InputError(f"{where} is not YAML: {' '.join(str(error).split())}") from error


def check(text: str) -> None:
    """Check a text that is going to be read as YAML, and as itself where it is none.

    Raises:
        RefusedYAMLError: it is YAML, and `load` refuses it. The message begins with the punctuation or the space after
            the name of what is refused.
    """
    try:
        _loaded(text)
    except RefusedYAMLError:
        raise
    except UnicodeEncodeError as error:
        raise RefusedYAMLError(" is no text in UTF-8: write it in UTF-8") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return


def _loaded(text: str) -> Any:
    if "\0" in text:
        raise RefusedYAMLError(" holds a NUL character, which a text has not: remove it")
    text = text.removeprefix("\ufeff")
    _check_nesting(text)
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _Measure(loader).of(node)
        return loader.construct_document(node)
    except (LookupError, AttributeError, ArithmeticError) as error:  # what yaml raises for `!!bool maybe`
        raise RefusedYAMLError(
            " holds a value that is not the number, truth value or date that it is marked or written as: quote it, "
            "without a mark such as !!int"
        ) from error
    finally:
        loader.dispose()


def _check_nesting(text: str) -> None:
    """Check the levels that a text has without its aliases, one event after the other: a parser recurses into them."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            _refuse(event, f"nested more than {DEEPEST} levels deep: write it flatter")


class _Measure:
    """Checks each node once, and counts what it stands for."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._known: dict[int, tuple[int, int] | None] = {}

    def of(self, node: yaml.Node) -> tuple[int, int]:
        """Return how many values and levels a node stands for."""
        if id(node) in self._known:
            known = self._known[id(node)]
            if known is None:
                _refuse(node, "it holds itself through an alias: write out what is meant")
            return known
        self._known[id(node)] = None
        count, levels = 1, 0
        if isinstance(node, yaml.ScalarNode):
            _check_scalar(node)
        for child in _children(node):
            more, below = self.of(child)
            count, levels = count + more, max(levels, below + 1)
        if count > MOST or levels > DEEPEST:
            _refuse(node, f"it stands for more than {MOST:,} values or {DEEPEST} levels: give less")
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, self._loader)
        self._known[id(node)] = (count, levels)
        return count, levels


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _check_scalar(node: yaml.ScalarNode) -> None:
    """Check a text or a number that stands for itself."""
    text = node.value
    if "\0" in text:
        _refuse(node, "a NUL character, which no text has: remove it")
    if node.style not in (None, ""):  # in quotation marks or a block: a text
        return
    if node.tag == _INTEGER and (len(text) > 1000 or abs(yaml.SafeLoader("").construct_yaml_int(node)) >= 1 << 63):
        _refuse(node, f"a whole number of {len(text)} digits, too large to count with: give less, or quote a name")
    if _NUMBER.fullmatch(text) and math.isinf(float(text)):
        _refuse(node, f"{text[:20]} is too large to count with: give less, or quote a name")


def _check_keys(node: yaml.MappingNode, loader: Any) -> None:
    """Check that no key stands twice in a mapping; what `<<` brings in may be replaced."""
    lines: dict[Any, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            _refuse(key, "a key is a list or a mapping, where a text is expected")
        name = "<<" if key.tag == "tag:yaml.org,2002:merge" else loader.construct_object(key)
        line = key.start_mark.line + 1
        if name in lines:
            raise RefusedYAMLError(
                f": the key {name!r} stands in line {lines[name]} and again in line {line}, where one would replace "
                "the other: remove or rename one"
            )
        lines[name] = line


def _refuse(place: Any, why: str) -> NoReturn:
    mark = place.start_mark
    raise RefusedYAMLError(f", line {mark.line + 1}, column {mark.column + 1}: {why}")


def _decoded(data: bytes, path: Path) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or data[:4].count(0) > 1:
        raise InputError(f"{path} is no text in UTF-8 (it looks like UTF-16): save it as UTF-8")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        raise InputError(
            f"{path} is no text in UTF-8 (byte 0x{data[error.start]:02x} in line {line}, column {column}): "
            "save it as UTF-8"
        ) from error


def _named(character: Any) -> str:
    return f"U+{character if isinstance(character, int) else ord(character):04X}"
