"""Compiles kernel.cpp once and keeps the shared library in a cache folder.

A plain C interface with ctypes is used instead of a PyTorch extension: without torch headers the compilation takes
seconds instead of most of a minute, and neither ninja nor a Python header is needed.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

_log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("kernel.cpp")
BASE_FLAGS = (
    "-std=c++17",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
    "-fvisibility=hidden",
    "-fPIC",
    "-shared",
)
"""Flags that do not change results, unlike -ffast-math."""
OPTIONAL_FLAGS = (("-march=native", "-fopenmp"), ("-march=native",), ("-fopenmp",), ())
"""Flags that are tried in turn: clang on macOS ships without OpenMP, and some compilers lack -march=native."""


class KernelUnavailable(RuntimeError):
    """Raised if the CPU kernel is not available on this machine; the message is the reason, as a clause."""


def find_compiler() -> list[str] | None:
    """Return the C++ compiler's command: `$CXX` (which may have arguments), c++, g++ or clang++; None if not found."""
    for command in (shlex.split(os.environ.get("CXX", "")), ["c++"], ["g++"], ["clang++"]):
        if command and shutil.which(command[0]):
            return command
    return None


def cache_folder() -> Path:
    """Return the folder `lit_thermal` in `$TORCH_EXTENSIONS_DIR`, as used by PyTorch, or in the user's cache folder."""
    root = os.environ.get("TORCH_EXTENSIONS_DIR")
    if root is None:
        root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(root) / "lit_thermal"


def _machine() -> str:
    """Describe the machine, because a library built with -march=native may not run on others that share the folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    except OSError:
        cpu = platform.processor()
    return f"{platform.system()} {platform.machine()} {platform.libc_ver()} {cpu}"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelUnavailable(f"{command[0]} does not run: {error}") from error


def build() -> Path:
    """Return the path of the shared library for this source, compiler and machine, after compiling it if missing.

    Raises:
        KernelUnavailable: there is no compiler, it fails, or the cache folder cannot be written.
    """
    compiler = find_compiler()
    if compiler is None:
        raise KernelUnavailable("no C++ compiler was found ($CXX, c++, g++, clang++)")
    version = _run([*compiler, "--version"]).stdout
    parts = [SOURCE.read_text(encoding="utf-8"), version, repr((compiler, BASE_FLAGS, OPTIONAL_FLAGS)), _machine()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    library = cache_folder() / f"selective_scan_{key}.so"
    if library.exists():
        return library
    _log.info("compiling the CPU kernel of the selective scan once (about 5 s) into %s", library.parent)
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent, prefix=".build-") as folder:
            _compile(compiler, Path(folder) / library.name)
            # Processes that compile at the same time each replace the file atomically by an equal one.
            os.replace(Path(folder) / library.name, library)
    except OSError as error:
        raise KernelUnavailable(f"the cache folder cannot be written: {error}") from error
    return library


def _compile(compiler: list[str], target: Path) -> None:
    for flags in OPTIONAL_FLAGS:
        result = _run([*compiler, *BASE_FLAGS, *flags, str(SOURCE), "-o", str(target)])
        if result.returncode == 0:
            if "-fopenmp" not in flags:
                _log.info("%s has no OpenMP: the CPU kernel of the selective scan runs on one thread", compiler[0])
            return
    messages = result.stderr.strip().splitlines() or ["no message"]
    first = next((line for line in messages if "error" in line), messages[0])
    raise KernelUnavailable(f"{compiler[0]} fails ({first.strip()})")


@functools.cache
def _outcome() -> ctypes.CDLL | str:
    """Return the loaded library, or the reason why there is none; this is decided once per process."""
    try:
        return ctypes.CDLL(str(build()))
    except KernelUnavailable as error:
        return str(error)
    except OSError as error:
        return f"the compiled kernel does not load: {error}"


def kernel() -> ctypes.CDLL:
    """Return the compiled kernel.

    Raises:
        KernelUnavailable: the kernel is not available here; further calls raise the same error at no cost.
    """
    outcome = _outcome()
    if isinstance(outcome, str):
        raise KernelUnavailable(outcome)
    return outcome
