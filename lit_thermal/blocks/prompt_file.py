"""Text files of tags: one line for each image with its tags, or one tag per line."""

from pathlib import Path, PurePosixPath

from lit_thermal.errors import InputError
from lit_thermal.plain_files import read_text

_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}


def read_prompts(path: Path) -> dict[str, list[str]]:
    """Read a file with lines "name.png: tag, tag, ..."; empty lines are skipped.

    Returns:
        The tags of each image, which may be none, by its key (`image_key`).

    Raises:
        InputError: the file is absent or not a text file, a line has no colon, or two lines give an image different
            tags.
    """
    lines: dict[str, list[str]] = {}
    for number, line in enumerate(read_words(path).splitlines(), start=1):
        if not line.strip():
            continue
        name, colon, rest = line.partition(":")
        if not colon or not name.strip():
            raise InputError(f"line {number} of the prompt file {path} is {line[:60]!r}: write 'name.png: tag, tag'")
        tags = [tag.strip() for tag in rest.split(",") if tag.strip()]
        if lines.setdefault(image_key(name), tags) != tags:
            raise InputError(
                f"line {number} of the prompt file {path} gives the image {name.strip()!r} other tags than a line "
                "before: keep one of them"
            )
    return lines


def image_key(name: str) -> str:
    """Return an image's name without folder and without the suffix of an image file."""
    path = PurePosixPath(name.strip())
    return path.stem if path.suffix.lower() in _IMAGE_SUFFIXES else path.name


def read_words(path: Path) -> str:
    """Read a text file of words in UTF-8.

    Raises:
        InputError: the file is absent or holds something else.
    """
    return read_text(path, "the text file of words", "give another file")
