"""Imports all blocks, losses and samplers, so that the tests of a family find a member in any file."""

import importlib
import pkgutil

for name in ("blocks", "generative", "losses"):
    package = importlib.import_module(f"lit_thermal.{name}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
