"""Text files of words: one line for each image with its tags, or one tag a line."""

from pathlib import Path, PurePosixPath

from lit_thermal.errors import InputError

_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"}


def read_prompts(path: Path) -> dict[str, list[str]]:
    """Read a file with lines "name.png: tag, tag, ..."; empty lines are skipped.

    Returns:
        The key of each image (`image_key`) to its tags, which may be none.

    Raises:
        InputError: the file is absent or no text, a line has no colon, or two lines give one image other tags.
    """
    lines: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
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


def read_text(path: Path) -> str:
    """Read a file in UTF-8.

    Raises:
        InputError: the file is absent or holds something else.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"the text file {path} cannot be read ({reason}): give its path, or another file") from error
