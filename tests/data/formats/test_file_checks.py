"""Looking at many files at once."""

import threading

import pytest

from lit_thermal.data.formats.file_checks import check_files


def test_an_interrupt_does_not_wait_for_what_has_not_begun() -> None:
    begun: list[str] = []
    gate = threading.Event()

    def check(name: str, number: int) -> None:
        begun.append(name)
        if number == 0:
            raise KeyboardInterrupt
        gate.wait(0.05)

    with pytest.raises(KeyboardInterrupt):
        check_files({str(number): number for number in range(2000)}, check, "numbers")
    assert len(begun) < 1000
