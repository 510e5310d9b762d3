"""Error messages for external failures of a run: killed data workers, full disks, removed folders, missing accounts."""

import contextlib
import errno
import mmap
import multiprocessing
import os
import threading
from collections.abc import Iterator
from inspect import signature
from multiprocessing.queues import Queue
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from lit_thermal.cli.run_folder import short_path
from lit_thermal.errors import InputError, short

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
FEWER = "lower --data.num_workers (0 reads in the training process) or data.batch_size"

_shared_memory_full = mmap.mmap(-1, 1)
"""1 after a data worker ended because shared memory was full; the workers inherit this byte."""


def foreseen(error: Exception, trainer: Trainer) -> InputError | None:
    """Return the message for an error with an external cause, or None for any other error.

    Args:
        error: exception that ended a verb of the Trainer.
        trainer: trainer of the run, which knows its folder and checkpoints.
    """
    folder = Path(trainer.default_root_dir)
    text = str(error)
    if "DataLoader worker" in text and (message := _worker(error)):
        return InputError(message)
    if isinstance(error, MemoryError):
        return InputError(f"this machine has too little memory: {FEWER}")
    if type(error).__module__.split(".")[0] == "wandb":
        return _no_wandb(short(error))
    if "without overflow" in text:  # torch's message for a step that exceeds the range of the number format
        return InputError(f"the optimizer cannot make its step ({short(error)}): lower model.optimizer.lr")
    if not isinstance(error, OSError | RuntimeError):
        return None
    if not any(folder.glob("config*.yaml")):
        return InputError(f"the run folder {folder} was removed while the run wrote to it: start the run again")
    where = getattr(error, "filename", None) or short_path(folder)
    full = getattr(error, "errno", None) in FULL or "No space left on device" in text
    # torch's archive writer does not pass on the error of the operating system.
    if full or "iostream error" in text or "PytorchStreamWriter failed" in text:
        return InputError(
            f"{where} cannot be written ({short(error)}): make room or choose another place by "
            f"--trainer.default_root_dir{_kept(trainer)}"
        )
    if isinstance(error, OSError) and _is_inside(where, folder):
        return InputError(
            f"{where} cannot be written ({short(error)}): do not change the run folder during a run{_kept(trainer)}"
        )
    return None


def end_workers_that_cannot_send() -> None:
    """End data workers that cannot send a batch, most often because shared memory is full.

    Python's queue prints a traceback in the worker and drops the batch, for which the training then waits forever.
    Torch reports to the training that a worker ended; a shared byte gives the reason.
    """

    def fail(error: BaseException, thing: object) -> None:
        full = "shared memory" in str(error)
        if multiprocessing.parent_process() is None or not full:
            show(error, thing)
        if multiprocessing.parent_process() is not None:
            _shared_memory_full[0] = int(full)
            os._exit(1)

    _shared_memory_full[0] = 0
    if Queue._on_queue_feeder_error.__module__ != __name__:  # type: ignore[attr-defined]
        show = Queue._on_queue_feeder_error  # type: ignore[attr-defined]
        Queue._on_queue_feeder_error = staticmethod(fail)  # type: ignore[attr-defined]


@contextlib.contextmanager
def quiet_writers() -> Iterator[None]:
    """Hide the traceback of TensorBoard's thread on a full disk; the run receives the same error."""
    before = threading.excepthook
    threading.excepthook = lambda error: None if _lacks_room(error.exc_value) else before(error)
    try:
        yield
    finally:
        threading.excepthook = before


@rank_zero_only
def check_wandb(trainer: Trainer) -> None:
    """Check before the run that a logger of Weights & Biases has an account and a network connection.

    Raises:
        InputError: the logger would ask for the account or wait for the network.
    """
    online = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger) and not logger._offline]
    if not online or os.environ.get("WANDB_MODE", "online") not in ("online", "shared"):
        return
    import wandb

    try:
        known = wandb.login(prompt=False) if "prompt" in signature(wandb.login).parameters else wandb.api.api_key
    except wandb.errors.Error as error:
        raise _no_wandb(short(error)) from error
    if not known:
        raise _no_wandb("this machine has no API key")


def _no_wandb(why: str) -> InputError:
    return InputError(
        f"Weights & Biases cannot be used ({why}): run `wandb login`, set WANDB_API_KEY, or set WANDB_MODE=offline to "
        "log without an account and a network"
    )


def _worker(error: BaseException) -> str:
    """Return the message for an external failure of a data worker, or an empty string for any other error."""
    text = str(error)
    if _shared_memory_full[0] or "shared memory" in text or "Bus error" in text or "</torch_" in text:
        return f"the shared memory of the data workers (/dev/shm) is full: enlarge it, or {FEWER}"
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text:
        return f"a data worker ran out of memory: {FEWER}"
    if "exited unexpectedly" in text or "killed by signal" in text:
        return f"a data worker was killed ({_line_of(text)}), most often because memory ran out: {FEWER}"
    return ""


def _line_of(text: str) -> str:
    """Return the first sentence of torch's message."""
    return text.strip().splitlines()[0].split(". ")[0].rstrip(". ")


def _kept(trainer: Trainer) -> str:
    """Return a clause that names the last complete checkpoint, or an empty string if there is none."""
    if trainer.state.fn != "fit":
        return ""
    saved = [Path(getattr(callback, "last_model_path", "") or "") for callback in trainer.checkpoint_callbacks]
    whole = next((path for path in saved if path.is_file()), None)
    return f"; the last complete checkpoint is {whole}" if whole else ""


def _is_inside(name: object, folder: Path) -> bool:
    return isinstance(name, str) and Path(name).absolute().is_relative_to(folder.absolute())


def _lacks_room(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in FULL
