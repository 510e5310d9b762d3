"""`import lit_thermal as lt` is cheap and has what a notebook wants."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import lit_thermal as lt
from lit_thermal.methods.base import SuperResolver

ROOMS = ("blocks", "data", "losses", "methods", "generative", "networks")


def test_methods_and_rooms_are_there():
    assert lt.THERIS is importlib.import_module("lit_thermal.methods.theris.module").THERIS
    assert lt.load is importlib.import_module("lit_thermal.weights").load_model
    assert lt.blocks.MaxFusion is importlib.import_module("lit_thermal.blocks.fusion").MaxFusion
    assert {"load", "blocks", "data", "THERIS", "CoReFusion", "DifIISR", "ThreeMTI", "RealIISR"} <= set(dir(lt))


@pytest.mark.parametrize("room", ROOMS)
def test_every_listed_name_is_what_its_module_defines(room):
    package = getattr(lt, room)
    names = dir(package)
    assert names
    modules = {m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")}
    for name in names:
        assert getattr(package, name).__module__ in modules


def test_every_method_is_an_attribute():
    for module in pkgutil.walk_packages(lt.methods.__path__, "lit_thermal.methods."):
        importlib.import_module(module.name)
    ours = [c for c in SuperResolver.__subclasses__() if c.__module__.startswith("lit_thermal.")]
    assert len(ours) >= 5 and all(getattr(lt, c.__name__) is c for c in ours)


@pytest.mark.parametrize("owner", ["lt", "lt.blocks"])
@pytest.mark.parametrize("name", ["Nothing", "_hidden", "__wrapped__"])
def test_what_is_not_there(owner, name):
    with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
        getattr(lt if owner == "lt" else lt.blocks, name)


def test_importing_is_cheap():
    script = (
        "import sys, lit_thermal as lt; dir(lt); lt.blocks; assert 'torch' not in sys.modules; print(lt.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, lt.__version__), done.stderr
