"""Readers under damaged files: each gives what it reads, or one sentence; never another exception, never a hang."""

import contextlib
import faulthandler
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from fuzz_mutations import mutations

from lit_thermal.errors import InputError

SECONDS = 10
"""What one input may take."""


@dataclass(frozen=True)
class Reader:
    """One kind of file and what reads it.

    Attributes:
        name: of the kind, for the test.
        suffix: of the file.
        make_seeds: writes whole files into a folder and returns their contents.
        read: reads a file, as the product does.
    """

    name: str
    suffix: str
    make_seeds: Callable[[Path], list[bytes]]
    read: Callable[[Path], object]

    def __str__(self) -> str:
        return self.name


class TooLong(BaseException):
    """An input took longer than `SECONDS`; no `Exception`, so that no reader turns it into a sentence."""


def failures(reader: Reader, count: int, seed: int = 0, keep: Path | None = None) -> list[str]:
    """Read damaged files and return what went wrong, one entry an input.

    Args:
        reader: what reads.
        count: how many inputs.
        seed: of the damage.
        keep: folder where the inputs that failed stay.
    """
    found: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "seeds").mkdir()
        seeds = reader.make_seeds(folder / "seeds")
        for index, data in enumerate(mutations(seeds, count, seed)):
            path = folder / f"input{reader.suffix}"
            path.write_bytes(data)
            if wrong := _try(reader, path):
                found.append(f"{reader.name} {index}: {wrong}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{reader.name}_{seed}_{index}{reader.suffix}").write_bytes(data)
    return found


def _try(reader: Reader, path: Path) -> str:
    """What is wrong with how a file is read, or nothing."""
    try:
        with _limit():
            reader.read(path)
    except InputError as error:
        return f"more than one line: {error!s:.200}" if "\n" in str(error) else ""
    except TooLong as error:
        return f"longer than {SECONDS} s in {_where(error)}"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {error!s:.200} in {_where(error)}"
    return ""


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[-3:][::-1])


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    """Stop what takes longer than `SECONDS`; a library that never returns to Python ends the process with a trace."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    faulthandler.dump_traceback_later(3 * SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
