"""Ctrl-C that ends a run between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning.pytorch import Callback


class StopBetweenSteps(Callback):
    """Ends a run of one process between two steps after Ctrl-C; a second Ctrl-C ends it at once.

    An interrupt while TensorBoard's writer has its lock would make the run hang when it closes its loggers. Ctrl-C
    could then not end it, because Lightning ignores further signals.
    """

    def __init__(self) -> None:
        self._requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle Ctrl-C while the body runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handler = signal.signal(signal.SIGINT, self._request)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True

    def _stop_if_requested(self, *_: Any) -> None:
        if self._requested:
            raise KeyboardInterrupt

    on_train_batch_end = _stop_if_requested  # type: ignore[assignment]
    on_validation_batch_end = _stop_if_requested  # type: ignore[assignment]
    on_test_batch_end = _stop_if_requested  # type: ignore[assignment]
    on_predict_batch_end = _stop_if_requested  # type: ignore[assignment]
