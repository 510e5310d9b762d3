"""Names of pictures: one for every text."""

import pytest

from lit_thermal.callbacks.file_name import file_name

TEXTS = ("a b", "a_b", "a?b", "a/b", "a:b", "", ".", "..", "_", "é", "e\u0301", "😀", "new\nline", "x" * 251, "x" * 250)


def test_no_two_texts_have_one_name() -> None:
    # a text that looks like the name of another is renamed too
    texts = [*TEXTS, *(file_name(text) for text in TEXTS if file_name(text) != text)]
    names = [file_name(text) for text in dict.fromkeys(texts)]
    assert len(set(names)) == len(names)
    assert all(name and not name.startswith(".") and len(name.encode()) < 200 for name in names)


@pytest.mark.parametrize("text", ["scene_01", "LLVIP-2", "v1.0", "日本語"])
def test_plain_names_stay(text: str) -> None:
    assert file_name(text) == text
