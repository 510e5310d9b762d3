"""A folder to run in, with the config of the stand-in method, and the command line as a function."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import stand_in  # noqa: F401 - makes the short names known
from toy import CONFIG

from lit_thermal.cli.dispatch import main


class Outcome(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with `toy.yaml`, whose classes the user allowed."""
    monkeypatch.setenv("LIT_THERMAL_ALLOW", "stand_in")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def run(folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs one command in `folder`."""

    def command(*words: str) -> Outcome:
        capfd.readouterr()
        code = main(words)
        return Outcome(code, *capfd.readouterr())

    return command
