"""Damaged records, boxes, lists and tables: a sentence, or what can be read of them, and nothing else."""

import pytest
from fuzz_records import READERS, REPORT, strange


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_damage_is_reported_in_a_sentence(reader, tmp_path):
    for path in reader.seeds(tmp_path):
        if path.name != "c.xml" and (reader.name, path.name) != ("prompts", "b.txt"):
            reader.read(path)
    assert list(strange(reader, tmp_path, 200)) == []


@pytest.mark.slow
def test_a_report_of_damaged_records_is_reported_in_a_sentence(tmp_path):
    for path in REPORT.seeds(tmp_path):
        REPORT.read(path)
    assert list(strange(REPORT, tmp_path, 60)) == []
