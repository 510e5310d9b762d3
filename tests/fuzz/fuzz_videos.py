"""Readers of video files, one for each container."""

import sys
import tempfile
from functools import cache
from pathlib import Path

from fuzz_harness import Reader

sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "formats"))

from video_seeds import make_seeds, read


@cache
def _seeds() -> dict[str, list[bytes]]:
    """Suffix to whole videos."""
    found: dict[str, list[bytes]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in make_seeds(Path(folder)):
            found.setdefault(path.suffix, []).append(path.read_bytes())
    return found


READERS = [
    Reader(f"video_{suffix[1:]}", suffix, lambda folder, suffix=suffix: _seeds()[suffix], read) for suffix in _seeds()
]
