"""Every reader says in one sentence what is wrong with its root, and which files it expects there."""

import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch import LightningDataModule
from PIL import Image

import lit_thermal.data
from lit_thermal.errors import InputError


def readers() -> list[type[LightningDataModule]]:
    """Return all concrete DataModules of the package that take a `root`."""
    kinds = [getattr(lit_thermal.data, name) for name in dir(lit_thermal.data)]
    kinds = [kind for kind in kinds if issubclass(kind, LightningDataModule) and not inspect.isabstract(kind)]
    return [kind for kind in kinds if "root" in inspect.signature(kind).parameters]


def empty(path: Path) -> None:
    path.mkdir()


def missing(path: Path) -> None:
    pass


def file(path: Path) -> None:
    path.write_text("no data")


def wrong_layout(path: Path) -> None:
    path.mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path / "loose.png")


def test_readers_are_found() -> None:
    assert {"GuidedFolder", "VideoFolder", "LLVIP"} <= {kind.__name__ for kind in readers()}


@pytest.mark.parametrize("stage", ["fit", "test"])
@pytest.mark.parametrize(
    ("make", "found"),
    [
        (empty, "is empty"),
        (missing, "does not exist"),
        (file, "is a file, not a folder"),
        (wrong_layout, "loose.png"),
    ],
)
@pytest.mark.parametrize("kind", readers(), ids=lambda kind: kind.__name__)
def test_a_wrong_root_gets_one_sentence(
    kind: type[LightningDataModule], make: Callable[[Path], None], found: str, stage: str, tmp_path: Path
) -> None:
    root = tmp_path / "data root"
    make(root)
    with pytest.raises(InputError) as caught:
        kind(root=str(root)).setup(stage)
    said = str(caught.value)
    assert f"expected {root}/" in said, said
    assert "*." in said.split("expected", 1)[1], "no file of the expected tree"
    assert found in said and said.count(str(root)) >= 2, said
    assert "\n" not in said and len(said.replace(str(tmp_path), "")) < 500, said


@pytest.mark.parametrize("make", [empty, missing])
@pytest.mark.parametrize("kind", readers(), ids=lambda kind: kind.__name__)
def test_prediction_names_the_root_and_the_tree(
    kind: type[LightningDataModule], make: Callable[[Path], None], tmp_path: Path
) -> None:
    root = tmp_path / "data root"
    make(root)
    with pytest.raises(InputError, match=r"expected .*\*\."):
        kind(root=str(root)).setup("predict")
