"""From the words on the command line to the function of the verb; nothing heavy is imported before a verb needs it."""

import contextlib
import errno
import importlib
import importlib.util
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import lit_thermal
from lit_thermal import trust
from lit_thermal.cli.parser import did_you_mean
from lit_thermal.errors import InputError, short

TRAINER_VERBS = {
    "fit": "train a model",
    "validate": "measure a model on the validation data",
    "test": "measure a model and the simple baselines on the test data",
    "predict": "restore the data of a DataModule",
}
"""Verbs that LightningCLI runs; `python -m lit_thermal VERB --help` lists their options."""

OTHER_VERBS = {
    "upscale": ("lit_thermal.cli.upscale:main", "restore a video or a folder of frames with a trained model"),
    "convert": ("lit_thermal.cli.convert:main", "make a checkpoint of weights in a published layout"),
    "merge": ("lit_thermal.cli.merge:main", "fold the LoRA of a checkpoint into the weights it was added to"),
    "curves": ("lit_thermal.cli.curves:main", "draw tests under displaced guides in one picture"),
    "evaluate": ("lit_thermal.cli.evaluate:main", "measure files that any program wrote, and what they are good for"),
    "sweep": ("lit_thermal.cli.sweep:main", "run the points of a W&B sweep file, without W&B"),
    "report": ("lit_thermal.cli.report:main", "draw runs, or a sweep, beside the published numbers"),
    "list": ("lit_thermal.cli.list:main", "show the methods, blocks, data, experiments and sweeps there are"),
}
"""Verb to its function, `module:function`, which takes the words after the verb and returns the exit code."""


DEBUG = "LIT_THERMAL_DEBUG"
"""Environment variable that shows, like `--debug`, the traceback of a mistake before its sentence."""

