"""What type hints say about a config: which classes a slot takes, which arguments these have, what a value may be."""

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
    """For a key that is a group of arguments rather than a value (`trainer`)."""


class Slot(NamedTuple):
    """The classes that may fill a place: a class of `bases` or a factory of one."""

    bases: tuple[type, ...]
    passed: int
    """How many positional arguments the parent passes to the class."""


def arguments(kind: type | Callable[..., Any], passed: int = 0) -> dict[str, Argument]:
    """Return the arguments that a config may give to a class.

    Args:
        kind: the class; for one that takes `**kwargs`, those of its bases belong to it too.
        passed: leading positional arguments that are not the config's to give.
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
    """Return which classes a type hint takes, or None where it takes plain values only."""
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
    """Return the concrete public classes for a slot by their names, as far as they were imported."""
    found: dict[str, type] = {}
    todo = list(slot.bases)
    while todo:
        kind = todo.pop()
        todo += type.__subclasses__(kind)
        if not inspect.isabstract(kind) and ABC not in kind.__bases__ and not kind.__name__.startswith("_"):
            found.setdefault(kind.__name__, kind)
    return found


def containers(hint: Any) -> tuple[Any, Any]:
    """Return the type of the items of a list hint and of the values of a dict hint, each None where it is neither."""
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
    """Return the lengths of the tuples of a fixed length among the members of a hint."""
    tuples = [get_args(member) for member in _members(hint) if get_origin(member) is tuple]
    return [len(args) for args in tuples if Ellipsis not in args]


def leaves(hint: Any) -> Any:
    """Return the union of the members of a hint that are plain values, or None where there is none."""
    plain = [m for m in _members(hint) if slots(m) is None and m is not type(None) and containers(m) == (None, None)]
    return Union[tuple(plain)] if plain else None  # noqa: UP007 - the members are known at run time only


def accepts_null(hint: Any) -> bool:
    """Return whether a hint allows null."""
    return any(member is type(None) or member is Any for member in _members(hint))


def literals(hint: Any) -> list[str]:
    """Return the words that a hint allows, where it allows certain words only."""
    return [str(word) for member in _members(hint) if get_origin(member) is Literal for word in get_args(member)]


def described(hint: Any) -> str:
    """Return what a hint expects, in words."""
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
