"""Checks of all files of a data set before a long run, in threads, with a progress bar if they take long."""

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

from lit_thermal.data.formats.frames import read_frame
from lit_thermal.data.formats.gray_image import GRAY_TOLERANCE
from lit_thermal.errors import InputError

T = TypeVar("T")
R = TypeVar("R")
SHOWN = 5
"""Number of wrong files that an error message names."""
_PATIENCE = 1.0
"""Seconds before a progress bar is shown."""
_GRAY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F"})
_DRAFT = 8
"""Reduction factor of a JPEG while decoding: one pixel is the mean of one block, which takes an eighth of the time."""


def check_files(items: Mapping[str, T], check: Callable[[str, T], R], what: str) -> list[R]:
    """Check all items and return the results of `check`, in the order of the items.

    Args:
        items: items by name.
        check: function of name and item that raises an `InputError` for a wrong item.
        what: description of the items for the progress bar and error messages, such as "test images of x".

    Raises:
        InputError: items are wrong; the message describes the first and names up to five of them.
    """
    found: list[R] = []
    wrong: dict[str, InputError] = {}
    started = time.monotonic()
    console = Console(stderr=True)
    # threads, because reading headers waits for the disk, and decoding releases the GIL
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
        except BaseException:  # for example Ctrl-C: do not wait for the other checks
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if wrong:
        first, *others = wrong
        message = str(wrong[first])
        raise InputError(
            f"{message}; {len(wrong)} of the {len(items)} {what} are wrong, {listed([first, *others])}"
            if others
            else message
        ) from wrong[first]
    return found


def check_gray(path: Path, tolerance: int = 0) -> None:
    """Check that a thermal image is gray, by its header or, if the header declares colours, by its pixels.

    A JPEG passes if the mean of each block is gray; colours within a block are found when the file is read.

    Args:
        path: path of the file.
        tolerance: largest allowed difference between channels, as in `read_frame`.

    Raises:
        InputError: the image is in colour or damaged.
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
    except Exception:  # the reader below raises the error for files that Pillow cannot read
        pass
    read_frame(path, tolerance)


def listed(names: list[str]) -> str:
    """Return the first `SHOWN` names, and the number of the others."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
