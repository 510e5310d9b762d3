"""Wall times of training and of restoration."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class RestorationTime:
    """Sum the wall time of restorations and the number of restored frames."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.frames = 0

    @contextmanager
    def measure(self, device: torch.device) -> Iterator[None]:
        """Add the time that the body takes, including its work on a GPU."""
        started = time.perf_counter()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.seconds += time.perf_counter() - started


class TrainingTime:
    """Wall time and number of optimizer steps of the training of the weights, over all resumed runs."""

    def __init__(self) -> None:
        self.seconds: float | None = None
        """Wall time, including validations; None if unknown."""
        self.steps: int | None = None
        """Number of optimizer steps; None if unknown."""
        self._began, self._before = 0.0, 0.0

    def begin(self) -> None:
        """Start to count on top of the time before."""
        self._began, self._before = time.perf_counter(), self.seconds or 0.0

    def update(self, steps: int) -> None:
        """Record the time since `begin` and the number of steps."""
        self.seconds = self._before + time.perf_counter() - self._began
        self.steps = steps
