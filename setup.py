"""Packages of the wheel: all folders below lit_thermal, and three at the top that are installed inside it.

pyproject.toml can find packages or map folders, but not both; everything else stands there.
"""

from setuptools import find_packages, setup

MAPPED = ("callbacks", "experiments", "sweeps")

setup(
    packages=find_packages(include=["lit_thermal", "lit_thermal.*"]) + [f"lit_thermal.{name}" for name in MAPPED],
    package_dir={f"lit_thermal.{name}": name for name in MAPPED} | {"lit_thermal": "lit_thermal"},
)
