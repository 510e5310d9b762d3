"""Text, JSON and CSV of others: read strictly, written so that nothing in them is run."""

import csv
import io
import os

import pytest

from lit_thermal.errors import InputError
from lit_thermal.plain_files import as_csv, bare, cell, inside, printable, read_bytes, read_json, read_table, read_text
from lit_thermal.shapes import COUNT, Each, Number, OneOf, check, check_plain


def said(read, *words):
    with pytest.raises(InputError) as error:
        read(*words)
    assert len(str(error.value)) < 500
    return str(error.value)


def test_text_is_utf_8_with_or_without_a_mark(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfa\r\nb\rc")
    assert read_text(file, "a text") == "a\nb\nc"
    file.write_text("ä", encoding="utf-16")
    assert "is in UTF-16: save it in UTF-8" in said(read_text, file, "a text")
    file.write_text("ä", encoding="cp1252")
    assert "is not in UTF-8 (byte 0)" in said(read_text, file, "a text")
    file.write_bytes(b"a\0b")
    assert "NUL" in said(read_text, file, "a text")


def test_what_is_no_plain_file_is_refused_and_blocks_nobody(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe or a device, but a text is expected" in said(read_bytes, tmp_path / "pipe", "a text")
    assert "is a folder, but a text is expected" in said(read_bytes, tmp_path, "a text")
    assert "does not exist" in said(read_bytes, tmp_path / "none", "a text")
    (tmp_path / "large").write_bytes(b"x" * 11)
    assert "has 11 bytes, but a text may have at most 10" in said(
        read_bytes, tmp_path / "large", "a text", "cut it", 10
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' twice"),
        ("[NaN]", "NaN in place of a number"),
        ("[-Infinity]", "Infinity in place of a number"),
        ("[1e999]", "1e999, which is too large"),
        ("[" + "9" * 5000 + "]", "a number of 5000 digits"),
        ("[" * 100 + "]" * 100, "more than 64 levels deep"),
        ("[" * 100_000, "nested too deeply"),
        (r'["\ud800"]', "half a character"),
        (r'{"\udc00x": 1}', "half a character"),
        ("", "cannot be read as a list"),
        ("{", "cannot be read as a list"),
    ],
)
def test_json_that_is_none(tmp_path, text, says):
    (tmp_path / "a.json").write_text(text)
    assert says in said(read_json, tmp_path / "a.json", "a list")


def test_json_may_hold_nan_where_that_is_asked_for(tmp_path):
    (tmp_path / "a.json").write_text('\N{BYTE ORDER MARK}{"a": [NaN, 1e999, "\\ud83d\\ude00"]}', encoding="utf-8")
    first, second, face = read_json(tmp_path / "a.json", "numbers", nan=True)["a"]
    assert first != first and second == float("inf") and face == "\N{GRINNING FACE}"


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+a", "-a", "@x", "\tx", "\rx", " =x", "'=x", "''=x", "a", "", "'", "it's", "-", "-1.5", "1e3", "=\n"],
)
def test_cells_of_a_table_are_no_formulas_and_come_back(text):
    written = cell(text)
    assert not written.lstrip().startswith(("=", "+", "@"))
    assert not written.startswith("-") or text == "-1.5"
    assert bare(written) == printable(text)


def test_different_texts_stay_different():
    texts = [f"{quotes}{sign}a" for quotes in ("", "'", "''") for sign in ("", "=", "-", "+", "@")]
    assert len(set(map(cell, texts))) == len(texts)


def test_numbers_of_a_table_stay_numbers(tmp_path):
    text = as_csv([["name", "=x"], ["-1.5", -1.5], ["=a", 1e-30]])
    assert list(csv.reader(io.StringIO(text))) == [["name", "'=x"], ["-1.5", "-1.5"], ["'=a", "1e-30"]]
    (tmp_path / "a.csv").write_text(text)
    assert read_table(tmp_path / "a.csv", "a table") == [{"name": "-1.5", "=x": "-1.5"}, {"name": "=a", "=x": "1e-30"}]


def test_tables_that_are_none(tmp_path):
    file = tmp_path / "a.csv"
    for text, says in (
        ("", "is empty"),
        ("a,a\n", "two columns named 'a'"),
        ("a\n1,2\n", "line 2 of"),
        ("a\n" + "x" * 200_000, "field larger"),
    ):
        file.write_text(text)
        assert says in said(read_table, file, "a table")
    file.write_text("a,b\n1\n\n")
    assert read_table(file, "a table") == [{"a": "1", "b": ""}]


def test_a_record_names_nothing_outside_of_its_folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "secret.png").touch()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "up").symlink_to(tmp_path)
    (folder / "round").symlink_to(folder / "round")
    (folder / "own.png").touch()
    (folder / "near.png").symlink_to("own.png")
    for name in ("/etc/passwd", "../secret.png", "a/../../secret.png", "link.png", "up/secret.png", "a\0b", ""):
        assert "again" in said(inside, folder, name, "gallery.json")
    assert "not a valid path" in said(inside, folder, "x" * 10_000, "gallery.json")
    assert inside(folder, "near.png", "gallery.json").exists()


def test_shapes():
    shape = {"a": Number(0, 1), "b?": [OneOf((8, 16))], "c?": (None, Each(str)), "n?": COUNT}
    assert check({"a": 0.5, "b": [8], "c": None, "more": 1}, shape, "f", "mend it")
    for value, says in (
        ([], "f: the content is empty and must be a mapping; mend it"),
        ({}, "f: the key a is missing; mend it"),
        ({"a": True}, "a is True and must be a number from 0 to 1"),
        ({"a": float("nan")}, "a is nan"),
        ({"a": 10**400}, "a is a very large number"),
        ({"a": 1, "b": [8, "16"]}, "b[1] is '16' and must be one of 8, 16"),
        ({"a": 1, "c": {"d": 1}}, "c.d is 1 and must be text"),
        ({"a": 1, "n": 1.5}, "n is 1.5 and must be a whole number"),
        ({"a": "x" * 1000}, "must be a number"),
    ):
        assert says in said(check, value, shape, "f", "mend it")


def test_trees_that_do_not_end_are_reported():
    circle: list = []
    circle.append(circle)
    bomb: list = []
    for _ in range(20):
        bomb = [bomb] * 10
    for value, says in (
        (circle, "levels deep"),
        (bomb, "more than 100,000 values"),
        ({1: 2}, "not a text"),
        ({None: 2}, "not a text"),
        ({1, 2}, "plain"),
    ):
        assert says in said(check_plain, value, "f", "mend it")
    check_plain({"a": [1, 2.5, None, True, "x"]}, "f", "mend it")
