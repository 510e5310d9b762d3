"""Parsing of the arguments after a verb: experiment files, and the sources of a config in their order."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lit_thermal.cli.parser import did_you_mean
from lit_thermal.errors import InputError
from lit_thermal.moved import current

CONFIG = ("-c", "--config")
FREE = ("--help", "--print_config")
"""Options that set no value, and may therefore be at any place."""


class Source(NamedTuple):
    """One part of a config: the content of a file, or one override of the command line."""

    name: str
    tree: dict[str, Any]
    keys: tuple[str, ...] = ()
    """Parts of the key that an override sets; its text is in `tree` under "value". Empty for a file."""


def with_found_files(words: list[str]) -> list[str]:
    """Return the words of a command with each `-c NAME` replaced by `-c PATH`, and old class paths by new ones.

    Raises:
        InputError: a file is not found, or an override comes before a file, which would undo it.
    """
    done: list[str] = []
    override = None
    for name, value, given in _options(words):
        if name not in CONFIG:
            if name is not None and name.split(".")[-1] not in ("help",) and name not in FREE:
                override = override or given[0]
            done += [_with_current_path(word) for word in given]
            continue
        if value is None:
            raise InputError(f"{name} needs the name of an experiment or of a file, as in {name} theris")
        if override:
            raise InputError(
                f"{override} comes before {name} {value}, which would replace it; give all files first, then the values"
            )
        done += [CONFIG[1], str(find_experiment(value))]
    return done


def find_experiment(name: str) -> Path:
    """Return the path of a config file, given as a path or as the name of a packaged experiment.

    The name may start with `experiments/` and end with `.yaml`.

    Raises:
        InputError: the file does not exist.
    """
    path = Path(name)
    if path.exists():
        return path  # the reader reports an error if it is not a regular file
    spec = importlib.util.find_spec("lit_thermal.experiments")
    places = [Path(p) for p in spec.submodule_search_locations or ()] if spec else []
    inside = name.removeprefix("experiments/").removesuffix(".yaml")
    known = []
    for place in places:
        if (place / f"{inside}.yaml").is_file():
            return place / f"{inside}.yaml"
        known += [p.relative_to(place).with_suffix("").as_posix() for p in sorted(place.rglob("*.yaml"))]
    raise InputError(
        f"there is no config file {name!r}, neither here nor in the packaged experiments{did_you_mean(inside, known)}"
    )


def sources(words: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield `(option, value)` for each option of a command, in order; for a stray word, the value is None."""
    for name, value, given in _options(words):
        yield (name, value) if name is not None else (given[0], None)


def _with_current_path(word: str) -> str:
    option, sign, value = word.rpartition("=")
    return f"{option}{sign}{current(value)}"


def _options(words: list[str]) -> Iterator[tuple[str | None, str | None, list[str]]]:
    """Yield name, value and words of each option; the name of a stray word is None."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("-c") and not word.startswith("--") and len(word) > 2:
            yield "-c", word[2:].removeprefix("="), [word]
        elif word.startswith("--") and "=" in word:
            name, _, value = word.partition("=")
            yield name, value, [word]
        elif word == "-c" or word.startswith("--"):
            alone = not rest or rest[0].startswith("--") or rest[0] in CONFIG
            taken = [] if alone or word in FREE else [rest.pop(0)]
            yield word, taken[0] if taken else None, [word, *taken]
        else:
            yield None, None, [word]
