"""Structure checks of records: a record is compared with a table of its expected structure when it is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lit_thermal.errors import InputError
from lit_thermal.plain_files import DEEPEST, printable

LARGEST = 1e30
"""Default bound on absolute values, beyond which sums and squares may not be finite."""


@dataclass(frozen=True)
class Number:
    """Finite number within bounds.

    Attributes:
        low: smallest allowed number.
        high: largest allowed number.
        whole: whether only integers are allowed.
    """

    low: float = -LARGEST
    high: float = LARGEST
    whole: bool = False


@dataclass(frozen=True)
class Each:
    """Mapping with any texts as keys, whose values all have the same structure."""

    shape: Any


@dataclass(frozen=True)
class OneOf:
    """One of the given plain values."""

    values: tuple[Any, ...]


Shape = Any
"""Expected structure of a value: `str`, `bool`, `dict`, `list` or None; `Number`, `OneOf` or `Each`; `object` for
anything; a list with the structure of its items; a mapping from keys to structures, in which a key that ends with "?"
is optional and further keys are allowed; or a tuple of alternatives."""

COUNT = Number(low=0, high=2**53, whole=True)
"""Integer of at least 0."""


def check(value: Any, shape: Shape, where: str, advice: str) -> Any:
    """Check that a value has the expected structure, and return it.

    Args:
        value: plain values from JSON or YAML.
        shape: expected structure, see `Shape`.
        where: file for the error message, which also names the key.
        advice: advice for the user at the end of the error message.

    Raises:
        InputError: a part is missing or does not have the expected structure.
    """
    fault = _fault(value, shape, "")
    if fault is not None:
        raise InputError(f"{where}: {printable(fault)}; {advice}")
    return value


def _fault(value: Any, shape: Shape, key: str) -> str | None:
    """Return a description of the first mistake in a value, or None."""
    if isinstance(shape, tuple):
        faults = [_fault(value, one, key) for one in shape]
        if None in faults:
            return None
        # The alternative whose type fits, but which contains a mistake, was probably intended.
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
    """Check that a tree has only plain values, limited depth and limited size, with shared parts counted every time.

    Raises:
        InputError: the tree contains itself, is nested too deeply, is too large, or has a key that is not a text, a
            value of another type such as a date, or a number that is not finite.
    """
    level, count = [("", value)], 0
    for _ in range(DEEPEST):
        below: list[tuple[str, Any]] = []
        for key, item in level:
            if isinstance(item, Mapping):
                if odd := [name for name in item if not isinstance(name, str)]:
                    raise InputError(
                        f"{where}: {_named(key)} has the key {_short(odd[0])}, which is not a text; {advice}"
                    )
                children = [(_below(key, name), child) for name, child in item.items()]
            elif isinstance(item, list):
                children = [(key, child) for child in item]
            elif item is None or isinstance(item, (str, bool)) or _is_finite(item):
                continue
            else:
                raise InputError(f"{where}: {_named(key)} holds {_short(item)}, which is not a plain value; {advice}")
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
    return key if key else "the content"


def _short(value: Any) -> str:
    """Return a value for an error message; for a possibly large value, only its type."""
    if isinstance(value, (dict, list)):
        return ("a mapping" if isinstance(value, dict) else "a list") if value else "empty"
    if isinstance(value, int) and abs(value) > 10**20:
        return "a very large number"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
