"""Filters that hide advertisements, and warnings about which a user of the command line can do nothing."""

import logging
import threading
import warnings

LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero")
WARNINGS = (
    # A resumed run continues in its folder.
    r"Checkpoint directory .* exists and is not empty",
    # Callbacks that save checkpoints have nothing to do outside of training.
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
    # Metrics are gathered from all processes before they are logged.
    r"It is recommended to use `self.log\(.*sync_dist=True",
    # Gradients of depthwise weights with one input channel have different strides but the same memory layout.
    r"Grad strides do not match bucket view strides",
    # Frozen parts of a model stay in eval mode.
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # Lightning uses a deprecated function of torch.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


def silence() -> None:
    """Hide Lightning's tips to install other products, and the warnings listed above."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if _no_tips not in logger.filters:
            logger.addFilter(_no_tips)
    threading.excepthook = _hide_writer_error
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)


def _hide_writer_error(failed: threading.ExceptHookArgs) -> None:
    """Show the traceback of a thread, except that of TensorBoard's writer, whose error the run receives itself."""
    if not (type(failed.thread).__module__.startswith("tensorboard.") and issubclass(failed.exc_type, OSError)):
        threading.__excepthook__(failed)


def _no_tips(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()
