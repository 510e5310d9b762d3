"""XML that others wrote, read without what makes it dangerous: entities, external files, nesting without end."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from xml.parsers import expat

from lit_thermal.errors import InputError, reading
from lit_thermal.plain_files import DEEPEST, read_bytes


def read_xml(file: Path, advice: str) -> ET.Element:
    """Read the root of an XML file.

    A file that declares a document type is refused: its entities may stand for each other, so that a few lines grow to
    gigabytes, or for other files.

    Args:
        file: the file.
        advice: what the user can do about it.

    Raises:
        InputError: the file is absent, no XML, too large, nested too deeply, or declares a document type.
    """
    data = read_bytes(file, "XML", advice)
    depth = 0

    def declared(*_: Any) -> None:
        raise InputError(f"{file} declares a document type (DOCTYPE), which is not read: remove it")

    def opened(*_: Any) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise InputError(f"{file} is nested more than {DEEPEST} levels deep: {advice}")

    def closed(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    with reading(file, "XML", advice):
        # Looked through before anything is built of it.
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = declared
        parser.StartElementHandler = opened
        parser.EndElementHandler = closed
        parser.Parse(data, True)
        return ET.fromstring(data)
