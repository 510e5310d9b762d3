"""What a record must look like, as a table that is held against it where it is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lit_thermal.errors import InputError
from lit_thermal.plain_files import DEEPEST, printable

LARGEST = 1e30
"""Numbers beyond are mistakes: sums and squares of them would not be finite."""


@dataclass(frozen=True)
class Number:
    """A finite number within bounds.

    Attributes:
        low: the least.
        high: the greatest.
        whole: it has no fraction.
    """

    low: float = -LARGEST
    high: float = LARGEST
    whole: bool = False


@dataclass(frozen=True)
class Each:
    """A mapping of any texts, of which every value is of one shape."""

    shape: Any


@dataclass(frozen=True)
class OneOf:
    """One of several plain values."""

    values: tuple[Any, ...]


Shape = Any
"""`str`, `bool`, `dict`, `list` or None; `Number`, `OneOf`; `object` for anything; a list with the shape of its items;
`Each`; a mapping of keys to shapes, in which a key that ends with "?" may be absent and others may be there; a tuple of
alternatives."""

COUNT = Number(low=0, high=2**53, whole=True)
"""A whole number from 0 up."""


def check(value: Any, shape: Shape, where: str, advice: str) -> Any:
    """Return a value that has a shape.

    Args:
        value: plain values, as JSON and YAML give them.
        shape: what it must be (`Shape`).
        where: the file, for the sentence; the key is added.
        advice: what the user can do about it.

    Raises:
        InputError: something is missing or is another thing.
    """
    fault = _fault(value, shape, "")
    if fault is not None:
        raise InputError(f"{where}: {printable(fault)}; {advice}")
    return value


def _fault(value: Any, shape: Shape, key: str) -> str | None:
    """What is wrong, in words; None where nothing is."""
    if isinstance(shape, tuple):
        faults = [_fault(value, one, key) for one in shape]
        if None in faults:
            return None
        # An alternative of the right kind with something wrong in it is the one that was meant.
        meant = [fault for fault in faults if fault and not fault.startswith(f"{_named(key)} is ")]
        return [*meant, *faults[::-1]][0]
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return _wrong(value, "a mapping", key)
        for name, of in shape.items():
            optional, name = name.endswith("?"), name.removesuffix("?")
            if name not in value:
                if optional:
                    continue
                return f"the key {_below(key, name)} is missing"
            if (fault := _fault(value[name], of, _below(key, name))) is not None:
                return fault
        return None
    if isinstance(shape, Each):
        if not isinstance(value, dict):
            return _wrong(value, "a mapping", key)
        for name, item in value.items():
            if not isinstance(name, str):
                return f"{_named(key)} has the key {_short(name)}, which is no text"
            if (fault := _fault(item, shape.shape, _below(key, name))) is not None:
                return fault
        return None
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _wrong(value, "a list", key)
        found = (_fault(item, shape[0], f"{key}[{number}]") for number, item in enumerate(value))
        return next((fault for fault in found if fault is not None), None)
    return _plain_fault(value, shape, key)


def _plain_fault(value: Any, shape: Shape, key: str) -> str | None:
    if shape is object:
        return None
    if isinstance(shape, OneOf):
        known = any(value == one and type(value) is type(one) for one in shape.values)
        return None if known else _wrong(value, f"one of {', '.join(map(str, shape.values))}", key)
    if isinstance(shape, Number):
        right = isinstance(value, int if shape.whole else (int, float)) and not isinstance(value, bool)
        if right and shape.low <= value <= shape.high:
            return None
        kind = "a whole number" if shape.whole else "a number"
        return _wrong(value, f"{kind} from {shape.low:g} to {shape.high:g}", key)
    if shape is None:
        return None if value is None else _wrong(value, "null", key)
    words = {str: "text", float: "a number", bool: "true or false", dict: "a mapping", list: "a list"}
    return None if isinstance(value, shape) else _wrong(value, words[shape], key)


def check_plain(value: Any, where: str, advice: str, most: int = 100_000) -> None:
    """Check that a tree is of plain values alone, ends, and is not immense once its parts that are shared are counted.

    Raises:
        InputError: it holds itself, is nested too deeply, holds too much, a key that is no text, a value of another
            kind such as a date, or a number that is not finite.
    """
    level, count = [("", value)], 0
    for _ in range(DEEPEST):
        below: list[tuple[str, Any]] = []
        for key, item in level:
            if isinstance(item, Mapping):
                if odd := [name for name in item if not isinstance(name, str)]:
                    raise InputError(f"{where}: {_named(key)} has the key {_short(odd[0])}, which is no text; {advice}")
                children = [(_below(key, name), child) for name, child in item.items()]
            elif isinstance(item, list):
                children = [(key, child) for child in item]
            elif item is None or isinstance(item, (str, bool)) or _is_finite(item):
                continue
            else:
                raise InputError(f"{where}: {_named(key)} holds {_short(item)}, which is no plain value; {advice}")
            count += len(children)
            if count > most:
                raise InputError(f"{where} holds more than {most:,} values; {advice}")
            below += children
        level = below
        if not level:
            return
    raise InputError(f"{where} is nested more than {DEEPEST} levels deep; {advice}")


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and -1e308 <= value <= 1e308


def _wrong(value: Any, words: str, key: str) -> str:
    return f"{_named(key)} is {_short(value)} and must be {words}"


def _below(key: str, name: Any) -> str:
    name = str(name)
    name = name if len(name) <= 60 else f"{name[:57]}..."
    return f"{key}.{name}" if key else name


def _named(key: str) -> str:
    return key if key else "all of it"


def _short(value: Any) -> str:
    """A value for a sentence; of what may be large only its kind."""
    if isinstance(value, (dict, list)):
        return ("a mapping" if isinstance(value, dict) else "a list") if value else "empty"
    if isinstance(value, int) and abs(value) > 10**20:
        return "an immense number"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
