"""The parser of verbs without a Trainer, with one-sentence errors, and suggestions for mistyped names."""

import argparse
import difflib
from collections.abc import Iterable
from typing import NoReturn

from lit_thermal.errors import InputError


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the known names most similar to `name`, the best first; case is ignored."""
    folded: dict[str, str] = {}
    for candidate in known:
        folded.setdefault(candidate.lower(), candidate)
    found = difflib.get_close_matches(name.lower(), folded, n=most, cutoff=0.6)
    # A name that begins with the given one is similar even if it is much longer (`thermal`, `ThermalPrompt`).
    found += [f for f in folded if len(name) >= 3 and f.startswith(name.lower()) and f not in found]
    return [folded[f] for f in found[:most]]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean A or B?` with the names similar to `name`, or an empty string if there is none."""
    near = nearest(name, known)
    return f"; did you mean {' or '.join(near)}?" if near else ""


class Parser(argparse.ArgumentParser):
    """An argument parser that refuses abbreviations and raises `InputError` with one sentence."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise the message; for an unknown option, with the most similar options."""
        for word in message.removeprefix("unrecognized arguments: ").split():
            if message.startswith("unrecognized") and word.startswith("--"):
                name = word.split("=")[0]
                raise InputError(f"{self.prog} has no option {name}{did_you_mean(name, self._option_string_actions)}")
        raise InputError(f"{self.prog}: {message}")
