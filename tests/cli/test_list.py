"""What `list` shows is what can be named in a config."""

import inspect
import sys
from pathlib import Path

from lightning.pytorch import Callback

import lit_thermal
from lit_thermal.cli import app  # noqa: F401 - imports every module whose classes have short names
from lit_thermal.cli.dispatch import main
from lit_thermal.cli.list import callbacks, families, files, members, metrics, read
from lit_thermal.metrics.catalogue import on_request, standard

PACKAGE = Path(lit_thermal.__file__).parent


def test_blocks_are_listed_as_python_knows_them():
    listed = {name for indent, name, _ in families(read(PACKAGE / "blocks")) if indent}
    modules = [module for name, module in sys.modules.items() if name.startswith("lit_thermal.blocks.")]
    kinds = {kind for module in modules for kind in vars(module).values() if inspect.isclass(kind)}
    ours = {kind for kind in kinds if kind.__module__.startswith("lit_thermal.blocks.") and kind.__name__[0] != "_"}
    members_ = {kind for kind in ours if ours.intersection(kind.__mro__[1:]) and not inspect.isabstract(kind)}
    assert listed == {kind.__name__ for kind in members_}
    assert len(listed) > 8


def test_sections(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for title in ("methods", "blocks", "losses", "data", "callbacks", "experiments"):
        assert f"\n{title}   (" in f"\n{out}" or f"\n{title}\n" in f"\n{out}"
    for name in ("THERIS", "NoSpectralMask", "HeatEquationLoss", "SimulatedVideo", "VideoFolder", "EMA", "theris"):
        assert f" {name} " in out, name
    assert "SuperResolver" not in out
    assert "metrics   (evaluate --metrics NAME)\n  psnr " in out and "MUSIQ, on request\n" in out
    assert "parts of methods   (--model.SLOT=NAME)" in out and " Distillation " in out
    assert "learning rates   (--model.lr_scheduler=NAME)\n  WarmUpHoldDecay " in out
    assert "protocols   (--model.protocols=[NAME, ...])" in out and " CoReFusionNotebook " in out


def test_metrics_are_listed_as_the_catalogue_has_them():
    requested = [(0, metric.name, f"{metric.heading}, on request") for metric in on_request()]
    assert metrics(PACKAGE / "metrics") == [(0, metric.name, metric.heading) for metric in standard()] + requested


def test_a_metric_in_a_file_of_its_own_is_listed(tmp_path):
    (tmp_path / "mine.py").write_text(
        "MINE = Metric('mine', label='My error', measure=f, on_request=True)\nPAPER = Metric('fps', 'Frames')\n"
    )
    assert metrics(tmp_path) == [(0, "mine", "My error, on request")]


def test_exported_callbacks_are_listed():
    listed = {name for _, name, _ in callbacks(Path(lit_thermal.callbacks.__path__[0]))}
    assert listed == set(lit_thermal.callbacks.__all__)
    assert all(issubclass(getattr(lit_thermal.callbacks, name), Callback) for name in listed)


def test_members_through_intermediate_and_abstract_classes(tmp_path):
    (tmp_path / "a.py").write_text(
        "class Base(nn.Module, ABC):\n    '''Contract.'''\n    @abstractmethod\n    def f(self): ...\n"
        "class Middle(Base):\n    '''Half.'''\n    @abstractmethod\n    def g(self): ...\n"
        "class Leaf(Middle):\n    '''Whole.\n\n    More.'''\nclass _Hidden(Base): ...\nclass Alone(nn.Module): ...\n"
    )
    classes = read(tmp_path)
    assert members(classes, "Base") == [(0, "Leaf", "Whole.")]
    assert families(classes)[0] == (0, "Base", "Contract.")
    assert "Alone" not in [name for _, name, _ in families(classes)]


def test_files_by_name_with_their_first_comment(tmp_path):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "b.yaml").write_text("x: 1\n")
    (tmp_path / "a.yaml").write_text("# What it is.\nx: 1\n")
    assert files(tmp_path) == [(0, "a", "What it is."), (0, "rows/b", "")]
