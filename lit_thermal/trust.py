"""Security checks of configs and checkpoints: packages whose classes they may name, and values that are refused.

A config names classes by their import path, and importing a module runs its code. Therefore names are looked up only in
a short list of packages, a name that is not a class is refused, and a text may not read the environment
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
"""Packages whose classes a config and the command line may name."""
CHECKPOINTS = ("lit_thermal", "torch.optim")
"""Packages whose classes the record of a checkpoint may name; it includes the optimizer and its schedule."""
ALLOW = "LIT_THERMAL_ALLOW"
"""Environment variable with further packages for configs and checkpoints, separated by commas."""
MOST = 100_000
"""Largest number of values in a config or the record of a checkpoint."""
DEEPEST = 64
"""Largest number of nested levels in a config or the record of a checkpoint."""
FILES = (".yaml", ".yml", ".json")
"""Suffixes of values that are paths of files with the actual value."""
_RESOLVER = re.compile(r"\$\{[^}]*:")
_known: set[str] = set()
_current: tuple[str, ...] | None = None


def allowed(packages: tuple[str, ...]) -> tuple[str, ...]:
    """Return the given packages and those that the user allowed by the environment variable.

    Raises:
        InputError: the environment variable has an invalid name, or a part of Python.
    """
    named = [name.strip() for name in os.environ.get(ALLOW, "").split(",")]
    return (*packages, *checked(name for name in named if name))


def checked(names: Iterator[str]) -> list[str]:
    """Return the names of packages after checking that they can be allowed.

    Raises:
        InputError: a name is not valid for a package, or is a part of Python, which would allow everything.
    """
    found = []
    for name in names:
        top = name.split(".")[0]
        if not all(part.isidentifier() for part in name.split(".")):
            raise InputError(f"--allow {name!r} is not a package name: give the name for import, such as my_package")
        if _builtin(top):
            raise InputError(
                f"--allow {name} would allow everything that Python can do: give the package of your own classes"
            )
        found.append(name)
    return found


def make_findable(packages: list[str]) -> None:
    """Let Python find allowed packages in the working directory, unless they are installed."""
    here = os.getcwd()
    for top in (name.split(".")[0] for name in packages):
        lies_here = Path(here, top).is_dir() or Path(here, f"{top}.py").is_file()
        if lies_here and here not in sys.path and "" not in sys.path and importlib.util.find_spec(top) is None:
            sys.path.append(here)


def inside(name: str, packages: tuple[str, ...]) -> bool:
    """Return whether an import path is inside one of the packages: `torch.nn` is inside `torch`, `torchx` is not."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def find(name: str, packages: tuple[str, ...]) -> type | None:
    """Return the class of an import path, or None if the packages do not have it; no other package is imported.

    Old paths of classes that have moved within lit_thermal are followed.
    """
    module, _, attribute = current(name).rpartition(".")
    if not inside(name, packages) or not all(part.isidentifier() for part in name.split(".")):
        return None
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if inspect.isclass(found) else None


