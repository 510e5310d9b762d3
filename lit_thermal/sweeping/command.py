"""The command line of a point, as W&B's agent would build it."""

import sys
from collections.abc import Sequence

from lit_thermal.errors import InputError
from lit_thermal.sweeping.points import Point
from lit_thermal.sweeping.sweep_file import SweepFile


def words_of_point(sweep: SweepFile, point: Point, overlays: Sequence[str] = ()) -> list[str]:
    """Return the words after `python -m lit_thermal` for one point.

    The supported macros of a sweep's command are `${env}`, `${interpreter}` and `${args}`.

    Args:
        sweep: sweep file.
        point: values of the parameters.
        overlays: config files that apply to all points, after the files of the point and before its other values.

    Raises:
        InputError: the command does not run `python -m lit_thermal fit`, it allows packages, or it has another macro,
            such as `${envvar:NAME}`, which could write secrets of the machine into the names of folders.
    """
    words = []
    for word in sweep.command:
        if word == "${args}":
            files = {name: value for name, value in point.items() if name in ("c", "config")}
            values = {name: value for name, value in point.items() if name not in files}
            words += [f"--{name}={value}" for name, value in files.items()]
            words += [f"--config={path}" for path in overlays]
            words += [f"--{name}={value}" for name, value in values.items()]
        elif word not in ("${env}", "${interpreter}"):
            words.append(word)
    if words[:3] != ["-m", "lit_thermal", "fit"]:
        raise InputError(
            f'the command of {sweep.path} must be ["${{env}}", "${{interpreter}}", "-m", "lit_thermal", "fit", ...]'
        )
    if any(word == "--allow" or word.startswith("--allow=") for word in words):
        raise InputError(
            f"{sweep.path} gives --allow, which runs code of other packages and is not accepted from a file: if you "
            "trust the package, add --allow to your own command"
        )
    if secret := next((word for word in sweep.command if "${envvar:" in word), None):
        raise InputError(
            f"the command of {sweep.path} refers to an environment variable ({secret}), which is not allowed: write "
            "the value, or give it to `sweep` as an option"
        )
    if macros := [word for word in words if word.startswith("${")]:
        raise InputError(f"the command of {sweep.path} has {macros[0]}, which only W&B's agent knows; use ${{args}}")
    return words[2:]


def program(words: Sequence[str]) -> list[str]:
    """Return the full command of a process, given the arguments after `python -m lit_thermal`."""
    return [sys.executable, "-m", "lit_thermal", *words]
