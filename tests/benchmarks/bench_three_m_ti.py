"""Time and memory of 3M-TI's restoration of one 512 x 512 image: `python tests/benchmarks/bench_three_m_ti.py`.

The published size with random weights and LoRA folded in, one thermal image of 64 x 64 with one guide, batch 1, in
float32 and bfloat16, on the CPU and on a GPU where there is one. Cross-modal self-attention (CSM) and plain
self-attention take turns on the same weights, and each figure is the best of the repetitions. `encode` and `decode` are
the autoencoder's (both views in, the thermal one out), `unet` its one pass; `whole` is the method's `restore`. Each
precision has a process of its own, whose greatest resident memory is its peak; on a GPU it is what PyTorch allocated.
"""

import argparse
import multiprocessing
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a busy neighbour must not slow the threads

import torch
from clock import Clock, peak_memory

from lit_thermal.batch import Batch
from lit_thermal.blocks.cross_modal_attention import CrossModalAttention, CrossModalSelfAttention, SelfAttention
from lit_thermal.blocks.pretrained import without_pretrained
from lit_thermal.blocks.prompt import LearnedPrompt
from lit_thermal.methods.three_m_ti.module import ThreeMTI

SCALE = 8
PARTS = ("encode", "unet", "decode", "whole")
ATTENTIONS: dict[str, type[CrossModalAttention]] = {"CSM": CrossModalSelfAttention, "self": SelfAttention}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def scene(side: int, device: str, dtype: torch.dtype) -> Batch:
    """One thermal image and its guide of `side` pixels, at random."""
    random = torch.Generator().manual_seed(0)
    lr = torch.rand(1, 1, side // SCALE, side // SCALE, generator=random)
    guide = torch.rand(1, 3, side, side, generator=random)
    return {"lr": lr.to(device, dtype), "guide": guide.to(device, dtype), "name": ["image"]}


def measure(device: str, precision: str, side: int, threads: int, repetitions: int) -> None:
    """Print the rows of one device and precision."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    dtype = PRECISIONS[precision]
    with without_pretrained():
        model = ThreeMTI(SCALE, prompt=LearnedPrompt, train="all", perceptual_weight=0.0)
    model = model.eval().to(device, dtype)
    clock = Clock(device)
    network = model.network
    for part, owner, name in (
        ("encode", network.autoencoder, "encode"),
        ("unet", network.unet, "forward"),
        ("decode", network.autoencoder, "decode"),
        ("whole", model, "restore"),
    ):
        clock.watch(part, owner, name)
    best: dict[str, dict[str, float]] = {}
    with torch.inference_mode():
        model.restore(scene(64, device, dtype))  # loads libraries
        for _ in range(repetitions):
            for name, attention in ATTENTIONS.items():
                attention().install(network.unet, network.views)
                clock.seconds.clear()
                model.restore(scene(side, device, dtype))
                spent = {part: sum(clock.seconds[part]) for part in PARTS}
                best[name] = {part: min(best.get(name, spent)[part], spent[part]) for part in PARTS}
    peak = peak_memory(device)
    for name, seconds in best.items():
        row = "".join(f"{seconds[part]:10.2f}" for part in PARTS)
        print(f"{device:<6}{precision:<10}{name:<6}{row}{peak / 2**30:10.2f}", flush=True)
    print(f"{'':<16}CSM takes {best['CSM']['whole'] / best['self']['whole']:.2f} of the time of self-attention")


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--side", type=int, default=512, help="of the restored image, a multiple of 64")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of the CPU")
    parser.add_argument("--repetitions", type=int, default=2)
    args = parser.parse_args()
    if args.side < 64 or args.side % 64:
        parser.error(f"--side {args.side} is no multiple of 64")
    print(
        f"3M-TI of the published size, one {args.side} x {args.side} image, seconds and GiB, torch {torch.__version__}"
    )
    print(f"CPU, {args.threads} threads" + (f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""))
    print(" " * 22 + "".join(f"{part:>10}" for part in (*PARTS, "peak")))
    context = multiprocessing.get_context("spawn")
    for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        for precision in PRECISIONS:
            process = context.Process(
                target=measure, args=(device, precision, args.side, args.threads, args.repetitions)
            )
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{precision} on {device} failed with exit code {process.exitcode}")


if __name__ == "__main__":
    main()
