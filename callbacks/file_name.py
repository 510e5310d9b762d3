"""Names of images and data sets as names of the pictures that a run draws of them."""

import hashlib
import re

_LONGEST = 160
"""Bytes, so that a number and a suffix have room behind."""
_HASHED = re.compile(r".*-[0-9a-f]{12}")


def file_name(text: str) -> str:
    """Return text as one part of a path that every system takes, another for every text.

    Letters, digits and ``.+-_`` stay. Where anything else is replaced or cut off, a hash of the text follows.
    """
    plain = re.sub(r"[^\w.+-]+", "_", text).strip(".")
    plain = plain.encode()[:_LONGEST].decode(errors="ignore")
    if plain == text and plain and not _HASHED.fullmatch(text):
        return text
    return f"{plain or '_'}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:12]}"
