"""The verb `list`: names that a config may use, read from the source files without importing them."""

import ast
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import lit_thermal
from lit_thermal.cli.parser import Parser

Row = tuple[int, str, str]
"""Indent, name and description of a line."""


class ClassSource(NamedTuple):
    """A class as defined in its source file."""

    name: str
    bases: tuple[str, ...]
    """Last parts of the names of the bases: `Module` for `nn.Module`."""
    abstract: bool
    about: str
    """The first line of the docstring."""


def main(argv: Sequence[str]) -> int:
    """Print the listing."""
    Parser(
        "lit_thermal list", "Show methods, block families, losses, metrics, data, experiments and sweeps."
    ).parse_args(argv)
    sections = [
        ("methods", "--model=NAME", members(read(_package("lit_thermal.methods")), "SuperResolver")),
        ("blocks", "--model.SLOT=NAME", families(read(_package("lit_thermal.blocks")))),
        ("diffusion", "--model.SLOT=NAME", families(read(_package("lit_thermal.generative")))),
        ("parts of methods", "--model.SLOT=NAME", families(read(_package("lit_thermal.methods")))),
        ("learning rates", "--model.lr_scheduler=NAME", members(read(_package("lit_thermal.methods")), "LambdaLR")),
        ("networks", "--model.SLOT=NAME", families(read(_package("lit_thermal.networks")))),
        ("losses", "", [*families(losses := read(_package("lit_thermal.losses"))), *lone(losses, "Module")]),
        ("metrics", "evaluate --metrics NAME", metrics(_package("lit_thermal.metrics"))),
        ("protocols", "--model.protocols=[NAME, ...]", families(read(_package("lit_thermal.evaluation")))),
        ("data", "--data=NAME", members(data := read(_package("lit_thermal.data")), "LightningDataModule")),
        ("parts of data", "--data.SLOT=NAME", families(data)),
        ("callbacks", "--trainer.callbacks+=NAME", callbacks(_package("lit_thermal.callbacks"))),
        ("experiments", "-c NAME", files(_package("lit_thermal.experiments"))),
        ("sweeps", "", files(_package("lit_thermal.sweeps"))),
    ]
    for title, use, rows in sections:
        if rows:
            print(f"{title}{f'   ({use})' if use else ''}")
            width = max(2 * indent + len(name) for indent, name, _ in rows)
            for indent, name, about in rows:
                print(f"  {'  ' * indent}{name:<{width - 2 * indent}}  {about}".rstrip())
            print()
    return 0


def read(folder: Path) -> list[ClassSource]:
    """Return the public classes of all Python files below a folder, in the order of path and line."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                bases = tuple(ast.unparse(base).split("[")[0].rsplit(".", 1)[-1] for base in node.bases)
                abstract = any("abstractmethod" in ast.unparse(d) for d in _decorators(node))
                about = (ast.get_docstring(node) or "").split("\n")[0]
                found.append(ClassSource(node.name, bases, abstract, about))
    return found


def members(classes: list[ClassSource], base: str, indent: int = 0) -> list[Row]:
    """Return the rows of the concrete classes that descend from `base`."""
    rows: list[Row] = []
    for entry in classes:
        if base in entry.bases:
            if not entry.abstract and entry.name != "SuperResolver":
                rows.append((indent, entry.name, entry.about))
            rows += members(classes, entry.name, indent)
    return rows


def families(classes: list[ClassSource]) -> list[Row]:
    """Return the rows of abstract base classes, each followed by its subclasses."""
    rows: list[Row] = []
    for entry in classes:
        below = members(classes, entry.name, indent=1)
        if below and "ABC" in entry.bases:
            rows += [(0, entry.name, entry.about), *below]
    return rows


def lone(classes: list[ClassSource], base: str) -> list[Row]:
    """Return the rows of direct subclasses of `base` that have no subclasses themselves."""
    parents = {name for entry in classes for name in entry.bases}
    return [(0, c.name, c.about) for c in classes if base in c.bases and c.name not in parents]


def callbacks(folder: Path) -> list[Row]:
    """Return the rows of the callbacks that a config may name: those that the package exports in `__all__`."""
    exported: list[str] = []
    for node in ast.parse((folder / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            exported = ast.literal_eval(node.value)
    return [(0, entry.name, entry.about) for entry in read(folder) if entry.name in exported]


def metrics(folder: Path) -> list[Row]:
    """Return the rows of the records `Metric(...)` in a folder that have a function to measure them.

    The catalogue comes first. Its tuple `_ON_REQUEST`, and the argument `on_request` of a record, mark metrics that are
    measured only if they are named.
    """
    rows: list[Row] = []
    for path in sorted(folder.glob("*.py"), key=lambda path: (path.stem != "catalogue", path)):
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            requested = isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "_ON_REQUEST"
            for node in ast.walk(statement):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "Metric":
                    given = dict(zip(("name", "label"), map(ast.unparse, node.args), strict=False))
                    given |= {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}
                    if "measure" in given:
                        name, label, unit = (ast.literal_eval(given.get(k, "''")) for k in ("name", "label", "unit"))
                        about = f"{label} in {unit}" if unit else label
                        asked = requested or given.get("on_request") == "True"
                        rows.append((0, name, f"{about}, on request" if asked else about))
    return rows


def files(folder: Path) -> list[Row]:
    """Return the rows of the YAML files below a folder: the name for `-c` and the first comment line."""
    rows = []
    for path in sorted(folder.rglob("*.yaml"), key=lambda p: (len(p.relative_to(folder).parts), p)):
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        about = first.lstrip("# ").rstrip() if first.startswith("#") else ""
        rows.append((0, path.relative_to(folder).with_suffix("").as_posix(), about))
    return rows


def _decorators(node: ast.ClassDef) -> Iterator[ast.expr]:
    for part in node.body:
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from part.decorator_list


def _package(name: str) -> Path:
    """Return the folder of a package without importing it; only its parent is imported, which is cheap."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return Path(lit_thermal.__file__).parent / name.rsplit(".", 1)[-1]
    return Path(next(iter(spec.submodule_search_locations)))
