"""Run folders: `<root>/<experiment>/<time>-<verb>`, one per run, and the checkpoints that lie in them."""

import contextlib
import os
import shutil
import time
from pathlib import Path

from lit_thermal.errors import InputError

ROOT = "runs"
"""Where experiments are kept, from the working directory, unless `--trainer.default_root_dir` says otherwise."""


def new_folder(experiment: Path, verb: str) -> Path:
    """Make the folder of a new run; two runs of the same second get two folders.

    A SLURM job that was requeued gets the folder of its first start back, where Lightning finds the checkpoint that
    it wrote when the job was stopped.

    Args:
        experiment: folder of the experiment.
        verb: what is run.
    """
    job = os.environ.get("SLURM_JOB_ID")
    stem = f"{verb}-slurm{job}" if job else verb
    if job and int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0:
        earlier = sorted(experiment.glob(f"*-{stem}*"))
        if earlier:
            return earlier[-1]
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{stem}"
    number = 1
    while True:
        folder = experiment / (name if number == 1 else f"{name}-{number:02d}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise InputError(f"the run folder {folder} cannot be made: {error.strerror}") from error


def discard(folder: Path | None) -> None:
    """Remove the folder of a run that ended before it began, if it holds nothing but the record of its start."""
    if folder is not None and {path.name for path in folder.iterdir()} <= {"config.yaml", "csv", "tensorboard"}:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()  # succeeds only where this was the first run


def find_checkpoint(experiment: Path, which: str) -> Path:
    """Return `last` or `best` of the newest run of an experiment that holds one.

    Raises:
        InputError: no run of the experiment does.
    """
    found = sorted(experiment.glob(f"*/checkpoints/{which}.ckpt"))
    if found:
        return found[-1]
    others = sorted({path.parents[2].name for path in experiment.parent.glob(f"*/*/checkpoints/{which}.ckpt")})
    hint = f"; {experiment.parent} has one of {', '.join(others[:6])}" if others else "; run `fit` first"
    raise InputError(f"no run in {experiment} holds checkpoints/{which}.ckpt{hint}")


def folder_of(checkpoint: Path, experiment: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in, where that is a run of this experiment."""
    folder = checkpoint.absolute().parent.parent
    inside = checkpoint.parent.name == "checkpoints" and folder.parent.resolve() == experiment.resolve()
    return folder if inside else None
