"""The command line of a point, as W&B's agent would build it."""

import os
import re
import sys
from collections.abc import Sequence

from lit_thermal.errors import InputError
from lit_thermal.sweeping.points import Point
from lit_thermal.sweeping.sweep_file import SweepFile

_VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


def words_of_point(sweep: SweepFile, point: Point) -> list[str]:
    """Return the words after `python -m lit_thermal` for one point.

    The macros of a sweep's command that this needs are `${env}`, `${interpreter}`, `${args}` and `${envvar:NAME}`.

    Raises:
        InputError: the command is not one of `python -m lit_thermal fit`, or it has another macro.
    """
    words = []
    for word in sweep.command:
        if word == "${args}":
            words += [f"--{name}={value}" for name, value in point.items()]
        elif word not in ("${env}", "${interpreter}"):
            words.append(_VARIABLE.sub(lambda found: os.environ.get(found[1], found[1]), word))
    if words[:3] != ["-m", "lit_thermal", "fit"]:
        raise InputError(
            f'the command of {sweep.path} must be ["${{env}}", "${{interpreter}}", "-m", "lit_thermal", "fit", ...]'
        )
    if macros := [word for word in words if word.startswith("${")]:
        raise InputError(f"the command of {sweep.path} has {macros[0]}, which W&B's agent alone knows; use ${{args}}")
    return words[2:]


def program(words: Sequence[str]) -> list[str]:
    """Return the whole command of a process for the words after `python -m lit_thermal`."""
    return [sys.executable, "-m", "lit_thermal", *words]
