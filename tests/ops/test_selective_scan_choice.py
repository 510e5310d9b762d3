"""Which back end of the selective scan is taken, what is said about it, and what is refused."""

import logging
import os
import stat
import sys
import types

import pytest
import torch
from torch import Tensor

from lit_thermal.errors import InputError
from lit_thermal.ops.selective_scan import api, build, mamba, selective_scan


@pytest.fixture
def fresh(monkeypatch):
    """Nothing said, nothing compiled and nothing looked for yet."""
    monkeypatch.setattr(api, "_said", set())
    for cached in (build._outcome, mamba.find_mamba):
        cached.cache_clear()
    yield
    for cached in (build._outcome, mamba.find_mamba):
        cached.cache_clear()


def inputs(length: int = 5, channels: int = 6) -> dict:
    """Keyword arguments of the scan: batch 2, 3 states, one group."""
    generator = torch.Generator().manual_seed(0)
    shapes = dict.fromkeys(("u", "delta", "z"), (2, channels, length)) | dict.fromkeys("BC", (2, 1, 3, length))
    shapes |= dict.fromkeys(("D", "delta_bias"), (channels,)) | {"A": (channels, 3)}
    tensors = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    tensors["A"] = -tensors["A"].exp()
    return {**tensors, "delta_softplus": True}


@pytest.mark.skipif(not build.find_compiler(), reason="no C++ compiler for the CPU kernel")
def test_auto_takes_the_kernel_and_says_so_once(fresh, caplog) -> None:
    arguments = inputs()
    with caplog.at_level(logging.INFO, logger="lit_thermal"):
        out = selective_scan(**arguments)
        selective_scan(**arguments)
    assert [record.message for record in caplog.records] == ["selective scan on cpu: back end cpp"]
    assert torch.equal(out, selective_scan(**arguments, backend="cpp"))


@pytest.mark.parametrize(
    ("compiler", "reason"), [(None, "no C\\+\\+ compiler was found"), (["false"], "false fails \\(no message\\)")]
)
def test_auto_without_a_compiler(compiler, reason: str, fresh, monkeypatch, tmp_path, caplog) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setattr(build, "find_compiler", lambda: compiler)
    arguments = inputs()
    with caplog.at_level(logging.WARNING, logger="lit_thermal"):
        out = selective_scan(**arguments)
        selective_scan(**arguments)
    assert len(caplog.records) == 1
    assert caplog.records[0].message.endswith("so the CPU uses the torch back end, which is several times slower")
    assert torch.equal(out, selective_scan(**arguments, backend="torch"))
    with pytest.raises(InputError, match=f"cannot use back end 'cpp': {reason}"):
        selective_scan(**arguments, backend="cpp")
    assert not list(tmp_path.rglob("*.so"))


@pytest.mark.skipif(not build.find_compiler() or os.name != "posix", reason="wraps the compiler in a shell script")
def test_kernel_is_compiled_once_and_needs_no_optional_flag(fresh, monkeypatch, tmp_path, caplog) -> None:
    """A compiler that knows neither OpenMP nor the machine: the kernel compiles without and gives the same."""
    compiler, calls = build.find_compiler(), tmp_path / "calls"
    script = tmp_path / "plain-compiler"
    script.write_text(
        f'#!/bin/sh\necho "$@" >> {calls}\ncase "$*" in *-march*|*-fopenmp*) echo error: no >&2; exit 1;; esac\n'
        f'exec {" ".join(compiler)} "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "BASE_FLAGS", tuple("-O1" if flag == "-O3" else flag for flag in build.BASE_FLAGS))
    arguments = inputs(70, channels=20)
    with caplog.at_level(logging.INFO, logger="lit_thermal"):
        out = selective_scan(**arguments, backend="cpp")
    assert f"into {tmp_path / 'cache' / 'lit_thermal'}" in caplog.text
    torch.testing.assert_close(out, selective_scan(**arguments, backend="reference"), rtol=1e-10, atol=1e-10)
    lines = len(calls.read_text().splitlines())
    build._outcome.cache_clear()
    build.kernel()
    assert len(calls.read_text().splitlines()) == lines + 1  # the version alone
    assert [path.suffix for path in (tmp_path / "cache" / "lit_thermal").iterdir()] == [".so"]


def test_unwritable_cache(fresh, monkeypatch, tmp_path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "file"))
    if not build.find_compiler():
        pytest.skip("no C++ compiler")
    with pytest.raises(InputError, match="the cache folder cannot be written"):
        selective_scan(**inputs(), backend="cpp")


