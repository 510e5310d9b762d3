"""The selective scan: every back end against the loop, the loop against scalar arithmetic, and its memory."""

import functools
import importlib.util
import itertools
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lit_thermal.ops.selective_scan import blocked, build, selective_scan

BLOCK = 64
"""Steps in a block: those of kernel.cpp, and those given to the torch back end here."""


def has_kernel() -> bool:
    try:
        build.kernel()
    except build.KernelUnavailable:
        return False
    return True


CPP = pytest.param("cpp", marks=pytest.mark.skipif(not has_kernel(), reason="no C++ compiler for the CPU kernel"))
EVERY = ["reference", "torch", CPP]


@pytest.fixture(params=["torch in sequence", "torch in chunks", CPP])
def fast(request, monkeypatch) -> str:
    """A back end to compare with the loop; the torch one in both forms, in blocks that the lengths here cross."""
    if not request.param.startswith("torch"):
        return request.param
    chunks = 8 if request.param == "torch in chunks" else 1
    monkeypatch.setattr(blocked, "block_rule", lambda *_: (BLOCK, chunks))
    return "torch"


def inputs(
    length: int,
    *,
    batch: int = 2,
    channels: int = 6,
    states: int = 3,
    groups: int = 1,
    constant: str = "",
    without: tuple[str, ...] = (),
    delta_softplus: bool = True,
    dtype: torch.dtype = torch.float64,
) -> dict:
    """Keyword arguments of the scan; `constant` names the weights among B and C that do not follow time."""
    generator = torch.Generator().manual_seed(length + 7 * groups)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tensors = {name: normal(batch, channels, length) for name in ("u", "delta", "z")}
    tensors |= {name: normal(channels) for name in ("D", "delta_bias")}
    tensors["A"] = -normal(channels, states).exp()
    for name in "BC":
        tensors[name] = normal(channels, states) if name in constant else normal(batch, groups, states, length)
    if not delta_softplus:
        tensors["delta"], tensors["delta_bias"] = tensors["delta"].abs(), tensors["delta_bias"].abs()
    leaves = {n: t.to(dtype).requires_grad_() for n, t in tensors.items() if n not in without}
    return {**leaves, "delta_softplus": delta_softplus}


def run(backend: str, arguments: dict, weight: Tensor | None = None) -> dict[str, Tensor]:
    """Output, last state and all gradients of a weighted sum of the output."""
    out, last = selective_scan(**arguments, return_last_state=True, backend=backend)
    if weight is None:
        weight = torch.arange(out.numel(), dtype=out.dtype).reshape(out.shape).cos()
    leaves = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
    gradients = torch.autograd.grad(out, list(leaves.values()), weight)
    return {"out": out.detach(), "last": last.detach(), **dict(zip(leaves, gradients, strict=True))}


def assert_near(got: dict[str, Tensor], expected: dict[str, Tensor], gradient: float, value: float) -> None:
    """Compare against the largest magnitude of each tensor."""
    for name, tensor in expected.items():
        tolerance = (value if name in ("out", "last") else gradient) * tensor.abs().max().item()
        error = (got[name].to(tensor.dtype) - tensor).abs().max().item()
        assert error <= tolerance, f"{name}: {error} > {tolerance}"  # also fails on NaN


