"""The clock of the benchmarks: seconds spent in the parts of a model."""

import resource
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch


class Clock:
    """Seconds of each call of what it watches; it waits until everything that was asked of the device is done."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def watch(self, part: str, owner: Any, name: str) -> None:
        """Time a method of an object from now on."""
        setattr(owner, name, self.timed(part, getattr(owner, name)))

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, each call of which is added to a part."""

        def call(*arguments: Any, **named: Any) -> Any:
            begin = self.now()
            result = function(*arguments, **named)
            self.seconds[part].append(self.now() - begin)
            return result

        return call

    def now(self) -> float:
        """Seconds."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def peak_memory(device: str) -> int:
    """Bytes: on a GPU what PyTorch had allocated at most, else the greatest resident memory of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
