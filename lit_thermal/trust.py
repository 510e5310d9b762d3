"""Which packages a config or a checkpoint may name classes of, and what else the two may not say.

A config names classes by their import path, and to import a module is to run its code. So names are looked up in a
short list of packages alone, a name that is no class is refused, and a text may not ask for what the machine holds
(`${oc.env:...}`). A user adds packages by `--allow` or an environment variable, never by a line in a config.
"""

import argparse
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lit_thermal.errors import InputError
from lit_thermal.moved import current

CONFIGS = ("lit_thermal", "torch.optim", "torch.nn", "lightning")
"""Packages that a config and the command line may name classes of."""
CHECKPOINTS = ("lit_thermal", "torch.optim")
"""Packages that the record of a checkpoint may name classes of: those of the optimizer and its schedule stand in it."""
ALLOW = "LIT_THERMAL_ALLOW"
"""Environment variable with further packages for both, separated by commas."""
MOST = 100_000
"""Values that the record of a checkpoint may have."""
DEEPEST = 64
"""Levels that it may have."""
FILES = (".yaml", ".yml", ".json")
"""Endings of a value that is a file with the value."""
_RESOLVER = re.compile(r"\$\{[^}]*:")
_known: set[str] = set()
_current: tuple[str, ...] | None = None


def allowed(packages: tuple[str, ...]) -> tuple[str, ...]:
    """Return packages and those that the user named beside them.

    Raises:
        InputError: the environment variable names what is no package, or a part of Python.
    """
    named = [name.strip() for name in os.environ.get(ALLOW, "").split(",")]
    return (*packages, *checked(name for name in named if name))


def checked(names: Iterator[str]) -> list[str]:
    """Return names of packages that can be allowed.

    Raises:
        InputError: one is no name of a package, or that of a part of Python, which would allow everything.
    """
    found = []
    for name in names:
        top = name.split(".")[0]
        if not all(part.isidentifier() for part in name.split(".")):
            raise InputError(f"--allow {name!r} is no package: name one as it is imported, such as my_package")
        if _builtin(top):
            raise InputError(f"--allow {name} would allow all that Python can do: name the package of your own classes")
        found.append(name)
    return found


def make_findable(packages: list[str]) -> None:
    """Let Python find allowed packages in the working directory, after all that is installed."""
    here = os.getcwd()
    for top in (name.split(".")[0] for name in packages):
        lies_here = Path(here, top).is_dir() or Path(here, f"{top}.py").is_file()
        if lies_here and here not in sys.path and "" not in sys.path and importlib.util.find_spec(top) is None:
            sys.path.append(here)


