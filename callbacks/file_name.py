"""Names of clips as names of files."""

import re


def file_name(text: str) -> str:
    """Text as one part of a path that every system takes: other than letters, digits and ``.+-_`` become ``_``."""
    return re.sub(r"[^\w.+-]+", "_", text).strip(".") or "_"
