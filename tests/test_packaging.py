"""What is installed is what lies in the folders, and works from anywhere."""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEW = ("lit_thermal/made_by_the_test/__init__.py",)
"""A sub-package that a user adds to the checkout."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without the network."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed in this environment, and without the network it cannot be fetched")
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("the files of the checkout are known to git alone, and this is no git checkout")
    for name in listed.stdout.split("\0"):
        # built from a copy: a build leaves folders behind
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    for new in NEW:
        # a package that nobody lists anywhere
        (source / new).parent.mkdir()
        (source / new).touch()
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", folder, source]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_folders_and_nothing_else(wheel):
    names = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}
    kinds = {".py", ".yaml", ".cpp", ".typed", ".j2", ".safetensors", ".json", ".md"}
    folders = {"lit_thermal": "lit_thermal"} | {f: f"lit_thermal/{f}" for f in ("callbacks", "experiments", "sweeps")}
    expected = {
        f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, inside in folders.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and (path.suffix in kinds or path.name == "py.typed")
    }
    assert names == expected | set(NEW)


def test_the_wheel_works_where_nothing_else_is(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    script = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); "
        "from lit_thermal.cli.dispatch import main; sys.exit(main(sys.argv[1:]))"
    )
    # -S: without site-packages, and so without the editable installation
    done = subprocess.run(
        [sys.executable, "-S", "-c", script, str(tmp_path / "site"), "list"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "THERIS" in done.stdout and "\n  theris " in done.stdout and "\n  EMA" in done.stdout


def test_installed_from_anywhere(tmp_path):
    script = (
        "import lit_thermal.callbacks, lit_thermal.experiments, lit_thermal.sweeps, sys; "
        "assert 'callbacks' not in sys.modules; print(lit_thermal.callbacks.__name__)"
    )
    # a user's own folder of that name must not be taken for ours
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "__init__.py").write_text("raise RuntimeError('not ours')")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "lit_thermal.callbacks"
