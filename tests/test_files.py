"""Whole-file replacement, locks, and the rule by which files belong together."""

import errno
import multiprocessing
import os
import unicodedata
from pathlib import Path

import pytest

from lit_thermal.errors import InputError, reading
from lit_thermal.files import (
    by_stem,
    check_name,
    check_partners,
    is_plain,
    locked,
    natural_order,
    replacing,
    same_name,
    write_bytes,
    write_json,
    write_text,
)


def test_a_file_appears_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.txt", "é\n")
    write_bytes(tmp_path / "new" / "b", b"\x00\xff")
    write_json(tmp_path / "new" / "c.json", {"ä": 1})
    assert (tmp_path / "new" / "a.txt").read_bytes() == "é\n".encode()
    assert (tmp_path / "new" / "b").read_bytes() == b"\x00\xff"
    assert (tmp_path / "new" / "c.json").read_text(encoding="utf-8") == '{\n  "ä": 1\n}\n'
    assert sorted(os.listdir(tmp_path / "new")) == ["a.txt", "b", "c.json"]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as aside:
        aside.write_text("half")
        raise KeyError
    with pytest.raises(InputError, match=r"a\.txt cannot be written \(No space left on device\): make room"):  # noqa: SIM117
        with replacing(path) as aside:
            aside.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_two_writers_do_not_mix(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as one, replacing(tmp_path / "a") as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert (tmp_path / "a").read_text() == "one" and os.listdir(tmp_path) == ["a"]


def test_new_files_have_the_permissions_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("stem", ["x" * 251, "é" * 125, "a b", "a?b", "-n", "..."])
def test_hostile_names_are_written_as_they_are(tmp_path: Path, stem: str) -> None:
    write_text(tmp_path / f"{stem}.png", "x")
    assert os.listdir(tmp_path) == [f"{stem}.png"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "x" * 256, "é" * 128])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="name"):
        check_name(name)


def hold(file: Path, ready: "multiprocessing.synchronize.Event", leave: "multiprocessing.synchronize.Event") -> None:
    with locked(file, "the folder"):
        ready.set()
        leave.wait(30)


def test_a_lock_is_held_by_one_process_and_goes_with_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, leave = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path / ".lock", ready, leave))
    other.start()
    assert ready.wait(30)
    with (
        pytest.raises(InputError, match="another process is using the folder"),
        locked(tmp_path / ".lock", "the folder"),
    ):
        pass
    other.kill()
    other.join()
    with locked(tmp_path / ".lock", "the folder"):
        assert (tmp_path / ".lock").exists()


def test_stems_match_whatever_way_an_accent_is_written(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "é")
    assert same_name(decomposed) == same_name("é") and same_name("a b") != same_name("a_b") != same_name("A_b")
    found = by_stem([tmp_path / f"{decomposed}.png", tmp_path / "b.tif"], tmp_path)
    assert list(found) == ["é", "b"]
    with pytest.raises(InputError, match=r"holds a\.png and a\.tif, which have the same stem"):
        by_stem([tmp_path / "a.png", tmp_path / "a.tif"], tmp_path)


def test_a_missing_partner_is_named_with_its_place() -> None:
    check_partners(["a", "b"], {"hr": ["a", "b"], "lr": {"a": 1, "b": 2, "c": 3}}, "add it")
    words = r"the same name, but lr has no 1, 2, 3 and 6 more and guide has no 9: add it$"
    with pytest.raises(InputError, match=words):
        check_partners("123456789", {"hr": "123456789", "lr": "", "guide": "12345678"}, "add it")


def test_natural_order_of_any_name() -> None:
    names = ["10", "2", "a10", "a2", "1²2", "a", "²", "00001" + "0" * 30]
    ordered = sorted(map(Path, names), key=natural_order)
    assert ordered.index(Path("2")) < ordered.index(Path("10"))
    assert ordered.index(Path("a2")) < ordered.index(Path("a10"))


def test_only_files_of_bytes_are_plain(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "file.png").write_bytes(b"")
    assert is_plain(tmp_path / "file.png")
    assert not any(is_plain(tmp_path / name) for name in ("pipe.png", ".", "none", "a\0b"))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (FileNotFoundError(2, "No such file"), "f does not exist"),
        (IsADirectoryError(21, "Is a directory"), "f is a folder, but an image is expected: give a file"),
        (MemoryError(), "f needs more memory than available to be read as an image: replace or remove it"),
        (ZeroDivisionError("division by zero"), r"f cannot be read as an image \(division by zero\): replace or"),
        (OSError(5, "Input/output error"), r"f cannot be read as an image \(Input/output error\)"),
        (KeyError(), r"f cannot be read as an image \(KeyError\)"),
        (InputError("our own"), "our own"),
    ],
)
def test_foreign_exceptions_become_one_sentence(error: Exception, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught, reading("f", "an image"):
        raise error
    assert isinstance(error, InputError) or caught.value.__cause__ is error