NO_DEFECT = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "the quota of the disk is used up: make room",
    errno.EROFS: "the place may only be read: choose another",
    errno.EFBIG: "the file is larger than a file may be here: raise the limit or choose another place",
    errno.EMFILE: "too many files are open at once: raise `ulimit -n` or give fewer workers",
    errno.ENFILE: "too many files are open on this machine: close other programs",
    errno.EPIPE: "what read the output has gone",
}
"""Errors of the system that no program can help, wherever they strike, with what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after the program's name; those of this process where none are given.

    Returns:
        The exit code: 0, 2 for a mistake of the user (told in one sentence), 130 when interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # torch's OpenMP threads spin while they wait, and one busy neighbour process then slows a step tenfold;
    # the runtime reads this when torch is imported, and what the user set stays.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _show_log()
    with _set(DEBUG, "1" if "--debug" in words else os.environ.get(DEBUG)):
        try:
            words, packages = _common(words)
            # the processes of a sweep and of a distributed run read the variable
            with _set(trust.ALLOW, ",".join(packages)):
                trust.make_findable(packages)
                code = _run(words)
            sys.stdout.flush()
            return code
        except InputError as mistake:
            return _tell(mistake, sentence(mistake))
        except OSError as error:
            if error.errno not in NO_DEFECT:
                raise
            place = f"{error.filename}: " if error.filename else ""
            code = _tell(error, f"{place}{NO_DEFECT[error.errno]} ({short(error)})")
            if error.errno == errno.EPIPE:
                # Python would stumble over the same pipe when it ends
                with contextlib.suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return code
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130


def _common(words: list[str]) -> tuple[list[str], list[str]]:
    """Take the options that every verb has, which may stand anywhere, out of the words of a command.

    Returns:
        The other words, and the packages that the user allows, those of the environment among them.
    """
    rest, named = [], []
    todo = [word for word in words if word != "--debug"]
    while todo:
        word = todo.pop(0)
        if word == "--allow" and (not todo or todo[0].startswith("-")):
            raise InputError("--allow needs the name of a package: write --allow my_package")
        if word == "--allow" or word.startswith("--allow="):
            given = todo.pop(0) if word == "--allow" else word.partition("=")[2]
            named += trust.checked(iter(given.split(",")))
        else:
            rest.append(word)
    return rest, list(dict.fromkeys([*trust.allowed(()), *named]))


@contextlib.contextmanager
def _set(variable: str, value: str | None) -> Iterator[None]:
    """Set a variable of the environment while the body runs."""
    before = os.environ.get(variable)
    if value:
        os.environ[variable] = value
    try:
        yield
    finally:
        os.environ.pop(variable, None)
        if before is not None:
            os.environ[variable] = before


def _tell(error: BaseException, text: str) -> int:
    """Print why a command ends, and how it came to that where the user asked; returns the exit code."""
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        traceback.print_exception(error)
    print(f"error: {text}", file=sys.stderr)
    return 2


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # where standard error is now, which a progress bar or a test may have replaced
        print(self.format(record), file=sys.stderr)


def _show_log() -> None:
    """Show what the package logs, such as the back end of the scan and the compilation of its kernel."""
    log = logging.getLogger("lit_thermal")
    if not any(isinstance(handler, _ToStderr) for handler in log.handlers):
        log.addHandler(_ToStderr())
        log.setLevel(logging.INFO)


def sentence(mistake: InputError) -> str:
    """Return the sentence of a mistake, also of one that a data worker raised and torch wrapped in its traceback."""
    text = str(mistake)
    if text.startswith("Caught InputError in "):
        text = text.rsplit("InputError: ", 1)[-1]
    from lit_thermal.plain_files import printable

    # a name of others may hold what changes a terminal
    return printable(" ".join(text.split()))


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] == "--version":
        print(f"lit_thermal {lit_thermal.__version__}")
        return 0
    verb = words[0]
    if verb.startswith("-"):
        raise InputError(
            f"{verb} comes before the verb; write the verb first, as in `lit_thermal fit -c theris {verb} ...`"
            if verb not in ("-c", "--config")
            else f"{verb} comes before the verb; write `lit_thermal fit {verb} EXPERIMENT`"
        )
    if verb not in TRAINER_VERBS and verb not in OTHER_VERBS:
        verbs = [*TRAINER_VERBS, *OTHER_VERBS]
        raise InputError(f"there is no verb {verb!r}{did_you_mean(verb, verbs)} (verbs: {', '.join(verbs)})")
    _require_installation()
    if verb in TRAINER_VERBS:
        from lit_thermal.cli.app import run

        return run(words)
    module, function = OTHER_VERBS[verb][0].split(":")
    return getattr(importlib.import_module(module), function)(words[1:])


def _require_installation() -> None:
    # The folders callbacks/, experiments/ and sweeps/ are parts of the package only once it is installed.
    if importlib.util.find_spec("lit_thermal.callbacks") is None:
        checkout = Path(lit_thermal.__file__).parents[1]
        raise InputError(f"lit_thermal runs from a checkout that is not installed; run `pip install -e {checkout}`")


def _help() -> str:
    lines = [
        "usage: lit_thermal VERB [options]    (also: python -m lit_thermal VERB [options])",
        "",
        "  lit_thermal fit -c theris                       train an experiment",
        "  lit_thermal fit -c theris --model.BLOCK=NAME    with another block",
        "  lit_thermal fit -c theris --ckpt_path last      go on with its newest run",
        "  lit_thermal test -c theris --ckpt_path best     measure its best checkpoint",
        "",
        "verbs:",
    ]
    helps = TRAINER_VERBS | {verb: text for verb, (_, text) in OTHER_VERBS.items()}
    lines += [f"  {verb:<10}{text}" for verb, text in helps.items()]
    lines += [
        "",
        "`lit_thermal VERB --help` lists the options of a verb, `--model.help=NAME` those of a method, and",
        "`--print_config` prints the whole config. Files given by -c may be packaged experiments: -c theris.",
        "",
        "options:",
        "  -h, --help        show this text",
        "  --version         show the version",
        "  --allow PACKAGE   let configs and checkpoints name classes of a package of yours, whose code then runs;",
        "                    any verb, may be repeated (LIT_THERMAL_ALLOW=PACKAGE,... does the same)",
        "  --debug           show the traceback of a mistake too; any verb (LIT_THERMAL_DEBUG=1 does the same)",
    ]
    return "\n".join(lines)