def outside(name: str, packages: tuple[str, ...]) -> str | None:
    """Return why a class may not be named, as the end of an error message, or None if it may be named.

    Args:
        name: name in a config; a short name without dots is not checked.
        packages: packages that classes may come from.
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
    where = f"{where} is outside the packages that may be used here ({', '.join(packages)})"
    if not all(part.isidentifier() for part in name.split(".")) or _builtin(top):
        return f"{where}: use a class of one of them"
    return f"{where}: if you trust {top}, whose code will be run, add --allow {top} or set {ALLOW}={top}"


def check_values(tree: Any, where: str, packages: tuple[str, ...]) -> None:
    """Check all names and texts of a config before it is used.

    Args:
        tree: plain values of the config.
        where: source of the config, for error messages.
        packages: packages that classes may come from.

    Raises:
        InputError: there is a class path outside the packages, a text that reads the environment or calls a resolver, a
            NUL character, or more values or levels than any config needs.
    """
    todo: list[tuple[str, int, Any]] = [("", 0, tree)]
    count = 0
    while todo:
        path, depth, value = todo.pop()
        count += 1
        place = f"{where}: {path}" if path else where
        if count > MOST or depth > DEEPEST:
            raise InputError(f"{where} has more than {MOST:,} values or {DEEPEST} levels: shorten it")
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
    """Check files that are values of a config, which the parser would read, in the same way as the config itself.

    Args:
        tree: plain values of the config.
        folder: folder of the config; paths of files are relative to it or to the working directory.
        packages: packages that classes may come from.
        above: files that include this config, directly or not.

    Raises:
        InputError: a file is a pipe (which would block its reader), includes itself, is refused by `check_values`, or
            expands to more values than any config needs.
    """
    # imported here, because the command line starts without the packages that these need
    from lit_thermal import plain_yaml
    from lit_thermal.files import is_plain

    for text in _texts(tree):
        if ("&" in text and "*" in text) or text.count("[") + text.count("{") > DEEPEST:
            try:
                plain_yaml.check(text)  # the parser reads a text as YAML if a class is expected
            except plain_yaml.RefusedYAMLError as error:
                raise InputError(f"the value {text[:40]!r}{error}") from error
        if len(text) > 4096 or "\n" in text:
            continue
        for path in {folder / text, Path(text)}:
            # these functions of os return False for a text that cannot be a path
            if os.path.exists(path) and not os.path.isdir(path) and not is_plain(path):
                raise InputError(f"{path} is a pipe or a device, not a file: give a file")
            if text.endswith(FILES) and os.path.isfile(path):
                if path.resolve() in above:
                    raise InputError(f"{path} includes itself as a value: remove that line")
                below = plain_yaml.read(path)
                check_values(below, str(path), packages)
                check_named(below, path.parent, packages, above | {path.resolve()})


def check_classes(config: Any, where: str, packages: tuple[str, ...]) -> None:
    """Check that all names of a parsed config are names of classes, before any is instantiated.

    Args:
        config: config returned by the parser, with `class_path` mappings, lists and values.
        where: source of the config, for error messages.
        packages: packages that classes may come from.

    Raises:
        InputError: a name refers to a function, a method, or another object that is not a class.
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
                    raise InputError(f"{place}: {why or f'{name!r} is not a class; a config names only classes'}")
                if items.get("dict_kwargs") and not _takes_any(kind):
                    raise InputError(
                        f"{place}: {kind.__name__} does not accept dict_kwargs: give its arguments in init_args"
                    )
            todo += [(f"{path}.{key}" if path else str(key), below) for key, below in items.items()]
        elif isinstance(value, (list, tuple, Set)):
            todo += [(f"{path}.{number}", below) for number, below in enumerate(value)]
        elif callable(value) and not inspect.isclass(value) and not isinstance(value, os.PathLike):
            called = getattr(value, "__qualname__", type(value).__name__)
            raise InputError(f"{place}: {called!r} is not a class; a config names only classes")


@contextmanager
def only(packages: tuple[str, ...]) -> Iterator[None]:
    """Let the config parser import only from these packages while the body runs."""
    global _current
    before = _current
    _enforce(packages)
    try:
        yield
    finally:
        _enforce(before or allowed(CONFIGS))
        _current = before


def refused_import(text: str, packages: tuple[str, ...]) -> str | None:
    """Return why a name may not be used, if an error message of the config parser is about a refused import."""
    denied = re.search(r"Importing '([^']*)' is not allowed", text)
    return outside(denied[1], packages) if denied else None


def _enforce(packages: tuple[str, ...]) -> None:
    global _current
    from jsonargparse import set_parsing_settings

    _current = packages
    # the settings accumulate, and the most specific entry decides: each package ever allowed is listed again
    denied = [name for name in _known if not inside(name, packages)]
    set_parsing_settings(
        import_path_denylist=["*", *denied],
        import_path_allowlist=[*packages, *(name for name in _known if inside(name, packages))],
        # a value for `Any` stays a value: what looks like a class is not instantiated
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
        raise InputError(f"{place} holds a NUL character: remove it")
    if not _RESOLVER.search(text):
        return
    variable = re.search(r"\$\{\s*oc\.env\s*:\s*['\"]?([^,'\"}]*)", text)
    if variable:
        raise InputError(
            f"{place} refers to the environment variable {variable[1]!r}, but a config may not read the environment: "
            "write the value itself, or give it on the command line"
        )
    raise InputError(
        f"{place} calls a resolver in {text[:60]!r}; ${{...}} may only refer to another value of the config"
    )


def _builtin(top: str) -> bool:
    return top in sys.stdlib_module_names or top in sys.builtin_module_names or top in ("builtins", "jsonargparse")