def by_scalars(arguments: dict) -> Tensor:
    """The definition in Python floats."""
    u, delta, A, B, C, D, z, bias = (
        arguments[n].tolist() for n in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
    )
    out = torch.empty(arguments["u"].shape, dtype=torch.float64)
    per_group = len(A) // len(B[0])
    for b, d in itertools.product(range(len(u)), range(len(A))):
        h = [0.0] * len(A[0])
        for t in range(len(u[0][0])):
            step = math.log1p(math.exp(delta[b][d][t] + bias[d]))
            y = D[d] * u[b][d][t]
            for n in range(len(h)):
                h[n] = math.exp(step * A[d][n]) * h[n] + step * B[b][d // per_group][n][t] * u[b][d][t]
                y += C[b][d // per_group][n][t] * h[n]
            out[b, d, t] = y * z[b][d][t] / (1 + math.exp(-z[b][d][t]))
    return out


@pytest.mark.parametrize("backend", EVERY)
def test_definition(backend: str) -> None:
    arguments = inputs(9, groups=2)
    torch.testing.assert_close(
        selective_scan(**arguments, backend=backend), by_scalars(arguments), rtol=1e-12, atol=1e-12
    )


OPTIONS = [
    {"groups": groups, "constant": constant, "without": without, "delta_softplus": softplus}
    for (groups, constant), (without, softplus) in itertools.product(
        [(1, ""), (2, ""), (3, "B"), (2, "C"), (1, "BC")],
        [((), True), (("z", "delta_bias"), True), (("D",), False), (("D", "z", "delta_bias"), False)],
    )
]


@functools.cache
def truth(length: int, index: int) -> dict[str, Tensor]:
    return run("reference", inputs(length, **OPTIONS[index]))


@pytest.mark.parametrize("length", [1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 1, 300])
def test_float64_agrees_with_the_loop(fast: str, length: int) -> None:
    for index, option in enumerate(OPTIONS):
        assert_near(run(fast, inputs(length, **option)), truth(length, index), gradient=1e-9, value=1e-10)


@pytest.mark.parametrize("backend", ["torch", CPP])
@pytest.mark.parametrize(("batch", "channels", "states"), [(1, 128, 16), (3, 34, 1), (1, 1, 40), (1, 300, 2)])
def test_many_and_few_lanes(backend: str, batch: int, channels: int, states: int) -> None:
    """Full and broken tiles of channels, more tiles than slots, and the block rule as it is."""
    arguments = inputs(150, batch=batch, channels=channels, states=states)
    assert_near(run(backend, arguments), run("reference", arguments), gradient=1e-9, value=1e-10)


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("option", [{"groups": 2}, {"constant": "BC", "without": ("z",)}, {"delta_softplus": False}])
def test_gradcheck(backend: str, option: dict) -> None:
    arguments = inputs(5, channels=4, states=2, batch=1, **option)
    names = [name for name, value in arguments.items() if isinstance(value, Tensor)]

    def scan(*tensors: Tensor) -> Tensor:
        return selective_scan(**(arguments | dict(zip(names, tensors, strict=True))), backend=backend)

    assert torch.autograd.gradcheck(scan, [arguments[name] for name in names])


@pytest.mark.parametrize("backend", EVERY)
def test_float32_is_near_float64(backend: str) -> None:
    size = {"channels": 32, "states": 16, "groups": 2}
    single, double = inputs(1000, **size, dtype=torch.float32), inputs(1000, **size)
    assert_near(run(backend, single), run("reference", double), gradient=1e-5, value=1e-5)


def test_padding_with_zero_steps_is_exact(fast: str) -> None:
    """Behind the end nothing changes: last state, output and gradients are those of the sequence that ends."""
    short = inputs(BLOCK + 36, delta_softplus=False, without=("delta_bias",))
    pad = {"u": 3.0, "delta": 0.0, "B": 2.0, "C": -1.0, "z": 1.0}
    padded = dict(short)
    for name, value in pad.items():
        longer = torch.nn.functional.pad(short[name].detach(), (0, 60), value=value)
        padded[name] = longer.requires_grad_()
    weight = torch.ones(2, 6, BLOCK + 36, dtype=torch.float64)
    got, expected = run(fast, padded, torch.nn.functional.pad(weight, (0, 60))), run(fast, short, weight)
    torch.testing.assert_close(got["last"], expected["last"], rtol=1e-14, atol=0)
    for name, tensor in expected.items():
        cut = got[name][..., : tensor.shape[-1]]
        torch.testing.assert_close(cut, tensor, rtol=1e-12, atol=1e-12 * tensor.abs().max().item())
    for name in ("u", "B", "C", "z"):
        assert not got[name][..., BLOCK + 36 :].any()
    exact = selective_scan(**padded, return_last_state=True, backend=fast)[1]
    padded["u"] = padded["u"].detach().clone()
    padded["u"][..., BLOCK + 36 :] = -5.0
    assert torch.equal(exact, selective_scan(**padded, return_last_state=True, backend=fast)[1])


@pytest.mark.parametrize("exponent", [-100.0, -1e4])
def test_large_decays_stay_finite(fast: str, exponent: float) -> None:
    """Per step exp(-100), then 0 in float32; a form that divides by decays gives NaN here."""
    size = {"channels": 32, "states": 16, "delta_softplus": False, "without": ("delta_bias",)}
    single, double = inputs(200, **size, dtype=torch.float32), inputs(200, **size)
    for arguments in (single, double):
        with torch.no_grad():
            arguments["A"].copy_(torch.linspace(exponent, -1, 16))
            arguments["delta"].clamp_(0.5, 1)
    got = run(fast, single)
    assert all(tensor.isfinite().all() for tensor in got.values())
    assert_near(got, run("reference", double), gradient=1e-5, value=1e-5)


@pytest.mark.parametrize("backend", EVERY)
def test_extreme_steps_and_gates(backend: str) -> None:
    """Softplus and SiLU far out on both sides: no overflow inside, and torch's own values."""
    arguments = inputs(40, channels=20, states=2, dtype=torch.float32)
    with torch.no_grad():
        for name in ("delta", "z"):
            arguments[name].copy_(torch.linspace(-200, 200, 40))
        arguments["delta_bias"].zero_()
    got = run(backend, arguments)
    assert all(tensor.isfinite().all() for tensor in got.values())
    double = {n: v.detach().double().requires_grad_() if isinstance(v, Tensor) else v for n, v in arguments.items()}
    assert_near(got, run("reference", double), gradient=1e-5, value=1e-5)


@pytest.mark.parametrize("backend", EVERY)
def test_strides_do_not_matter(backend: str) -> None:
    dense = inputs(70, groups=2)
    odd = {
        name: value.detach().transpose(0, -1).contiguous().transpose(0, -1).requires_grad_()
        if isinstance(value, Tensor)
        else value
        for name, value in dense.items()
    }
    assert not odd["u"].is_contiguous()
    weight = torch.ones((), dtype=torch.float64).expand(2, 6, 70)  # as the gradient of a sum
    assert_near(run(backend, odd, weight), run("reference", dense, weight), gradient=1e-12, value=1e-12)


@pytest.mark.parametrize("backend", EVERY)
def test_three_dimensional_weights(backend: str) -> None:
    """(batch, N, L) is one group."""
    arguments = inputs(20)
    squeezed = arguments | {name: arguments[name].squeeze(1) for name in "BC"}
    assert torch.equal(selective_scan(**squeezed, backend=backend), selective_scan(**arguments, backend=backend))


def test_runs_are_bitwise_equal(fast: str) -> None:
    """On any number of threads, as sums have a fixed order (the kernel's claim; torch sums may split by threads)."""
    arguments = inputs(200, channels=48, states=8, dtype=torch.float32)
    threads = torch.get_num_threads()
    try:
        first = run(fast, arguments)
        torch.set_num_threads(2 if fast == "cpp" else threads)
        second = run(fast, arguments)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_last_state_carries_no_gradient(fast: str) -> None:
    assert not selective_scan(**inputs(5), return_last_state=True, backend=fast)[1].requires_grad


@pytest.mark.parametrize("backend", EVERY)
def test_half_precision_and_autocast(backend: str) -> None:
    """The output has the dtype of u; inside it is float32, whatever autocast says."""
    arguments = inputs(50, dtype=torch.float32)
    expected = run(backend, arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = run(backend, arguments)
    assert all(torch.equal(inside[name], expected[name]) for name in expected)
    half = arguments | {name: arguments[name].detach().bfloat16().requires_grad_() for name in ("u", "delta", "z")}
    rounded = arguments | {name: half[name].detach().float() for name in ("u", "delta", "z")}
    out = selective_scan(**half, backend=backend)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, selective_scan(**rounded, backend=backend).bfloat16())
    assert torch.autograd.grad(out.sum(), half["u"])[0].dtype == torch.bfloat16


def test_block_rule() -> None:
    """A block fills the cache on the CPU and much more elsewhere; chunks only where lanes are few."""
    assert blocked.block_rule(1024, 16384, "cpu") == (128, 4)
    assert blocked.block_rule(4096, 16384, "cpu") == (32, 1)
    assert blocked.block_rule(10**9, 7, "cpu") == (1, 1)
    assert blocked.block_rule(4096, 114_688, "cuda") == (16_384, 128)
    lengths = (1, 2, 3, 5, 7, 113, 1792, 7168, 9999, 28_672, 114_688)
    lanes = [1, 300, 10**8, *(batch * per for batch in range(1, 33) for per in (128, 256, 1024, 4096, 6144))]
    for many, length, device in itertools.product(lanes, lengths, ("cpu", "cuda")):
        block, chunks = blocked.block_rule(many, length, device)
        assert 1 <= chunks <= block <= length
        assert block % chunks == 0  # else a block reaches into the next one, which repeats those steps


CHANNELS, STATES = 16, 8


def edges(batch: int, longest: int) -> list[int]:
    """Lengths around the ends of blocks and chunks as the rule for the CPU lays them."""
    block, chunks = blocked.block_rule(batch * CHANNELS * STATES, longest, "cpu")
    near = {k * block + step for k in (1, 2, 3) for step in (-chunks, -1, 0, 1, chunks - 1, chunks, chunks + 1)}
    return sorted(length for length in {1, 2, chunks, *near} if 0 < length <= longest)


@pytest.mark.parametrize("batch", range(1, 33))
def test_real_rule_on_the_cpu(batch: int) -> None:
    """Values at every edge and gradients behind one, by the rule as it is, against the loop in float64."""
    longest = 3 * (2**17 // (batch * CHANNELS * STATES)) + 9
    arguments = inputs(longest, batch=batch, channels=CHANNELS, states=STATES, dtype=torch.float64)
    plain = {name: value.detach() if isinstance(value, Tensor) else value for name, value in arguments.items()}
    expected = selective_scan(**plain, backend="reference")
    for length in edges(batch, longest):
        cut = {
            name: value[..., :length] if name in ("u", "delta", "z", "B", "C") else value
            for name, value in plain.items()
        }
        out = selective_scan(**cut, backend="torch")
        assert (out - expected[..., :length]).abs().max() <= 1e-10 * expected.abs().max(), length
    block, chunks = blocked.block_rule(batch * CHANNELS * STATES, 10**6, "cpu")
    for length in {block + 1, block + chunks}:
        arguments = inputs(length, batch=batch, channels=CHANNELS, states=STATES)
        assert_near(run("torch", arguments), run("reference", arguments), gradient=1e-9, value=1e-10)


@pytest.mark.parametrize(
    "batch", [pytest.param(b, marks=() if b in (3, 7) else pytest.mark.slow) for b in range(1, 33)]
)
def test_real_rule_of_accelerators(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule for CUDA where its blocks end, on the CPU: lanes are as many as the base preset of THERIS has."""
    rule = blocked.block_rule
    monkeypatch.setattr(blocked, "block_rule", lambda lanes, length, _: rule(64 * lanes, length, "cuda"))
    block, chunks = blocked.block_rule(batch * 64, 10**6, "")
    assert block == rule(batch * 256 * 16, 10**6, "cuda")[0]
    for length in {block + 1, block + chunks - 1}:
        arguments = inputs(length, batch=batch, channels=16, states=4)
        assert_near(run("torch", arguments), run("cpp" if has_kernel() else "reference", arguments), 1e-9, 1e-10)


class Scan(torch.nn.Module):
    def __init__(self, backend: str) -> None:
        super().__init__()
        self.backend = backend

    def forward(self, arguments: dict[str, Tensor]) -> Tensor:
        return selective_scan(**arguments, delta_softplus=True, backend=self.backend)


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_export(backend: str) -> None:
    """`auto` is the loop while exporting, as the others are no graphs of torch operations."""
    arguments = {n: v.detach() for n, v in inputs(6, groups=2).items() if isinstance(v, Tensor)}
    program = torch.export.export(Scan(backend), (arguments,))
    expected = selective_scan(**arguments, delta_softplus=True, backend="reference")
    torch.testing.assert_close(program.module()(arguments), expected)


def test_reference_differentiates_twice() -> None:
    arguments = inputs(3, channels=2, states=1, batch=1)
    out = selective_scan(**arguments, backend="reference").sum()
    first = torch.autograd.grad(out, arguments["u"], create_graph=True)[0]
    assert torch.autograd.grad(first.sum(), arguments["A"])[0].abs().sum() > 0


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is read from /proc")
@pytest.mark.parametrize("backend", ["torch", CPP])
def test_memory_of_a_long_sequence(backend: str) -> None:
    """Forward and backward at L = 16384 (D 64, N 16) stay under 100 MiB above the inputs."""
    path = Path(__file__).parents[1] / "benchmarks" / "bench_selective_scan.py"
    spec = importlib.util.spec_from_file_location("bench_selective_scan", path)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    assert bench.measure_apart(backend, 16384, "both", threads=1)["mebibytes"] < 100
