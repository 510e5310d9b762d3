"""Looking at all files of a data set before long work: in threads, with a bar where it takes long."""

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from lit_thermal.data.formats.frames import GRAY_TOLERANCE, read_frame
from lit_thermal.errors import InputError

T = TypeVar("T")
R = TypeVar("R")
SHOWN = 5
"""How many wrong files a sentence names."""
_PATIENCE = 1.0
"""Seconds without a bar."""
_GRAY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F"})
_DRAFT = 8
"""A JPEG decoded at this part of its sides has the mean colour of each of its blocks, in an eighth of the time."""


def check_files(items: Mapping[str, T], check: Callable[[str, T], R], what: str) -> list[R]:
    """Check all items and return what the check gives of each, in their order.

    Args:
        items: by name.
        check: raises `InputError` for a wrong one.
        what: what they are, for the bar and the sentence ("test images of x").

    Raises:
        InputError: some are wrong: the sentence of the first, and the names of up to five in all.
    """
    found: list[R] = []
    wrong: dict[str, InputError] = {}
    started = time.monotonic()
    console = Console(stderr=True)
    # header after header waits for the disk, and decoding leaves Python's lock
    with (
        ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool,
        Progress(console=console, transient=True, auto_refresh=False, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task(f"Looking at the {what}", total=len(items), visible=False)
        try:
            for name, future in [(name, pool.submit(check, name, item)) for name, item in items.items()]:
                try:
                    found.append(future.result())
                except InputError as error:
                    wrong[name] = error
                bar.update(task, advance=1)
                if time.monotonic() - started > _PATIENCE:
                    started = time.monotonic()
                    bar.update(task, visible=True)
                    bar.refresh()
        except BaseException:  # such as Ctrl-C, which does not wait for the rest
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if wrong:
        first, *others = wrong
        told = str(wrong[first])
        raise InputError(
            f"{told}; {len(wrong)} of the {len(items)} {what} are wrong, {listed([first, *others])}" if others else told
        ) from wrong[first]
    return found


def check_gray(path: Path, tolerance: int = 0) -> None:
    """Check that a thermal image is gray: by its header, and where that has colours, by its pixels.

    A JPEG whose blocks are gray is taken for gray: less than a block is found when it is read.

    Args:
        path: of the file.
        tolerance: as in `read_frame`.

    Raises:
        InputError: it is in colour, or damaged.
    """
    try:
        with Image.open(path) as image:
            if image.mode in _GRAY_MODES:
                return
            if image.format == "JPEG" and image.mode == "RGB" and min(image.size) >= 8 * _DRAFT:
                image.draft("RGB", (image.width // _DRAFT, image.height // _DRAFT))
                pixels = np.asarray(image).astype(np.int16)
                if (pixels.max(-1) - pixels.min(-1)).max() <= GRAY_TOLERANCE:
                    return
    except Exception:  # whatever Pillow does not read is told of by the reader, in its sentence
        pass
    read_frame(path, tolerance)


def listed(names: list[str]) -> str:
    """Name the first few."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
