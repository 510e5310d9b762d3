"""Imports go one way only, read from the source: cli on the left, ops on the right."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lit_thermal"
SHARED = {"batch", "errors", "files", "lazy", "moved", "plain_files", "plain_yaml", "shapes", "trust"} | {
    "thermal_features",
    "torchvision_weights",
    "weights_file",
}
"""What everyone may import."""
ALLOWED = {
    "ops": set(),
    "blocks": {"ops"},
    "losses": {"ops"},
    "networks": {"blocks", "ops"},
    "generative": {"networks", "blocks", "losses", "ops"},
    "metrics": {"losses", "ops"},
    "evaluation": {"metrics", "ops"},
    "data": {"ops"},
    "methods": (NETWORKS := {"generative", "networks", "blocks", "losses", "ops"}) | {"metrics", "evaluation"},
    "sweeping": set(),
    "weights": NETWORKS | {"methods"},
    "inference": {"methods", "data", "ops"},
    "measuring": {"methods", "weights", "data", "metrics", "evaluation", "ops"},
    "downstream": {"blocks", "ops", "data", "metrics", "evaluation", "weights"},
    "report": {"data", "metrics", "evaluation", "sweeping"},
    "callbacks": {
        "weights",
        "inference",
        "methods",
        "ops",
        "data",
        "metrics",
        "evaluation",
        "losses",
        "blocks",
        "sweeping",
    },
    "cli": NETWORKS
    | {
        "methods",
        "weights",
        "inference",
        "measuring",
        "downstream",
        "report",
        "sweeping",
        "data",
        "metrics",
        "evaluation",
        "callbacks",
    },
    "batch": set(),
    "errors": set(),
    "files": set(),
    "lazy": set(),
    "moved": set(),
    "plain_yaml": set(),
    "trust": set(),
    "thermal_features": set(),
    "torchvision_weights": set(),
    "weights_file": set(),
    "plain_files": set(),
    "shapes": set(),
}
"""Each part of the package to what it may import besides itself."""
AT_CALL = {("methods", "lit_thermal.inference.arrays.upscale_arrays")}
"""Imports against the direction, allowed only inside a function: a method of the model that calls a function above."""
OPS_KNOW = {"torch", "numpy", "einops"}
HEAVY = {"diffusers", "transformers", "peft", "wandb", "timm", "mamba_ssm", "pyiqa", "deepspeed", "spandrel"} | {
    "cv2",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "pyarrow",
    "scipy",
    "pycocotools",
    "flyr",
    "cptv",
    "infiray_irg",
    "imagecodecs",
}
LIGHT = [
    "__main__.py",
    "lazy.py",
    "cli/__init__.py",
    "cli/dispatch.py",
    "cli/list.py",
    "cli/parser.py",
    "errors.py",
    "moved.py",
    "trust.py",
    "__init__.py",
]

ROOMS_OF_DATA = {
    "formats": set(),
    "simulator": set(),
    "degradations": {"formats"},
    "datamodules": {"formats", "degradations", "simulator"},
    "readers": {"formats", "degradations", "datamodules"},
}
"""Each folder of the data to the folders beside it that it may import."""

SOURCES = sorted(PACKAGE.rglob("*.py")) + sorted((ROOT / "callbacks").glob("*.py"))


def part(path: Path) -> str:
    """Return the part of the package that a source file belongs to: a folder or a top-level module."""
    relative = path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file, which several tests look at."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path, top_level: bool = False) -> list[str]:
    """Return the absolute names of what a file imports, at its top level only or anywhere."""
    names: list[str] = []
    for node in at_top(parsed(path)) if top_level else ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def at_top(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the statements that run when a module is imported."""
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not typing_only:
            yield node
            todo += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_direction(path):
    own = part(path)
    if own in ("__init__", "__main__"):
        return
    for name in imports(path):
        if (own, name) in AT_CALL and name not in imports(path, top_level=True):
            continue
        parts = name.split(".")
        if (
            parts[0] == "lit_thermal"
            and len(parts) > 1
            and (PACKAGE / parts[1]).with_suffix(".py").exists()
            | (PACKAGE / parts[1]).is_dir()
            | (parts[1] == "callbacks")
        ):
            assert parts[1] in ALLOWED[own] | SHARED | {own}, f"{own} must not import {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "data").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_direction_within_the_data(path):
    own = path.relative_to(PACKAGE / "data").parts[0]
    rooms = {name.split(".")[2] for name in imports(path) if name.startswith("lit_thermal.data.")}
    assert own == "__init__.py" or rooms <= ROOMS_OF_DATA[own] | {own}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_files_know(path):
    roots = {name.split(".")[0] for name in imports(path)}
    at_import = {name.split(".")[0] for name in imports(path, top_level=True)}
    assert not HEAVY & at_import, "imported where it is used, not when the package is"
    assert "callbacks" not in roots, "the folder is the package lit_thermal.callbacks"
    own = part(path)
    if own == "ops":
        third_party = roots - set(sys.stdlib_module_names) - {"lit_thermal"}
        # the compiler of a kernel and optional kernels are reached lazily
        assert third_party & at_import <= OPS_KNOW, third_party
    if own in ("ops", "blocks", "losses", "networks", "generative") or path.name == "network.py":
        assert not roots & {"lightning", "lightning_fabric", "pytorch_lightning"}
    if own == "callbacks":
        assert not any(name.startswith("lit_thermal.callbacks") for name in imports(path)), "relative among themselves"


@pytest.mark.parametrize("name", LIGHT)
def test_light_files_import_nothing_heavy(name):
    known = set(sys.stdlib_module_names) | {"lit_thermal"}
    assert {n.split(".")[0] for n in imports(PACKAGE / name, top_level=True)} <= known
    ours = {n for n in imports(PACKAGE / name, top_level=True) if n.startswith("lit_thermal.")}
    files = {n.split(".")[1] if n.split(".")[1] != "cli" else "/".join(n.split(".")[1:3]) for n in ours}
    assert {f"{file}.py" for file in files} <= {*LIGHT, "__version__.py"}


def test_callbacks_is_never_a_module_name():
    for path in [*(ROOT / "experiments").rglob("*.yaml"), *(ROOT / "sweeps").rglob("*.yaml")]:
        for node in walk(yaml.safe_load(path.read_text(encoding="utf-8"))):
            assert not str(node).startswith("callbacks."), path
    for path in [*(ROOT / "tests").rglob("*.py")]:
        assert "callbacks" not in {name.split(".")[0] for name in imports(path)}, path


def walk(node: object) -> Iterator[object]:
    """Yield the keys and values of nested dicts and lists."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value)
    else:
        yield node


def modules() -> dict[str, Path]:
    """Every module of the package, also those of the folder that is mapped into it, by its name."""
    found = {}
    for base, name in ((PACKAGE, "lit_thermal"), (ROOT / "callbacks", "lit_thermal.callbacks")):
        for path in base.rglob("*.py"):
            parts = path.relative_to(base).with_suffix("").parts
            found[".".join([name, *(part for part in parts if part != "__init__")])] = path
    return found


def imported_files(name: str, known: dict[str, Path]) -> set[str]:
    """The files that a module imports when it is imported itself."""
    package = name if known[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in parsed(known[name]).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names}
    return {other for other in found if other in known and known[other].name != "__init__.py"} - {name}


def test_files_do_not_import_each_other_in_a_circle():
    known = modules()
    left = {name: imported_files(name, known) for name in known}
    while leaves := [name for name, others in left.items() if not others & left.keys()]:
        for name in leaves:
            del left[name]
    assert not left, f"these files import each other: {sorted(left)}"
