"""Run folders, `<root>/<experiment>/<time>-<verb>`, one for each run, and the checkpoints in them."""

import contextlib
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

from lit_thermal import plain_yaml
from lit_thermal.errors import InputError, short

ROOT = "runs"
"""Default folder of experiments in the working directory; `--trainer.default_root_dir` replaces it."""
LOCK = ".lock"
"""Lock file in the folder of a training."""
_NAME = re.compile(r"(?P<time>[0-9]{8}-[0-9]{6})-(?P<verb>[a-z]+)(?:-slurm[^-]+)?(?:-(?P<number>[0-9]+))?")


def new_folder(experiment: Path, verb: str) -> Path:
    """Create the folder of a new run; two runs in the same second get two folders.

    Sorted by name, it comes after all earlier runs of the verb, even if the clock was set back.

    A requeued SLURM job gets the folder of its first start, where Lightning finds the checkpoint that it wrote when the
    job was stopped.

    Args:
        experiment: folder of the experiment.
        verb: verb of the run.

    Raises:
        InputError: the folder cannot be created.
    """
    job = os.environ.get("SLURM_JOB_ID")
    stem = f"{verb}-slurm{job}" if job else verb
    if job and int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0:
        # The number of one job can be the beginning of another's.
        own = re.compile(rf"[0-9]{{8}}-[0-9]{{6}}-{re.escape(stem)}(-[0-9]+)?")
        earlier = sorted((path for path in experiment.glob("*") if own.fullmatch(path.name)), key=_order)
        if earlier:
            return earlier[-1]
    folder = experiment
    try:
        experiment.mkdir(parents=True, exist_ok=True)
        runs = [found for path in experiment.iterdir() if (found := _NAME.fullmatch(path.name))]
        stamp = max([time.strftime("%Y%m%d-%H%M%S"), *(run["time"] for run in runs if run["verb"] == verb)])
        number = 1 + max(
            (int(run["number"] or 1) for run in runs if (run["time"], run["verb"]) == (stamp, verb)), default=0
        )
        while True:
            folder = experiment / (f"{stamp}-{stem}" if number == 1 else f"{stamp}-{stem}-{number:02d}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir(parents=True)
                return folder
            number += 1
    except (OSError, ValueError) as error:  # a NUL character raises ValueError
        raise InputError(
            f"the run folder {folder} cannot be created ({short(error)}): choose another place or name"
        ) from error


def discard(folder: Path | None) -> None:
    """Remove the folder of a run that failed at its start, if it contains only config, logs and lock."""
    if folder is None or not folder.is_dir():
        return
    if {path.name for path in folder.iterdir()} <= {"config.yaml", "csv", "tensorboard", LOCK}:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()  # fails if the experiment has other runs


def find_checkpoint(experiment: Path, which: str, strict: bool = True) -> Path:
    """Return the `last` or `best` checkpoint of the newest training of an experiment.

    Args:
        experiment: folder of the experiment.
        which: `last` or `best`.
        strict: raise an error if the newest training does not have the checkpoint; otherwise older trainings are
            searched.

    Raises:
        InputError: no training of the experiment has such a checkpoint, or with `strict` the newest has none.
    """
    found = sorted(_within(experiment, f"*/checkpoints/{which}.ckpt"), key=lambda path: _order(path.parents[1]))
    if found:
        chosen = found[-1]
        folder = chosen.parents[1]
        newer = [run for run in _trainings(experiment) if _order(run) > _order(folder)]
        if strict and newer:
            raise InputError(
                f"the newest training of {experiment}, {newer[-1].name}, {_state(newer[-1], which)}, and {folder.name} "
                f"is an older one: to use that, give the file {short_path(chosen)} instead of {which!r}"
            )
        return chosen
    others = sorted({path.parents[2].name for path in _within(experiment.parent, f"*/*/checkpoints/{which}.ckpt")})
    hint = f"; {experiment.parent} has one of {', '.join(others[:6])}" if others else "; run `fit` first"
    raise InputError(f"no run in {experiment} holds checkpoints/{which}.ckpt{hint}")


def folder_of(checkpoint: Path, experiment: Path) -> Path | None:
    """Return the run folder of a checkpoint, or None if that is no run of this experiment."""
    folder = checkpoint.absolute().parent.parent
    inside = checkpoint.parent.name == "checkpoints" and folder.parent.resolve() == experiment.resolve()
    return folder if inside else None


def _within(folder: Path, pattern: str) -> list[Path]:
    """Return the matching paths in a folder; an empty list if the folder does not exist."""
    return list(folder.glob(pattern)) if os.path.isdir(folder) else []


def _trainings(experiment: Path) -> list[Path]:
    """Return the folders of trainings, the oldest first, without trial runs (`fast_dev_run`)."""
    folders = [
        path for path in experiment.iterdir() if (found := _NAME.fullmatch(path.name)) and found["verb"] == "fit"
    ]
    return sorted((path for path in folders if path.is_dir() and not _is_trial(path)), key=_order)


def _order(folder: Path) -> tuple[str, int, str]:
    """Return a sort key by creation; folders with other names come before run folders."""
    found = _NAME.fullmatch(folder.name)
    return (found["time"], int(found["number"] or 1), folder.name) if found else ("", 0, folder.name)


def _is_trial(folder: Path) -> bool:
    try:
        config: Any = plain_yaml.read(folder / "config.yaml")
        return bool(config["trainer"]["fast_dev_run"])
    except (InputError, KeyError, TypeError):
        return False


def _state(folder: Path, which: str) -> str:
    """Describe which checkpoints a training has instead of the requested one."""
    others = sorted(path.name for path in folder.glob("checkpoints/*.ckpt"))
    if others:
        return f"holds no {which}.ckpt but {', '.join(others[:3])}"
    return "holds no checkpoint (it is running or was stopped before its first)"


def short_path(path: str | Path) -> Path:
    """Return a path relative to the working directory if it is below it."""
    path = Path(path)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
