"""Super-resolution for thermal cameras: published methods as interchangeable Lightning blocks.

`import lit_thermal as lt` is fast, because modules are imported at first use. `lt.load("best.ckpt")` restores a trained
model. `lt.THERIS` and the other methods are classes, as are `lt.blocks.MaxFusion`, `lt.data.ImageFolder` and
`lt.losses.PSNRLoss`.
"""

import importlib
from pathlib import Path
from typing import Any

from lit_thermal.lazy import definitions

__version__ = "0.1.0"

_HERE = Path(__file__).parent


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("lit_thermal.weights").load_model
    if not name.startswith("_"):
        if (_HERE / name / "__init__.py").is_file():
            return importlib.import_module(f"lit_thermal.{name}")
        if name in definitions("lit_thermal.methods"):
            return getattr(importlib.import_module(definitions("lit_thermal.methods")[name]), name)
    raise AttributeError(f"module 'lit_thermal' has no attribute {name!r}")


def __dir__() -> list[str]:
    rooms = [path.parent.name for path in _HERE.glob("*/__init__.py")]
    return sorted({"__version__", "load", *rooms, *definitions("lit_thermal.methods")})
