"""Memory of a restoration: the peak of the process, and the advice if it runs out."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from lit_thermal.errors import InputError

SMALLEST = 32
"""Smallest side of a tile that is advised."""


@contextmanager
def memory_advice(
    device: torch.device | str, size: Sequence[int], batch: int = 1, what: str = "images"
) -> Iterator[None]:
    """Convert an error about missing memory in the body to an `InputError` that says what to change.

    Args:
        device: device of the model.
        size: height and width of what is restored at once.
        batch: number of images that are restored at once.
        what: name of what is restored, such as "frames".

    Raises:
        InputError: the body ran out of memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        lacking = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error)
        if not lacking:
            raise
        height, width = size
        advice = "give --batch 1" if batch > 1 else f"give --tile {max(SMALLEST, min(height, width) // 2)}"
        some = f"{batch} {what}" if batch > 1 else what
        raise InputError(f"{some} of {width}x{height} do not fit into the memory of {device}: {advice}") from error


def peak_memory(device: torch.device | str) -> int:
    """Return the largest number of bytes that the process used so far, on the GPU if it is the device; 0 if unknown."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
