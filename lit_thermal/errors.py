"""Exception for mistakes of the user; the command line prints its message and exits with code 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args


class InputError(ValueError):
    """Mistake in the user's input, such as a wrong value or a damaged file.

    The message is one sentence: what is wrong, where (file, key, shape), and what to do. The exception of a library
    stays in `__cause__`; the command line shows it with `--debug`.
    """


def check_choice(value: object, choices: Any, what: str) -> None:
    """Check that a value is one of the words of a `Literal`.

    Args:
        value: given value.
        choices: `Literal` of the allowed words.
        what: argument that the value is for, such as "data.normalize".

    Raises:
        InputError: the value is not one of the words.
    """
    if value not in get_args(choices):
        raise InputError(f"{what} is {value!r}; must be one of {', '.join(map(str, get_args(choices)))}")


@contextmanager
def reading(path: str | Path, what: str, advice: str = "replace or remove it") -> Iterator[None]:
    """Convert any exception of a library that reads a file to an `InputError` of one sentence.

    A damaged file can make a library raise any exception. Readers wrap all access to a file in this context; their own
    `InputError` passes unchanged.

    Args:
        path: file that is read, named in the message.
        what: expected contents with an article, such as "an image" or "a list of boxes".
        advice: advice for the user at the end of the message.

    Raises:
        InputError: the body raised another exception, including those for a missing file or too little memory.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder, but {what} is expected: give a file") from error
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: change its permissions") from error
    except MemoryError as error:
        raise InputError(f"{path} needs more memory than available to be read as {what}: {advice}") from error
    except RecursionError as error:
        raise InputError(f"{path} cannot be read as {what}: it is nested too deeply; {advice}") from error
    except Exception as error:
        raise InputError(f"{path} cannot be read as {what} ({short(error)}): {advice}") from error


def short(error: BaseException) -> str:
    """Return the first line of an exception's message, at most 160 characters, or its type if it has no message."""
    text = str(getattr(error, "strerror", None) or error).strip()
    line = text.splitlines()[0].strip() if text else type(error).__name__
    return line if len(line) <= 160 else f"{line[:157]}..."
