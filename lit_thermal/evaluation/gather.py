"""Exchange between the processes of a distributed run."""

from typing import TypeVar

from torch import distributed

T = TypeVar("T")


def gather_objects(value: T) -> list[T]:
    """Return the values of all processes in the order of their ranks; with one process, its value only."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[T | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]
