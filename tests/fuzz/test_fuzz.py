from pathlib import Path

import pytest
from fuzz_harness import Reader, failures
from fuzz_mutations import mutations
from fuzz_readers import ALL, READERS


@pytest.mark.parametrize("reader", READERS, ids=str)
def test_damaged_files_give_one_sentence(reader: Reader) -> None:
    assert failures(reader, 200) == []


@pytest.mark.slow
@pytest.mark.parametrize("reader", ALL, ids=str)
def test_many_damaged_files_give_one_sentence(reader: Reader) -> None:
    assert failures(reader, 10_000, seed=1) == []


def test_names_of_readers_are_their_own() -> None:
    assert len({reader.name for reader in ALL}) == len(ALL)


def test_whole_files_are_read(tmp_path: Path) -> None:
    for reader in ALL:
        folder = tmp_path / reader.name
        folder.mkdir()
        for index, data in enumerate(reader.make_seeds(folder)):
            path = folder / f"whole{index}{reader.suffix}"
            path.write_bytes(data)
            if reader.name not in ("tiff_float", "class_mask"):
                reader.read(path)


def test_the_damage_is_the_same_each_time_and_differs_by_seed() -> None:
    whole = [bytes(range(256)), b'{"a": [1, 2, 3]}']
    once = list(mutations(whole, 50, seed=3))
    assert once == list(mutations(whole, 50, seed=3)) != list(mutations(whole, 50, seed=4))
    assert sum(data in whole for data in once) < 5


def test_what_is_no_sentence_is_a_failure() -> None:
    def read(path: Path) -> None:
        raise ZeroDivisionError("by zero")

    wrong = failures(Reader("wrong", ".bin", lambda folder: [b"abc"], read), 3)
    assert len(wrong) == 3 and "ZeroDivisionError: by zero" in wrong[0]
