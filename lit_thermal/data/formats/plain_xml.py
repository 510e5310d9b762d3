"""Safe reading of XML files: no entities, no external files, no unlimited nesting."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from xml.parsers import expat

from lit_thermal.errors import InputError, reading
from lit_thermal.plain_files import DEEPEST, read_bytes


def read_xml(file: Path, advice: str) -> ET.Element:
    """Read the root of an XML file.

    A file that declares a document type is refused: its entities may expand a few lines to gigabytes, or refer to
    other files.

    Args:
        file: path of the file.
        advice: advice for the user at the end of an error message.

    Raises:
        InputError: the file is missing, not XML, too large, nested too deeply, or declares a document type.
    """
    data = read_bytes(file, "XML", advice)
    depth = 0

    def declared(*_: Any) -> None:
        raise InputError(f"{file} declares a document type (DOCTYPE), which is not allowed: remove it")

    def opened(*_: Any) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise InputError(f"{file} is nested more than {DEEPEST} levels deep: {advice}")

    def closed(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    with reading(file, "XML", advice):
        # The whole file is checked before the tree is built.
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = declared
        parser.StartElementHandler = opened
        parser.EndElementHandler = closed
        parser.Parse(data, True)
        return ET.fromstring(data)
