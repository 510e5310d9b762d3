"""The largest image that is decoded: a small file can declare a size that no memory holds."""

import os

from lit_thermal.errors import InputError

VARIABLE = "LIT_THERMAL_MAX_PIXELS"
DEFAULT = 300_000_000
"""Pixels of one image; the largest thermal panoramas have a tenth of it."""


def max_pixels() -> int:
    """Return how many pixels an image may have: `LIT_THERMAL_MAX_PIXELS`, or `DEFAULT` where that is not set.

    Raises:
        InputError: the variable is not a whole number above 0.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return DEFAULT
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) > 0):
        raise InputError(f"{VARIABLE}={text[:40]} must be a whole number above 0")
    return int(text)


def check_pixels(width: int, height: int, where: object) -> None:
    """Check the size that a file declares, before memory is taken for it.

    Args:
        width: pixels in a row.
        height: rows.
        where: the file, for the sentence.

    Raises:
        InputError: the image has more pixels than `max_pixels`.
    """
    if width * height > (limit := max_pixels()):
        raise InputError(
            f"{where} declares {width}x{height} pixels, more than the {limit} that are allowed: "
            f"it is damaged, or set {VARIABLE} higher"
        )
