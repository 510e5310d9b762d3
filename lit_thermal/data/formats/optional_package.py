"""Import of packages that only some formats need."""

import importlib
from pathlib import Path
from types import ModuleType

from lit_thermal.errors import InputError

EXTRA = "radiometric"
"""Extra of lit_thermal that installs the readers of camera files."""


def needed_for(path: Path, what: str, module: str, package: str) -> ModuleType:
    """Import a module that reads a format.

    Args:
        path: file to read, for the error message.
        what: contents of the file, such as "FLIR radiometric data".
        module: name of the module.
        package: name of its package in the package index.

    Raises:
        InputError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{path} holds {what}, which the package {package} reads: install it by "
            f"pip install 'lit_thermal[{EXTRA}]', or convert the file to a 16-bit PNG or TIFF"
        ) from error
