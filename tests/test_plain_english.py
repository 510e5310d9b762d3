"""Descriptions of arguments, which become help texts, begin with what the argument is."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PREPOSITION = re.compile(
    r"^\s{8,12}\w+: (of|by|for|in|to|from|with|at|away|under|beside|as|on|into|over|per|between|whose|than|after"
    r"|before|without|within|through|about|against|behind|below|above|along|across|around|since|until|during|among|near"
    r"|beyond|toward|towards|via|what|which|how|where|when)\b.*$",
    re.MULTILINE,
)
"""An argument's description that begins with a preposition or a question word: `fusion: of both cameras' features`."""


@pytest.mark.parametrize("folder", ["lit_thermal", "callbacks", "sweeps"])
def test_no_description_begins_with_a_preposition(folder):
    found = [
        f"{path.relative_to(ROOT)}: {match.group().strip()}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for match in PREPOSITION.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_the_pattern_finds_what_it_should():
    text = "    Args:\n        fusion: of both cameras' features.\n        scale: factor of enlargement.\n"
    assert [m.group().strip() for m in PREPOSITION.finditer(text)] == ["fusion: of both cameras' features."]
