"""Entry point of the command line: finds the function of a verb; heavy packages are imported only if it needs them."""

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
    "upscale": ("lit_thermal.cli.upscale:main", "restore images, camera files and videos with a trained model"),
    "convert": ("lit_thermal.cli.convert:main", "convert weights of a method's released code to a checkpoint"),
    "merge": ("lit_thermal.cli.merge:main", "fold the LoRA of a checkpoint into the base weights"),
    "export": ("lit_thermal.cli.export:main", "write a trained model as ONNX or as a program of torch.export"),
    "publish": ("lit_thermal.cli.publish:main", "write a checkpoint as a model that others can load, with a card"),
    "curves": ("lit_thermal.cli.curves:main", "draw the robustness curves of several tests in one picture"),
    "evaluate": (
        "lit_thermal.cli.evaluate:main",
        "compute image metrics and downstream scores of restored files",
    ),
    "sweep": ("lit_thermal.cli.sweep:main", "run the points of a W&B sweep file, without W&B"),
    "report": ("lit_thermal.cli.report:main", "compare runs, or a sweep, with published numbers on one page"),
    "list": ("lit_thermal.cli.list:main", "show all methods, blocks, metrics, data, experiments and sweeps"),
}
"""Verb to `module:function`, which takes the words after the verb and returns the exit code, and its help text."""


DEBUG = "LIT_THERMAL_DEBUG"
"""Environment variable that, like `--debug`, shows the traceback before the error message."""

NO_DEFECT = {
    errno.ENOSPC: "the disk is full: make room",
    errno.EDQUOT: "the quota of the disk is used up: make room",
    errno.EROFS: "the file system is read-only: choose another place",
    errno.EFBIG: "the file is larger than the limit: raise the limit or choose another place",
    errno.EMFILE: "too many files are open at once: raise `ulimit -n` or give fewer workers",
    errno.ENFILE: "too many files are open on this machine: close other programs",
    errno.EPIPE: "the program that read the output has ended",
}
"""Errors of the operating system that are no defect of this program, with advice for the user."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after the program's name; by default those of this process.

    Returns:
        The exit code: 0; 2 for a mistake of the user, reported in one sentence; 130 after an interrupt.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # torch's OpenMP threads spin while they wait, so that one busy neighbour process slows a step tenfold. The runtime
    # reads this variable when torch is imported; a value that the user set is kept.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _show_log()
    with _set(DEBUG, "1" if "--debug" in words else os.environ.get(DEBUG)):
        try:
            words, packages = _common(words)
            # The processes of a sweep and of a distributed run read the variable.
            with _set(trust.ALLOW, ",".join(packages)):
                trust.make_findable(packages)
                code = _run(words)
            sys.stdout.flush()
            return code
        except InputError as mistake:
            return _report(mistake, sentence(mistake))
        except OSError as error:
            if error.errno not in NO_DEFECT:
                raise
            place = f"{error.filename}: " if error.filename else ""
            code = _report(error, f"{place}{NO_DEFECT[error.errno]} ({short(error)})")
            if error.errno == errno.EPIPE:
                # Python would fail on the same pipe again at its end.
                with contextlib.suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return code
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130


def _common(words: list[str]) -> tuple[list[str], list[str]]:
    """Separate the options that every verb has, which may be at any place, from the other words of a command.

    Returns:
        The other words, and the packages that the user allows, including those of the environment variable.
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
    """Set an environment variable while the body runs."""
    before = os.environ.get(variable)
    if value:
        os.environ[variable] = value
    try:
        yield
    finally:
        os.environ.pop(variable, None)
        if before is not None:
            os.environ[variable] = before


def _report(error: BaseException, text: str) -> int:
    """Print the error message, with `--debug` also the traceback; return the exit code."""
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        traceback.print_exception(error)
    print(f"error: {text}", file=sys.stderr)
    return 2


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # The present standard error: a progress bar or a test may have replaced it.
        print(self.format(record), file=sys.stderr)


def _show_log() -> None:
    """Show log messages of the package, such as the back end of the scan and the compilation of its kernel."""
    log = logging.getLogger("lit_thermal")
    if not any(isinstance(handler, _ToStderr) for handler in log.handlers):
        log.addHandler(_ToStderr())
        log.setLevel(logging.INFO)


def sentence(mistake: InputError) -> str:
    """Return the error message, also if a data worker raised it and torch added a traceback."""
    text = str(mistake)
    if text.startswith("Caught InputError in "):
        text = text.rsplit("InputError: ", 1)[-1]
    from lit_thermal.plain_files import printable

    # A foreign name may hold control characters of the terminal.
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
    # The folders callbacks/, experiments/ and sweeps/ belong to the package only after its installation.
    if importlib.util.find_spec("lit_thermal.callbacks") is None:
        checkout = Path(lit_thermal.__file__).parents[1]
        raise InputError(f"lit_thermal runs from a checkout that is not installed; run `pip install -e {checkout}`")


def _help() -> str:
    lines = [
        "usage: lit_thermal VERB [options]    (also: python -m lit_thermal VERB [options])",
        "",
        "  lit_thermal fit -c theris                       train an experiment",
        "  lit_thermal fit -c theris --model.BLOCK=NAME    with another block",
        "  lit_thermal fit -c theris --ckpt_path last      continue its newest run",
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
        "  --allow PACKAGE   allow configs and checkpoints to name classes of your own package, whose code then runs;",
        "                    for all verbs, may be repeated (LIT_THERMAL_ALLOW=PACKAGE,... does the same)",
        "  --debug           show the traceback of an error; for all verbs (LIT_THERMAL_DEBUG=1 does the same)",
    ]
    return "\n".join(lines)
