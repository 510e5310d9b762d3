"""What stops a run from outside, in one sentence: killed data workers, full disks, removed folders, no account."""

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
FEWER = "give fewer by --data.num_workers (0 reads in the training process), or a smaller data.batch_size"

_told_full = mmap.mmap(-1, 1)
"""1 when a data worker ended because shared memory was full; the workers inherit it."""


def foreseen(error: Exception, trainer: Trainer) -> InputError | None:
    """Return the sentence for an error that no mistake in the program made, or None for any other.

    Args:
        error: that ended a verb of the Trainer.
        trainer: knows the run's folder and its checkpoints.
    """
    folder = Path(trainer.default_root_dir)
    text = str(error)
    if "DataLoader worker" in text and (told := _worker(error)):
        return InputError(told)
    if isinstance(error, MemoryError):
        return InputError(f"the memory of this machine does not suffice: {FEWER}")
    if type(error).__module__.split(".")[0] == "wandb":
        return _no_wandb(short(error))
    if "without overflow" in text:  # what torch says of a step that no number holds
        return InputError(f"the optimizer cannot make its step ({short(error)}): lower model.optimizer.lr")
    if not isinstance(error, OSError | RuntimeError):
        return None
    if not any(folder.glob("config*.yaml")):
        return InputError(f"the run folder {folder} was removed while the run wrote to it: start the run again")
    where = getattr(error, "filename", None) or short_path(folder)
    full = getattr(error, "errno", None) in FULL or "No space left on device" in text
    # torch's writer of archives does not say what the system told it
    if full or "iostream error" in text or "PytorchStreamWriter failed" in text:
        return InputError(
            f"{where} cannot be written ({short(error)}): make room or choose another place by "
            f"--trainer.default_root_dir{_kept(trainer)}"
        )
    if isinstance(error, OSError) and _is_inside(where, folder):
        return InputError(f"{where} cannot be written ({short(error)}): leave it to the run{_kept(trainer)}")
    return None


def end_workers_that_cannot_send() -> None:
    """Let a data worker end that cannot hand over a batch, most often because shared memory is full.

    Python's queue shows a traceback in the worker and goes on without the batch, for which the training then waits for
    ever. Torch tells the training of a worker that ends, and a byte that both share tells why.
    """

    def fail(error: BaseException, thing: object) -> None:
        full = "shared memory" in str(error)
        if multiprocessing.parent_process() is None or not full:
            show(error, thing)
        if multiprocessing.parent_process() is not None:
            _told_full[0] = int(full)
            os._exit(1)

    _told_full[0] = 0
    if Queue._on_queue_feeder_error.__module__ != __name__:  # type: ignore[attr-defined]
        show = Queue._on_queue_feeder_error  # type: ignore[attr-defined]
        Queue._on_queue_feeder_error = staticmethod(fail)  # type: ignore[attr-defined]


@contextlib.contextmanager
def quiet_writers() -> Iterator[None]:
    """Leave out the traceback that TensorBoard's thread prints on a full disk: its error reaches the run as well."""
    before = threading.excepthook
    threading.excepthook = lambda error: None if _lacks_room(error.exc_value) else before(error)
    try:
        yield
    finally:
        threading.excepthook = before


@rank_zero_only
def check_wandb(trainer: Trainer) -> None:
    """Check, before anything else is done, that a logger of Weights & Biases has its account and its network.

    Raises:
        InputError: it has not, and would ask for them or wait.
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
        raise _no_wandb("there is no key on this machine")


def _no_wandb(why: str) -> InputError:
    return InputError(
        f"Weights & Biases cannot be used ({why}): run `wandb login`, set WANDB_API_KEY, or set WANDB_MODE=offline to "
        "log without an account and a network"
    )


def _worker(error: BaseException) -> str:
    """Return what became of a data worker, or nothing where it raised what only a mistake in the program does."""
    text = str(error)
    if _told_full[0] or "shared memory" in text or "Bus error" in text or "</torch_" in text:
        return f"the shared memory of the data workers (/dev/shm) is full: enlarge it, or {FEWER}"
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text:
        return f"a data worker ran out of memory: {FEWER}"
    if "exited unexpectedly" in text or "killed by signal" in text:
        return f"a data worker was killed ({_line_of(text)}), most often because memory ran out: {FEWER}"
    return ""


def _line_of(text: str) -> str:
    """Return the first sentence of what torch says."""
    return text.strip().splitlines()[0].split(". ")[0].rstrip(". ")


def _kept(trainer: Trainer) -> str:
    """Return where the last whole checkpoint is."""
    if trainer.state.fn != "fit":
        return ""
    saved = [Path(getattr(callback, "last_model_path", "") or "") for callback in trainer.checkpoint_callbacks]
    whole = next((path for path in saved if path.is_file()), None)
    return f"; the last whole checkpoint, {whole}, is kept" if whole else ""


def _is_inside(name: object, folder: Path) -> bool:
    return isinstance(name, str) and Path(name).absolute().is_relative_to(folder.absolute())


def _lacks_room(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in FULL