def test_mamba_is_refused_on_the_cpu() -> None:
    with pytest.raises(InputError, match="'mamba_ssm': it needs tensors on CUDA, not on cpu"):
        selective_scan(**inputs(), backend="mamba_ssm")


def on_cuda() -> types.SimpleNamespace:
    return types.SimpleNamespace(device=torch.device("cuda"))


def test_mamba_absent(fresh, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)
    A = torch.zeros(4, 2)
    with pytest.raises(InputError, match=r"mamba_ssm with its selective_scan_cuda does not import"):
        api._choose("mamba_ssm", on_cuda(), A, torch.float32)
    assert api._choose("auto", on_cuda(), A, torch.float32) == "torch"


def test_mamba_is_taken_where_it_can_be(fresh, monkeypatch) -> None:
    """With a stand-in for the package: the choice, its limits, and the order of the arguments."""
    seen = []

    def selective_scan_fn(*arguments, **options):
        seen.append((arguments, options))
        u, _, A = arguments[:3]
        return u, u.new_zeros(*A.shape)

    interface = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = selective_scan_fn
    for name in ("selective_scan_cuda", "mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    A = torch.zeros(4, 2)
    assert api._choose("auto", on_cuda(), A, torch.float32) == "mamba_ssm"
    assert api._choose("mamba_ssm", on_cuda(), A, torch.float32) == "mamba_ssm"
    assert api._choose("auto", on_cuda(), A, torch.float64) == "torch"
    assert api._choose("auto", on_cuda(), torch.zeros(4, 257), torch.float32) == "torch"
    with pytest.raises(InputError, match="at most 256 states, not 257"):
        api._choose("mamba_ssm", on_cuda(), torch.zeros(4, 257), torch.float32)
    monkeypatch.setattr(api, "_choose", lambda *_: "mamba_ssm")
    arguments = inputs()
    selective_scan(**arguments)
    (positional, options), order = seen[0], ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "delta_softplus")
    assert options == {"return_last_state": True}
    for name, value in zip(order, positional, strict=True):
        expected = arguments[name]
        assert torch.equal(value, expected) if isinstance(value, Tensor) else value is expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"u": torch.zeros(2, 6)}, r"u is \(2, 6\); it must be \(batch, D, L\)"),
        ({"u": torch.zeros(2, 6, 0)}, "no empty axis"),
        ({"delta": torch.zeros(2, 6, 4)}, r"delta is \(2, 6, 4\); u asks for \(2, 6, 5\)"),
        ({"z": torch.zeros(1, 6, 5)}, "z is"),
        ({"D": torch.zeros(5)}, r"D is \(5,\); u asks for \(6,\)"),
        ({"A": torch.zeros(5, 3)}, r"A is \(5, 3\); it must be \(D, N\) with D = 6"),
        ({"A": torch.zeros(6, 3, dtype=torch.complex64)}, "A is torch.complex64; it must be a real floating dtype"),
        ({"B": torch.zeros(2, 3, 4)}, r"B is \(2, 3, 4\); it must be \(6, 3\), \(2, 3, 5\) or \(2, G, 3, 5\)"),
        ({"B": torch.zeros(2, 0, 3, 5)}, r"B is \(2, 0, 3, 5\)"),
        ({"C": torch.zeros(3)}, r"C is \(3,\)"),
        ({"B": torch.zeros(2, 4, 3, 5), "C": torch.zeros(6, 3)}, "4 groups; they need one number of groups"),
        ({"B": torch.zeros(2, 2, 3, 5)}, "1 and 2 groups"),
        ({"z": torch.zeros(2, 6, 5, device="meta")}, "z is on meta, u on cpu"),
        ({"backend": "cuda"}, "no back end 'cuda'; it has auto, mamba_ssm, cpp, torch, reference"),
    ],
)
def test_mistakes_are_named(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        selective_scan(**(inputs() | change))
