"""Check of config files and overrides, key by key, against the type hints of the classes that they name."""

import argparse
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from jsonargparse import ArgumentParser

from lit_thermal import plain_yaml, trust
from lit_thermal.cli.arguments import Source
from lit_thermal.cli.hints import (
    Argument,
    Slot,
    arguments,
    containers,
    described,
    fixed_lengths,
    leaves,
    literals,
    slots,
    subclasses,
)
from lit_thermal.cli.parser import did_you_mean
from lit_thermal.errors import InputError


class Walk:
    """Checks sources one after the other and remembers the class in each slot.

    Args:
        top: top-level keys of a config.
        packages: packages whose classes a config may name.
    """

    def __init__(self, top: Mapping[str, Argument], packages: tuple[str, ...]) -> None:
        self.top = top
        self.packages = packages
        self.classes: dict[str, tuple[type, int]] = {}
        """Path of a slot to its class and the number of arguments that the parent passes to it."""
        self.given: set[str] = set()
        """Paths of all given arguments."""
        self._source = ""

    def add(self, source: Source) -> None:
        """Check one source.

        Raises:
            InputError: a key or a value is wrong.
        """
        self._source = source.name
        if source.keys:
            self._descend(source.keys, self.top, "", "the config", source.tree["value"])
            return
        for key, value in source.tree.items():
            self._argument(str(key), value, self.top, "", "the config")

    def complete(self) -> None:
        """Check that all required arguments were given.

        Raises:
            InputError: an argument without a default was not given.
        """
        missing = [key for key in ("model", "data") if key in self.top and key not in self.given]
        if missing:
            raise InputError(
                f"the config names no {' and no '.join(missing)}; give an experiment by -c, such as -c theris "
                "(`lit_thermal list` shows them)"
            )
        for path, (kind, passed) in self.classes.items():
            for name, argument in arguments(kind, passed).items():
                if argument.default is inspect.Parameter.empty and f"{path}.{name}" not in self.given:
                    raise InputError(f"{path}: {kind.__name__} needs the argument {name!r}")

    def known(self) -> Iterator[str]:
        """Yield the paths of the arguments of all classes named so far."""
        yield from self.top
        for path, (kind, passed) in self.classes.items():
            for name in arguments(kind, passed):
                yield f"{path}.{name}"

    def _wrong(self, path: str, what: str) -> InputError:
        where = self._source if self._source.startswith("--") else f"{self._source}: {path}"
        return InputError(f"{where}: {what}")

    def _argument(self, name: str, value: Any, known: Mapping[str, Argument], path: str, owner: str) -> None:
        """Check one argument of the class or group `owner` at `path`."""
        argument = self._known(name, known, path, owner)
        below = f"{path}.{name}" if path else name
        self.given.add(below)
        self._value(value, argument, below)

    def _known(self, name: str, known: Mapping[str, Argument], path: str, owner: str) -> Argument:
        if name in known:
            return known[name]
        near = did_you_mean(name, known)
        if not near:
            elsewhere = [p for p in self.known() if p.rpartition(".")[2] == name]
            near = f"; did you mean {' or '.join(elsewhere[:3])}?" if elsewhere else ""
        if not near and len(known) <= 12:
            near = f" (it has {', '.join(known)})"
        raise self._wrong(f"{path}.{name}" if path else name, f"{owner} has no {name!r}{near}")

    def _value(self, value: Any, argument: Argument, path: str) -> None:
        """Check a value against a type hint; values of the command line are text."""
        if isinstance(value, str) and "${" in value:
            return
        if argument.group is not None:
            if not isinstance(value, dict):
                raise self._wrong(path, f"keys and values are expected, not {value!r}")
            for key, item in value.items():
                self._argument(str(key), item, argument.group, path, path)
            return
        slot = slots(argument.hint)
        if slot and isinstance(value, dict):
            self._spec(value, slot, argument, path)
            return
        items, values = containers(argument.hint)
        if isinstance(value, list) and items is not None:
            for number, item in enumerate(value):
                self._value(item, Argument(items), f"{path}.{number}")
            if fixed_lengths(argument.hint) and not _accepts(argument.hint, value):
                raise self._wrong(path, f"{described(argument.hint)} is expected, not {value!r}")
            return
        if isinstance(value, dict) and values is not None:
            for key, item in value.items():
                self._value(item, Argument(values), f"{path}.{key}")
            return
        simple = leaves(argument.hint)
        if slot and isinstance(value, str) and not (simple and _accepts(simple, value)):
            if not value.endswith(trust.FILES):
                self._name(value, slot, path)
            return
        if not _accepts(argument.hint, value):
            near = did_you_mean(str(value), literals(argument.hint))
            raise self._wrong(path, f"{described(argument.hint)} is expected, not {value!r}{near}")

    def _spec(self, spec: dict[str, Any], slot: Slot, argument: Argument, path: str) -> None:
        """Check `{class_path: ..., init_args: {...}}`."""
        for key in spec:
            if key not in ("class_path", "init_args", "dict_kwargs"):
                hint = "; arguments of a class belong below init_args" if "class_path" in spec else ""
                raise self._wrong(f"{path}.{key}", f"class_path and init_args are expected, not {key!r}{hint}")
        if "class_path" in spec:
            self._name(str(spec["class_path"]), slot, path)
        given = spec.get("init_args") or {}
        if not isinstance(given, dict):
            raise self._wrong(f"{path}.init_args", f"arguments by name are expected, not {given!r}")
        kind, passed = self._class(path, slot, argument)
        for name, value in given.items():
            self._argument(str(name), value, arguments(kind, passed), path, kind.__name__)

    def _descend(self, keys: tuple[str, ...], known: Mapping[str, Argument], path: str, owner: str, text: str) -> None:
        """Check an override of the command line, following the parts of its key."""
        name, rest = keys[0].removesuffix("+"), keys[1:]
        argument = self._known(name, known, path, owner)
        below = f"{path}.{name}" if path else name
        self.given.add(below)
        if not rest:
            appended = containers(argument.hint)[0] if keys[0].endswith("+") else None
            self._value(_parsed(text, argument.hint), Argument(appended) if appended else argument, below)
            return
        slot, (items, values) = slots(argument.hint), containers(argument.hint)
        if argument.group is not None:
            self._descend(rest, argument.group, below, below, text)
        elif items is not None and rest[0].isdigit():
            raise self._wrong(below, f"items of a list cannot be set one by one; give all, as in --{below}=[...]")
        elif values is not None:
            self._descend(rest, {rest[0]: Argument(values)}, below, below, text)
        elif slot and rest == ("class_path",):
            self._name(text, slot, below)
        elif slot:
            rest = rest[1:] if rest[0] == "init_args" and len(rest) > 1 else rest
            kind, passed = self._class(below, slot, argument)
            if rest[0] != "dict_kwargs":
                self._descend(rest, arguments(kind, passed), below, kind.__name__, text)

    def _name(self, name: str, slot: Slot, path: str) -> None:
        """Check the name of a class and remember it for its slot."""
        if why := trust.outside(_full(name, slot), self.packages):
            raise self._wrong(path, why)
        kind = resolve(name, slot, self.packages)
        if kind is None:
            known = sorted(subclasses(slot))
            near = did_you_mean(name.rpartition(".")[2], known)
            if not near and 0 < len(known) <= 12:
                near = f" (known: {', '.join(known)})"
            bases = " or ".join(base.__name__ for base in slot.bases)
            raise self._wrong(path, f"there is no {bases} {name!r}{near}")
        if self.classes.get(path, (None, 0))[0] is not kind:
            for below in [p for p in self.classes if p.startswith(f"{path}.")]:
                del self.classes[below]
        self.classes[path] = (kind, slot.passed)

    def _class(self, path: str, slot: Slot, argument: Argument) -> tuple[type, int]:
        """Return the current class of a slot: the class given before, or the default."""
        if path not in self.classes:
            default = argument.default
            if isinstance(default, dict) and "class_path" in default:
                default = resolve(default["class_path"], slot, self.packages)
            if not inspect.isclass(default) or default is inspect.Parameter.empty:
                names = ", ".join(sorted(subclasses(slot))[:8])
                raise self._wrong(path, f"name the class first: {path}=NAME (known: {names})")
            self.classes[path] = (default, slot.passed)
        return self.classes[path]


def resolve(name: str, slot: Slot, packages: tuple[str, ...]) -> type | None:
    """Return the class of a short name or an import path, or None if the slot accepts no such class."""
    found = subclasses(slot).get(name) if "." not in name else trust.find(name, packages)
    return found if found is not None and issubclass(found, slot.bases) else None


def _full(name: str, slot: Slot) -> str:
    """Return the import path of the class with a short name, or the name itself."""
    kind = subclasses(slot).get(name)
    return name if kind is None else f"{kind.__module__}.{kind.__qualname__}"


def _accepts(hint: Any, value: Any) -> bool:
    """Return whether jsonargparse accepts a value for a type hint."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    try:
        if isinstance(value, str):
            parser.parse_args([f"--value={value}"])
        else:
            parser.parse_object({"value": value})
    except (argparse.ArgumentError, TypeError, ValueError, KeyError):
        return False
    return True


def _parsed(text: str, hint: Any) -> Any:
    """Return the text of an override parsed as YAML if it is a mapping or a list, otherwise unchanged."""
    try:
        value = plain_yaml.load(text, "")
    except InputError:
        return text
    if isinstance(value, (dict, list)) or (value is None and slots(hint)):
        return value
    return text
