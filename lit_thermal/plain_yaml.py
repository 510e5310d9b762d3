"""Strict reading of YAML: plain values within limits, unique keys, and one-sentence errors.

JSON is read too, because it is a subset of YAML.
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
"""Largest size of a file in bytes; the longest packaged one has ten thousand."""
DEEPEST = 64
"""Largest number of nested levels of lists and mappings, with aliases expanded."""
MOST = 50_000
"""Largest number of values and keys, with aliases expanded: a few lines of nested aliases can expand to billions."""
_INTEGER = "tag:yaml.org,2002:int"
_NUMBER = re.compile(r"[-+]?[0-9][0-9_]*\.?[0-9_]*([eE][-+]?[0-9]+)?")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class RefusedYAMLError(yaml.YAMLError):
    """A text is valid YAML, but is refused."""


def read(path: str | Path) -> Any:
    """Read a file.

    Returns:
        Plain values of the file; None if it is empty.

    Raises:
        InputError: the file is not UTF-8 text of at most `LARGEST` bytes, or as in `load`.
    """
    path = Path(path)
    with reading(path, "a YAML file", "give another file"):
        size = path.stat().st_size
        if not path.is_dir() and not is_plain(path):
            raise InputError(f"{path} is a pipe or a device, not a file: save its output and give that file")
        if size > LARGEST:
            raise InputError(f"{path} has {size:,} bytes, but a YAML file has at most {LARGEST:,}: give another file")
        return load(_decoded(path.read_bytes(), path), path)


def load(text: str, where: str | Path) -> Any:
    """Parse YAML text into plain values.

    Args:
        text: YAML text.
        where: file that contains the text, for the error message.

    Raises:
        InputError: the text is not YAML, has a duplicate key, an invalid character or a number that is too large, or
            expands to more than `MOST` values or `DEEPEST` levels.
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
            f"{where} contains the character {_named(error.character)}, which is not allowed: save it as plain text"
        ) from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # such as the 31st of February
        raise InputError(f"{where} is not YAML: {' '.join(str(error).split())}") from error


def check(text: str) -> None:
    """Check a text that will be read as YAML, or as plain text if it is not YAML.

    Raises:
        RefusedYAMLError: the text is YAML that `load` refuses. The message begins with the punctuation or the space
            that follows the name of the text.
    """
    try:
        _loaded(text)
    except RefusedYAMLError:
        raise
    except UnicodeEncodeError as error:
        raise RefusedYAMLError(" is not valid UTF-8: write it in UTF-8") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return


def _loaded(text: str) -> Any:
    if "\0" in text:
        raise RefusedYAMLError(" holds a NUL character: remove it")
    text = text.removeprefix("\ufeff")
    _check_nesting(text)
    loader = _LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _Measure(loader).of(node)
        return loader.construct_document(node)
    except (LookupError, AttributeError, ArithmeticError) as error:  # raised by yaml for `!!bool maybe`
        raise RefusedYAMLError(
            " holds a value that is not valid for its type (number, boolean or date): put it in quotes, without a tag "
            "such as !!int"
        ) from error
    finally:
        loader.dispose()


def _check_nesting(text: str) -> None:
    """Check the nested levels of a text, without aliases, by its events, because a parser would recurse into them."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            _refuse(event, f"nested more than {DEEPEST} levels deep: write it flatter")


class _Measure:
    """Checks each node once, and counts its values with aliases expanded."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._known: dict[int, tuple[int, int] | None] = {}

    def of(self, node: yaml.Node) -> tuple[int, int]:
        """Return the number of values and of levels in a node, with aliases expanded."""
        if id(node) in self._known:
            known = self._known[id(node)]
            if known is None:
                _refuse(node, "it contains itself through an alias: write the value without an alias")
            return known
        self._known[id(node)] = None
        count, levels = 1, 0
        if isinstance(node, yaml.ScalarNode):
            _check_scalar(node)
        for child in _children(node):
            more, below = self.of(child)
            count, levels = count + more, max(levels, below + 1)
        if count > MOST or levels > DEEPEST:
            _refuse(node, f"it expands to more than {MOST:,} values or {DEEPEST} levels: shorten it")
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
    """Check a text or a number."""
    text = node.value
    if "\0" in text:
        _refuse(node, "it holds a NUL character: remove it")
    if node.style not in (None, ""):  # a text in quotes or a block
        return
    if node.tag == _INTEGER and (len(text) > 1000 or abs(yaml.SafeLoader("").construct_yaml_int(node)) >= 1 << 63):
        _refuse(node, f"an integer of {len(text)} digits is too large: give a smaller one, or put a name in quotes")
    if _NUMBER.fullmatch(text) and math.isinf(float(text)):
        _refuse(node, f"{text[:20]} is too large: give a smaller number, or put a name in quotes")


def _check_keys(node: yaml.MappingNode, loader: Any) -> None:
    """Check that no key occurs twice in a mapping; keys merged by `<<` may be overridden."""
    lines: dict[Any, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            _refuse(key, "a key is a list or a mapping, but must be a text")
        name = "<<" if key.tag == "tag:yaml.org,2002:merge" else loader.construct_object(key)
        line = key.start_mark.line + 1
        if name in lines:
            raise RefusedYAMLError(
                f": the key {name!r} is in line {lines[name]} and again in line {line}: remove or rename one"
            )
        lines[name] = line


def _refuse(place: Any, why: str) -> NoReturn:
    mark = place.start_mark
    raise RefusedYAMLError(f", line {mark.line + 1}, column {mark.column + 1}: {why}")


def _decoded(data: bytes, path: Path) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or data[:4].count(0) > 1:
        raise InputError(f"{path} is not UTF-8 text (it looks like UTF-16): save it as UTF-8")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        raise InputError(
            f"{path} is not UTF-8 text (byte 0x{data[error.start]:02x} in line {line}, column {column}): "
            "save it as UTF-8"
        ) from error


def _named(character: Any) -> str:
    return f"U+{character if isinstance(character, int) else ord(character):04X}"