def inside(name: str, packages: tuple[str, ...]) -> bool:
    """Return whether an import path lies in one of the packages; a name that only begins alike does not."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def find(name: str, packages: tuple[str, ...]) -> type | None:
    """Return the class of an import path, or None where there is none in the packages; nothing else is imported."""
    module, _, attribute = current(name).rpartition(".")
    if not inside(name, packages) or not all(part.isidentifier() for part in name.split(".")):
        return None
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if inspect.isclass(found) else None


def outside(name: str, packages: tuple[str, ...]) -> str | None:
    """Return why a class may not be named, to follow the place of its name in a sentence; None where it may.

    Args:
        name: what a config says; a short name, without dots, is another matter.
        packages: where classes may come from.
    """
    if "." not in name:
        return None
    where = repr(name if len(name) <= 100 else f"{name[:97]}...")
    if inside(name, packages):
        kind = find(name, packages)
        defined = "" if kind is None else f"{kind.__module__}.{kind.__qualname__}"
        if not defined or inside(defined, packages):
            return None
        where, name = f"{where} is {defined}, which", defined
    top = name.split(".")[0]
    where = f"{where} lies outside of the packages that may be used here ({', '.join(packages)})"
    if not all(part.isidentifier() for part in name.split(".")) or _builtin(top):
        return f"{where}: name a class of one of them"
    return f"{where}: if you trust {top}, whose code will run, add --allow {top} or set {ALLOW}={top}"


def check_values(tree: Any, where: str, packages: tuple[str, ...]) -> None:
    """Check all names and texts of a config before anything of it is used.

    Args:
        tree: plain values.
        where: what they come from, for the sentence.
        packages: where classes may come from.

    Raises:
        InputError: a class path outside of the packages, a text that asks for what the machine holds, a NUL character,
            or more values or levels than any config has.
    """
    todo: list[tuple[str, int, Any]] = [("", 0, tree)]
    count = 0
    while todo:
        path, depth, value = todo.pop()
        count += 1
        place = f"{where}: {path}" if path else where
        if count > MOST or depth > DEEPEST:
            raise InputError(f"{where} has more than {MOST:,} values or {DEEPEST} levels, which no config has")
        if isinstance(value, str):
            _check_text(value, place)
        elif isinstance(value, Mapping):
            for key, below in value.items():
                if isinstance(key, str):
                    _check_text(key, place)
                if key == "class_path" and isinstance(below, str) and (why := outside(below, packages)):
                    raise InputError(f"{place}: {why}" if path else f"{where}: class_path: {why}")
                todo.append((f"{path}.{key}" if path else str(key), depth + 1, below))
        elif isinstance(value, (list, tuple, Set)):
            todo += [(f"{path}.{number}", depth + 1, below) for number, below in enumerate(value)]


def check_named(tree: Any, folder: Path, packages: tuple[str, ...], above: Set[Path] = frozenset()) -> None:
    """Check the files among the values of a config, which the parser would read, as the config itself.

    Args:
        tree: plain values.
        folder: that of the file with the values; a name counts from there and from the working directory.
        packages: where classes may come from.
        above: the files that led here.

    Raises:
        InputError: one is a pipe, which would block its reader, names itself, or is refused by `check_values`; or a
            text stands for more than any config has.
    """
    # these need a package that the command line starts without
    from lit_thermal import plain_yaml
    from lit_thermal.files import is_plain

    for text in _texts(tree):
        if ("&" in text and "*" in text) or text.count("[") + text.count("{") > DEEPEST:
            try:
                plain_yaml.check(text)  # the parser reads a text as YAML where a class is meant
            except plain_yaml.RefusedYAMLError as error:
                raise InputError(f"the value {text[:40]!r}{error}") from error
        if len(text) > 4096 or "\n" in text:
            continue
        for path in {folder / text, Path(text)}:
            # these functions of os answer False for a text that no path can be
            if os.path.exists(path) and not os.path.isdir(path) and not is_plain(path):
                raise InputError(f"{path} is a pipe or a device, not a file: name a file")
            if text.endswith(FILES) and os.path.isfile(path):
                if path.resolve() in above:
                    raise InputError(f"{path} names itself as a value of its own: remove that line")
                below = plain_yaml.read(path)
                check_values(below, str(path), packages)
                check_named(below, path.parent, packages, above | {path.resolve()})


def check_classes(config: Any, where: str, packages: tuple[str, ...]) -> None:
    """Check that all names of a parsed config were those of classes, before any is built.

    Args:
        config: as the parser returned it: mappings with `class_path`, lists, values.
        where: what it comes from, for the sentence.
        packages: where classes may come from.

    Raises:
        InputError: one is a function, a method, or an object that is no class.
    """
    todo: list[tuple[str, Any]] = [("", config)]
    while todo:
        path, value = todo.pop()
        place = f"{where}: {path}" if path else where
        if isinstance(value, (Mapping, argparse.Namespace)):
            items = dict(value.items() if isinstance(value, Mapping) else vars(value).items())
            name = items.get("class_path")
            if isinstance(name, str) and "." in name:
                kind, why = find(name, packages), outside(name, packages)
                if kind is None or why:
                    raise InputError(f"{place}: {why or f'{name!r} is no class, and a config names classes alone'}")
                if items.get("dict_kwargs") and not _takes_any(kind):
                    raise InputError(f"{place}: {kind.__name__} takes no dict_kwargs: give its arguments by init_args")
            todo += [(f"{path}.{key}" if path else str(key), below) for key, below in items.items()]
        elif isinstance(value, (list, tuple, Set)):
            todo += [(f"{path}.{number}", below) for number, below in enumerate(value)]
        elif callable(value) and not inspect.isclass(value) and not isinstance(value, os.PathLike):
            called = getattr(value, "__qualname__", type(value).__name__)
            raise InputError(f"{place}: {called!r} is no class, and a config names classes alone")


@contextmanager
def only(packages: tuple[str, ...]) -> Iterator[None]:
    """Let the parser of configs import from these packages alone while the body runs."""
    global _current
    before = _current
    _enforce(packages)
    try:
        yield
    finally:
        _enforce(before or allowed(CONFIGS))
        _current = before


def refused_import(text: str, packages: tuple[str, ...]) -> str | None:
    """Return, for what the parser of configs said of a wrong config, why a name in it may not be used."""
    denied = re.search(r"Importing '([^']*)' is not allowed", text)
    return outside(denied[1], packages) if denied else None


def _enforce(packages: tuple[str, ...]) -> None:
    global _current
    from jsonargparse import set_parsing_settings

    _current = packages
    # settings only ever grow, and of two the more specific one counts: each name ever told is told anew
    denied = [name for name in _known if not inside(name, packages)]
    set_parsing_settings(
        import_path_denylist=["*", *denied],
        import_path_allowlist=[*packages, *(name for name in _known if inside(name, packages))],
        # a value of any kind stays one: what looks like a class is not built
        instantiate_subclass_spec_in_any=False,
    )
    _known.update(packages)


def _takes_any(kind: type) -> bool:
    return any(given.kind is given.VAR_KEYWORD for given in inspect.signature(kind).parameters.values())


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _texts(value)
    elif isinstance(tree, (list, tuple, Set)):
        for value in tree:
            yield from _texts(value)


def _check_text(text: str, place: str) -> None:
    if "\0" in text:
        raise InputError(f"{place} holds a NUL character, which no text has: remove it")
    if not _RESOLVER.search(text):
        return
    variable = re.search(r"\$\{\s*oc\.env\s*:\s*['\"]?([^,'\"}]*)", text)
    if variable:
        raise InputError(
            f"{place} refers to the environment variable {variable[1]!r}, which a config may not read: write the "
            "value, or give it on the command line"
        )
    raise InputError(f"{place} calls a resolver in {text[:60]!r}; ${{...}} may only name another value of the config")


def _builtin(top: str) -> bool:
    return top in sys.stdlib_module_names or top in sys.builtin_module_names or top in ("builtins", "jsonargparse")
