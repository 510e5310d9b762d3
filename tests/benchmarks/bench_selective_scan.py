"""Time and memory of the selective scan's back ends: `python tests/benchmarks/bench_selective_scan.py`.

Batch 1, D 64, N 16, one group, float32, softplus, skip and gate, at three lengths. Every figure comes from a process of
its own, so that no allocator hands one case the memory of another. After a run on a short sequence, which loads
libraries and compiles the kernel, the resident high-water mark is reset, one run is made, and what it rose above the
resident memory before (inputs and the output's gradient included) is the memory; time is the best of the runs that
follow. On CUDA it is the allocator's peak instead.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a busy neighbour must not slow the threads

import torch
from torch import Tensor

from lit_thermal.ops.selective_scan import selective_scan

LENGTHS = (1024, 4096, 16384)
MODES = ("forward", "both")


def inputs(length: int, device: str) -> list[Tensor]:
    """Arguments of `selective_scan` in its order, with Mamba's initialisation: steps in [1e-3, 0.1], A = -1..-N."""
    generator = torch.Generator().manual_seed(0)
    sequence = [torch.randn(1, 64, length, generator=generator) for _ in range(3)]
    weight = [torch.randn(1, 16, length, generator=generator) for _ in range(2)]
    step = torch.empty(64).uniform_(-6.9, -2.3, generator=generator).exp()
    A = -torch.arange(1.0, 17.0).repeat(64, 1)
    tensors = [sequence[0], 0.1 * sequence[1], A, *weight, torch.ones(64), sequence[2], step.expm1().log()]
    return [tensor.to(device).requires_grad_() for tensor in tensors]


def resident(field: str) -> float:
    """MiB of this process: `VmRSS` now, `VmHWM` at most since the mark was reset (Linux only)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def peak_above(run: Callable[[], None], device: str) -> float | None:
    """MiB that `run` needs above what is held before it; None where it cannot be measured."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if not sys.platform.startswith("linux"):
        run()
        return None
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def measure(backend: str, length: int, mode: str, device: str, threads: int) -> dict[str, float | None]:
    """Best seconds and peak MiB of one case, in this process."""
    torch.set_num_threads(threads)

    def runner(length: int) -> Callable[[], None]:
        arguments = inputs(length, device)
        gradient = torch.randn(1, 64, length, device=device)

        def run() -> None:
            with torch.set_grad_enabled(mode == "both"):
                out = selective_scan(*arguments, delta_softplus=True, backend=backend)
            if mode == "both":
                torch.autograd.grad(out, arguments, gradient)
            if device == "cuda":
                torch.cuda.synchronize()

        return run

    runner(128)()
    run = runner(length)
    memory = peak_above(run, device)
    seconds, started = [], time.perf_counter()
    while len(seconds) < 3 or (time.perf_counter() - started < 1 and len(seconds) < 20):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return {"seconds": min(seconds), "mebibytes": memory}


def measure_apart(backend: str, length: int, mode: str, device: str = "cpu", threads: int = 2) -> dict[str, float]:
    """`measure` in a process of its own."""
    case = [backend, str(length), mode]
    command = [sys.executable, __file__, "--device", device, "--threads", str(threads), "--case", *case]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(case)} failed:\n{result.stderr}")
    return json.loads(result.stdout)


def main() -> None:
    """Print one table, or the figures of one case (``--case``)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--case", nargs=3, metavar=("BACKEND", "LENGTH", "MODE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        backend, length, mode = args.case
        print(json.dumps(measure(backend, int(length), mode, args.device, args.threads)))
        return
    backends = ("reference", "torch", "cpp") if args.device == "cpu" else ("reference", "torch", "mamba_ssm")
    print(f"selective scan, B 1, D 64, N 16, float32, {args.device}, {args.threads} threads, torch {torch.__version__}")
    print("f: forward, fb: forward and backward; memory above the inputs; times faster than the reference, fb")
    print(f"{'back end':<10} {'L':>6} {'f ms':>9} {'fb ms':>9} {'f MiB':>7} {'fb MiB':>7} {'faster':>7}")
    for length in LENGTHS:
        reference = None
        for backend in backends:
            f, fb = (measure_apart(backend, length, mode, args.device, args.threads) for mode in MODES)
            reference = reference or fb["seconds"]
            memory = " ".join("    n/a" if c["mebibytes"] is None else f"{c['mebibytes']:7.1f}" for c in (f, fb))
            times = f"{1e3 * f['seconds']:9.1f} {1e3 * fb['seconds']:9.1f}"
            print(f"{backend:<10} {length:6d} {times} {memory} {reference / fb['seconds']:6.1f}x", flush=True)


if __name__ == "__main__":
    main()
