"""The one exception for what a user can mend; the command line prints its sentence and exits with code 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args


class InputError(ValueError):
    """Something that the user gave is wrong.

    The message is one sentence: what is wrong, where (file, key, shape), and what to do. What a library raised
    stays in `__cause__`; the command line shows it with `--debug`.
    """


def check_choice(value: object, choices: Any, what: str) -> None:
    """Check that a value is one of the words of a `Literal`.

    Args:
        value: what was given.
        choices: the `Literal`.
        what: the argument that the value is for, such as "data.normalize".

    Raises:
        InputError: the value is none of the words.
    """
    if value not in get_args(choices):
        raise InputError(f"{what} is {value!r}; must be one of {', '.join(map(str, get_args(choices)))}")


@contextmanager
def reading(path: str | Path, what: str, advice: str = "replace or remove it") -> Iterator[None]:
    """Turn whatever a library raises while it reads a file into one sentence.

    This is the one place where the exceptions of foreign readers end: a damaged file makes them raise anything.
    Readers wrap all that they do with a file in it and let `InputError` of their own pass.

    Args:
        path: the file that is read, named in the sentence.
        what: what the file should be, with its article ("an image", "a list of boxes").
        advice: what the user can do about it.

    Raises:
        InputError: the body raised an exception of any other kind, the missing file and missing memory among them.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder where {what} is expected: give a file") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read: change its permissions") from error
    except MemoryError as error:
        raise InputError(f"{path} needs more memory than there is to be read as {what}: {advice}") from error
    except RecursionError as error:
        raise InputError(f"{path} cannot be read as {what}: it is nested too deeply; {advice}") from error
    except Exception as error:
        raise InputError(f"{path} cannot be read as {what} ({short(error)}): {advice}") from error


def short(error: BaseException) -> str:
    """Return the first line of an exception's message, at most 160 characters, or its kind where it has none."""
    text = str(getattr(error, "strerror", None) or error).strip()
    line = text.splitlines()[0].strip() if text else type(error).__name__
    return line if len(line) <= 160 else f"{line[:157]}..."
