"""File names of the pictures of a run, made from the names of images and data sets."""

import hashlib
import re

_LONGEST = 160
"""Longest name in bytes; a number and a suffix still fit behind it."""
_HASHED = re.compile(r".*-[0-9a-f]{12}")


def file_name(text: str) -> str:
    """Return text as one part of a path that is valid on all systems and differs between any two texts.

    Letters, digits and ``.+-_`` are kept. If anything else is replaced or cut off, a hash of the text is appended.
    """
    plain = re.sub(r"[^\w.+-]+", "_", text).strip(".")
    plain = plain.encode()[:_LONGEST].decode(errors="ignore")
    if plain == text and plain and not _HASHED.fullmatch(text):
        return text
    return f"{plain or '_'}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:12]}"
