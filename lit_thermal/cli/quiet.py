"""Advertisements and warnings that a user of the command line cannot act upon are not shown."""

import logging
import threading
import warnings

LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero")
WARNINGS = (
    # resuming in the folder of the run is what this command line does
    r"Checkpoint directory .* exists and is not empty",
    # the callbacks that keep checkpoints have nothing to do outside of training
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
    # the metrics are gathered from all processes before they are logged
    r"It is recommended to use `self.log\(.*sync_dist=True",
    # the gradients of depthwise weights with one input channel are laid out in another way of the same numbers
    r"Grad strides do not match bucket view strides",
    # frozen parts of a model stay in eval mode
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # between Lightning and torch
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


def silence() -> None:
    """Hide Lightning's tips to install other products, and the warnings listed above."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if _no_tips not in logger.filters:
            logger.addFilter(_no_tips)
    threading.excepthook = _told_elsewhere
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)


def _told_elsewhere(failed: threading.ExceptHookArgs) -> None:
    """Show the traceback of a thread, unless it is TensorBoard's that writes: its error reaches the run itself."""
    if not (type(failed.thread).__module__.startswith("tensorboard.") and issubclass(failed.exc_type, OSError)):
        threading.__excepthook__(failed)


def _no_tips(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()
