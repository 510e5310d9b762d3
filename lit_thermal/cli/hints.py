"""Type hints of a config's classes: the classes that a slot accepts, their arguments, and the allowed values."""

import inspect
import types
import typing
from abc import ABC
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

EMPTY = inspect.Parameter.empty
PLAIN_MODULES = frozenset({"builtins", "datetime", "pathlib", "enum", "torch", "os", "collections.abc"})
"""Modules whose classes are written as plain values (`torch.dtype`), not as class_path and init_args."""


@dataclass(frozen=True)
class Argument:
    """One argument of a class, or one key at the top of a config."""

    hint: Any
    default: Any = EMPTY
    group: Mapping[str, "Argument"] | None = None
    """Arguments below a key that is a group and not a value (`trainer`)."""


class Slot(NamedTuple):
    """Classes that an argument accepts: subclasses of `bases`, or factories of them."""

    bases: tuple[type, ...]
    passed: int
    """Number of positional arguments that the parent passes to the class."""


def arguments(kind: type | Callable[..., Any], passed: int = 0) -> dict[str, Argument]:
    """Return the arguments of a class that a config may set.

    Args:
        kind: class; if it takes `**kwargs`, the arguments of its bases are included.
        passed: number of leading positional arguments that the parent passes and a config cannot set.
    """
    found: dict[str, Argument] = {}
    classes = inspect.getmro(kind) if inspect.isclass(kind) else (kind,)
    for number, owner in enumerate(c for c in classes if not inspect.isclass(c) or "__init__" in vars(c)):
        if owner is object:
            break
        function = vars(owner)["__init__"] if inspect.isclass(owner) else owner
        try:
            hints = typing.get_type_hints(function)
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError, NameError):
            break
        own = parameters[1:] if inspect.isclass(owner) else parameters
        for parameter in own[passed if number == 0 else 0 :]:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.setdefault(parameter.name, Argument(hints.get(parameter.name, Any), parameter.default))
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


def slots(hint: Any) -> Slot | None:
    """Return the classes that a type hint accepts, or None if it accepts only plain values."""
    bases: list[type] = []
    passed = 0
    for member in _members(hint):
        if get_origin(member) is Callable and get_args(member):
            given, result = get_args(member)
            bases += [c for c in _members(result) if _is_slot(c)]
            passed = len(given) if isinstance(given, list) else 0
        elif _is_slot(member):
            bases.append(member)
    return Slot(tuple(bases), passed) if bases else None


def subclasses(slot: Slot) -> dict[str, type]:
    """Return all imported concrete public classes for a slot, by name."""
    found: dict[str, type] = {}
    todo = list(slot.bases)
    while todo:
        kind = todo.pop()
        todo += type.__subclasses__(kind)
        if not inspect.isabstract(kind) and ABC not in kind.__bases__ and not kind.__name__.startswith("_"):
            found.setdefault(kind.__name__, kind)
    return found


def containers(hint: Any) -> tuple[Any, Any]:
    """Return the type of the items of a list hint and that of the values of a dict hint; None for other hints."""
    items = values = None
    for member in _members(hint):
        origin, args = get_origin(member), get_args(member)
        if not inspect.isclass(origin) or not args or origin in (Callable, type):
            continue
        if issubclass(origin, Mapping):
            values = args[-1]
        elif issubclass(origin, tuple):
            items = args[0] if len(args) == 2 and args[1] is Ellipsis else Any
        elif issubclass(origin, Iterable):
            items = args[0]
    return items, values


def fixed_lengths(hint: Any) -> list[int]:
    """Return the lengths of all fixed-length tuples in a hint."""
    tuples = [get_args(member) for member in _members(hint) if get_origin(member) is tuple]
    return [len(args) for args in tuples if Ellipsis not in args]


def leaves(hint: Any) -> Any:
    """Return the union of the plain-value members of a hint, or None if it has none."""
    plain = [m for m in _members(hint) if slots(m) is None and m is not type(None) and containers(m) == (None, None)]
    return Union[tuple(plain)] if plain else None  # noqa: UP007 - the members are known at run time only


def accepts_null(hint: Any) -> bool:
    """Return whether a hint allows null."""
    return any(member is type(None) or member is Any for member in _members(hint))


def literals(hint: Any) -> list[str]:
    """Return the words of all `Literal` members of a hint."""
    return [str(word) for member in _members(hint) if get_origin(member) is Literal for word in get_args(member)]


def described(hint: Any) -> str:
    """Return a description of the values that a hint accepts."""
    words = {int: "an integer", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
    parts = []
    for member in _members(hint):
        slot = slots(member)
        if member in words:
            parts.append(words[member])
        elif get_origin(member) is Literal:
            parts += [str(word) for word in get_args(member)]
        elif slot:
            parts.append(f"a {' or '.join(base.__name__ for base in slot.bases)}")
        elif fixed_lengths(member):
            kinds = ", ".join(described(item) for item in get_args(member))
            parts.append(f"a list of {fixed_lengths(member)[0]} ({kinds})")
        elif containers(member)[0] is not None:
            parts.append("a list")
        elif containers(member)[1] is not None:
            parts.append("a mapping")
        else:
            parts.append(getattr(member, "__name__", str(member)))
    return " or ".join(dict.fromkeys(parts))


def _members(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the hint itself."""
    if get_origin(hint) is typing.Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(m for member in get_args(hint) for m in _members(member))
    return (hint,)


def _is_slot(hint: Any) -> bool:
    if get_origin(hint) is not None or not inspect.isclass(hint):
        return False
    return hint.__module__ not in PLAIN_MODULES and not issubclass(hint, (str, int, float, Enum))
