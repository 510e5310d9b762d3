"""Lazy imports: names of a package that are imported at first use and found by parsing its files."""

import ast
import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any


def lazy(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package whose classes are defined in its files.

    `package.Name` then imports the file that defines `Name`, and a new file need not be registered.

    Args:
        package: import path of the package.
    """

    def get(name: str) -> Any:
        module = None if name.startswith("_") else definitions(package).get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(module), name)

    def names() -> list[str]:
        return sorted(definitions(package))

    return get, names


@cache
def definitions(package: str) -> dict[str, str]:
    """Return the public classes that the files of a package define, each with its module.

    Nothing is imported except the parent of the package. If two files define the same name, the first by path counts.
    """
    return {name: modules[0] for name, modules in places(package).items()}


@cache
def places(package: str) -> dict[str, list[str]]:
    """Return the public classes that the files of a package define, each with all modules that define it."""
    spec = importlib.util.find_spec(package)
    found: dict[str, list[str]] = {}
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            module = ".".join([package, *(part for part in parts if part != "__init__")])
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, []).append(module)
    return found
