"""YAML in bounds: no key twice, no number or nesting that stops the program, one sentence for all that is no text."""

import os

import pytest

from lit_thermal import plain_yaml
from lit_thermal.errors import InputError

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
CHAIN = "".join(f"a{i}: &a{i} [{f'*a{i - 1}' if i else 'x'}]\n" for i in range(2000))
REFUSED = {
    "twice": ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", ": the key 'c' is in line 3 and again in line 5"),
    "twice in JSON": ('{"a": {"b": 1,\n"\\u0062": 2}}', ": the key 'b' is in line 1 and again in line 2"),
    "twice in a list": ("- {a: 1}\n- a: 1\n  'a': 2\n", ": the key 'a' is in line 2 and again in line 3"),
    "twice as another word": ("yes: 1\ntrue: 2\n", ": the key True is in line 1 and again in line 2"),
    "deep": ("[" * 10_000 + "]" * 10_000, ", line 1, column 65: nested more than 64 levels deep"),
    "deep and open": ("{a: " * 10_000, "nested more than 64 levels deep"),
    "deep by indentation": ("".join(f"{' ' * i}a:\n" for i in range(200)), "nested more than 64 levels deep"),
    "laughs": (LAUGHS, "it expands to more than 50,000 values"),
    "chain": (CHAIN, "it expands to more than 50,000 values or 64 levels"),
    "itself": ("a: &a [*a]", "it contains itself through an alias"),
    "digits": (f"a: {'9' * 5000}", "an integer of 5000 digits"),
    "digits of a key": (f"{'9' * 500}: a", "an integer of 500 digits"),
    "hexadecimal": (f"a: 0x{'f' * 5000}", "an integer of"),
    "beyond 64 bits": ("a: 12345678901234567890", "is too large"),
    "beyond all floats": ("a: -1e400", "-1e400 is too large"),
    "NUL": ("a\0b", " holds a NUL character"),
    "escaped NUL": ('a: "x\\0y"', "a NUL character"),
    "control": ("a: \x07", "contains the character U+0007"),
    "tab": ("a:\n\tb: 1", ", line 2, column 1: not YAML"),
    "object": ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "key": ("? [a]\n: 1", "a key is a list or a mapping"),
    "two": ("a: 1\n---\nb: 2", "not YAML"),
    "no date": ("a: 2026-02-31", "is not YAML: day is out of range"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_sentence(case, tmp_path):
    text, said = REFUSED[case]
    path = tmp_path / "some.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        plain_yaml.read(path)
    assert str(caught.value).startswith(str(path)) and said in str(caught.value)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing\n", None),
        ("\ufeffa: 1", {"a": 1}),
        ("base: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}\n", {"base": {"x": 1, "y": 2}, "more": {"x": 1, "y": 3}}),
        ("a: .inf\nb: 1.0e+300\nc: '1e400'\nd: '99999999999999999999'", None),
        ("a: &a [1]\nb: *a\n", {"a": [1], "b": [1]}),
        ("a: {b: 1}\nc: {b: 1}\n", {"a": {"b": 1}, "c": {"b": 1}}),
        ("1: a\n'1': b\n", {1: "a", "1": "b"}),
    ],
)
def test_read(text, value, tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text(text, encoding="utf-8")
    found = plain_yaml.read(path)
    assert found == value or (value is None and found["a"] == float("inf") and found["c"] == "1e400")


def test_other_encodings(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_bytes("a: 1\nb: caf\xe9".encode("cp1252"))
    with pytest.raises(InputError, match=r"is not UTF-8 text \(byte 0xe9 in line 2, column 7\): save it as UTF-8"):
        plain_yaml.read(path)
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        path.write_bytes("a: 1".encode(encoding))
        with pytest.raises(InputError, match="looks like UTF-16"):
            plain_yaml.read(path)


def test_what_is_no_file_of_text(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        plain_yaml.read(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        plain_yaml.read(tmp_path / "none.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(InputError, match="is a pipe or a device"):
        plain_yaml.read(tmp_path / "pipe.yaml")
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(InputError, match="has 1,073,741,824 bytes"):
        plain_yaml.read(tmp_path / "large.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a: !!bool maybe",
        "a: !!int",
        "a: !!int ''",
        "a: !!float ''",
        "a: !!timestamp x",
        "? !!bool x\n: 1",
        f"a: {'9:' * 200}1.0",
    ],
)
def test_a_value_that_is_not_what_it_is_marked_as(text):
    with pytest.raises(InputError, match="holds a value that is not valid for its type"):
        plain_yaml.load(text, "some.yaml")
    with pytest.raises(plain_yaml.RefusedYAMLError):
        plain_yaml.check(text)
