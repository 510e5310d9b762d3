"""Damaged files of a data set: either the first one ends the run, or all are omitted, counted and listed."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from lightning.pytorch import Trainer

from lit_thermal.errors import InputError, check_choice
from lit_thermal.files import write_json

_log = logging.getLogger(__name__)
RECORD = "damaged.json"
"""File in the run's folder that lists the omitted files with the reasons."""
OnDamage = Literal["stop", "skip"]


class _Named(Protocol):
    @property
    def name(self) -> str: ...

    def read(self) -> object: ...


_Source = TypeVar("_Source", bound=_Named)


class Damaged:
    """Policy for unreadable files of a data set, and a list of them.

    Args:
        action: "stop" raises the error of the reader; "skip" leaves the files out.

    Raises:
        InputError: the action is unknown.
    """

    def __init__(self, action: OnDamage) -> None:
        check_choice(action, OnDamage, "data.damaged")
        self.action = action
        self.why: dict[str, dict[str, str]] = {}
        """Error message of the reader, by split and name."""

    @property
    def skips(self) -> bool:
        """Whether damaged files are omitted."""
        return self.action == "skip"

    @contextmanager
    def leaving_out(self, split: str, name: str) -> Iterator[None]:
        """Record the error that a reader raises in the body, if damaged files are omitted."""
        try:
            yield
        except InputError as error:
            if not self.skips:
                raise
            self._note(split, name, str(error))

    def whole(self, split: str, sources: Sequence[_Source]) -> list[_Source]:
        """Return the sources that can be read, after reading all of them, a few at a time."""
        if not self.skips:
            return list(sources)

        def error_of(source: _Source) -> str:
            try:
                source.read()
            except InputError as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(8) as pool:
            found = list(zip(sources, pool.map(error_of, sources), strict=True))
        for source, why in found:
            if why:
                self._note(split, source.name, why)
        return [source for source, why in found if not why]

    def check_some_left(self, split: str, left: Sequence[object], what: str) -> None:
        """Check that a split still has readable files.

        Raises:
            InputError: all of them are damaged.
        """
        lost = self.why.get(split)
        if lost and not left:
            raise InputError(f"all {len(lost)} {what} for {split} are damaged; the first: {next(iter(lost.values()))}")

    def report(self, trainer: Trainer | None) -> None:
        """List the omitted files, if any, in the log and in `damaged.json` of the run's folder."""
        names = [f"{split}/{name}" for split, lost in self.why.items() for name in lost]
        if not names or (trainer is not None and not trainer.is_global_zero):
            return
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        _log.warning("damaged: %d left out: %s%s", len(names), ", ".join(names[:20]), more)
        if trainer is not None:
            write_json(Path(trainer.default_root_dir) / RECORD, self.why)

    def _note(self, split: str, name: str, why: str) -> None:
        self.why.setdefault(split, {})[name] = why
