"""Limit on the size of decoded images, because a small file can declare a size that exceeds any memory."""

import os

from lit_thermal.errors import InputError

VARIABLE = "LIT_THERMAL_MAX_PIXELS"
DEFAULT = 300_000_000
"""Default limit in pixels, ten times the size of the largest thermal panoramas."""


def max_pixels() -> int:
    """Return the largest number of pixels of an image: `LIT_THERMAL_MAX_PIXELS`, or `DEFAULT` if that is not set.

    Raises:
        InputError: the variable is not an integer above 0.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return DEFAULT
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) > 0):
        raise InputError(f"{VARIABLE}={text[:40]} must be an integer above 0")
    return int(text)


def check_pixels(width: int, height: int, where: object) -> None:
    """Check the size that a file declares, before memory is allocated for it.

    Args:
        width: width in pixels.
        height: height in pixels.
        where: file, for the error message.

    Raises:
        InputError: the image has more pixels than `max_pixels`.
    """
    if width * height > (limit := max_pixels()):
        raise InputError(
            f"{where} declares {width}x{height} pixels, more than the limit of {limit}: "
            f"replace it if it is damaged, or set {VARIABLE} to a larger number"
        )
