"""Time and memory of Real-IISR for one 128 -> 512 image: `python tests/benchmarks/bench_real_iisr.py --size middle`.

Random weights, batch 1, the released structure and codebook; on the CPU and on a GPU where there is one. `small` has a
transformer of depth 6 and width 256 and a tokenizer a fifth as wide, `middle` depth 12 and width 768 and `published`
depth 24 and width 1536, both with the published tokenizer. The rows take turns on the same weights, and each figure is
the best of the repetitions:

- `greedy`: scale by scale with a cache of keys and values;
- `no cache`: each scale by a pass over everything before it;
- `guided`: with a second branch of the negative class, and the cache;
- `refined`: greedy, and VARSR's diffusion refiner of the published size.

`encode` makes the condition tokens of the enlarged image, `draw` takes the tokens, `refine` is the diffusion and
`decode` makes the image. Peak memory, weights included, is that of a process of its own for each row: the greatest
resident memory, or on a GPU what PyTorch allocated.
"""

import argparse
import multiprocessing
import os
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a busy neighbour must not slow the threads

import torch
from clock import Clock, peak_memory
from torch import Tensor

from lit_thermal.blocks.codebook import ConditionAdaptiveCodebook
from lit_thermal.blocks.thermal_structure import ThermalStructuralGuidance
from lit_thermal.generative.noise import SeededNoise
from lit_thermal.generative.token_refiner import DiffusionRefiner, NoRefiner
from lit_thermal.generative.token_sampler import Greedy
from lit_thermal.methods.real_iisr.network import POSITIVE, RealIISRNetwork
from lit_thermal.networks.multi_scale_vqvae import MultiScaleVQVAE

SIZES = {"small": (32, 6, 256, 4), "middle": (160, 12, 768, 12), "published": (160, 24, 1536, 24)}
"""Width of the tokenizer; depth, width and heads of the transformer."""
ROWS = ("greedy", "no cache", "guided", "refined")
PARTS = ("encode", "draw", "refine", "decode", "whole")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
GUIDANCE = 1.0


def network_of(size: str, device: str, refined: bool) -> RealIISRNetwork:
    """A network with random weights, made where it is used: drawing them as for a training would take minutes."""
    channels, depth, width, heads = SIZES[size]
    with torch.device("meta"):
        network = RealIISRNetwork(
            MultiScaleVQVAE(width=channels),
            depth,
            width,
            heads,
            structure=partial(ThermalStructuralGuidance, fusion="released", joins="append", norm="batch"),
            codebook=partial(ConditionAdaptiveCodebook, acts="decode"),
            refiner=DiffusionRefiner if refined else NoRefiner,
        )
    network = network.to_empty(device=device).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.05, 0.05)
        for buffer in network.buffers():
            buffer.fill_(1)
    return network


def draw_without_cache(network: RealIISRNetwork, prefix: Tensor) -> list[Tensor]:
    """The likeliest tokens of each scale, by a pass over the prefix and all scales up to it."""
    transformer: Any = network.transformer
    quantizer = network.tokenizer.quantize
    label = torch.full((len(prefix),), POSITIVE, device=prefix.device)
    conditions = transformer._conditions(label)
    x = transformer._prefix(prefix, label)
    ids: list[Tensor] = []
    total, following = None, None
    for level, side in enumerate(quantizer.scales):
        if following is not None:
            x = torch.cat([x, transformer._tokens(following, range(level, level + 1))], 1)
        rotations, h = transformer._rotations(x)[:, : x.shape[1]], x
        for block, modulation in zip(transformer.blocks, transformer._modulations(conditions), strict=True):
            h = block(h, modulation, transformer.levels[: level + 1], rotations)
        ids.append(transformer.predict(h[:, -(side**2) :], label).argmax(-1))
        total, following = quantizer.accumulate(total, level, ids[-1])
    return ids


def restore(network: RealIISRNetwork, clock: Clock, row: str, image: Tensor) -> Tensor:
    """Restore an enlarged image (1, 3, 512, 512) in [-1, 1]."""
    prefix = network.encode_condition(image)
    if row == "no cache":
        ids = clock.timed("draw", draw_without_cache)(network, prefix)
        label = torch.full((len(prefix),), POSITIVE, device=prefix.device)
        return network.decode(prefix, label, ids)
    return network.restore(prefix, Greedy(), SeededNoise([0]), GUIDANCE if row == "guided" else 0.0)


def runner(size: str, device: str, precision: str, refined: bool) -> tuple[Clock, Callable[[str], Tensor]]:
    """A clock, and what restores an image in the way of a row and is timed by it."""
    network = network_of(size, device, refined)
    clock = Clock(device)
    for part, name in (("encode", "encode_condition"), ("draw", "_draw"), ("decode", "decode")):
        clock.watch(part, network, name)
    refiner = network.refiner
    clock.watch("refine", refiner, "draw")
    image = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1

    def run(row: str) -> Tensor:
        network.refiner = refiner if row == "refined" else NoRefiner(0, 0)
        dtype = PRECISIONS[precision]
        with torch.inference_mode(), torch.autocast(device, dtype, enabled=dtype != torch.float32):
            restored: Tensor = clock.timed("whole", restore)(network, clock, row, image)
        return restored

    return clock, run


def times(size: str, device: str, precision: str, threads: int, repetitions: int, answer: Any) -> None:
    """Answer with the least seconds of each part by row."""
    torch.set_num_threads(threads)
    clock, run = runner(size, device, precision, refined=True)
    best: dict[str, dict[str, float]] = {}
    if device == "cuda":  # chooses its kernels by the size
        for row in ROWS:
            run(row)
    for _ in range(repetitions):
        for row in ROWS:
            clock.seconds.clear()
            run(row)
            spent = {part: sum(clock.seconds[part]) for part in PARTS}
            best[row] = {part: min(best.get(row, spent)[part], spent[part]) for part in PARTS}
    answer.put(best)


def memory(size: str, device: str, precision: str, threads: int, row: str, answer: Any) -> None:
    """Answer with the peak memory of one row."""
    torch.set_num_threads(threads)
    _, run = runner(size, device, precision, refined=row == "refined")
    run(row)
    answer.put(peak_memory(device))


def fresh(function: Callable[..., None], *arguments: Any) -> Any:
    """What a function answers in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()
    process = context.Process(target=function, args=(*arguments, answer))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{function.__name__} of {arguments} failed with exit code {process.exitcode}")
    return answer.get()


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--devices", nargs="+", choices=("cpu", "cuda"), help="all there are, unless given")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="below float32: by autocast")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of the CPU")
    parser.add_argument("--repetitions", type=int, default=2)
    args = parser.parse_args()
    devices = args.devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    weights = network_of(args.size, "meta", refined=True)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in weights.named_children()}
    print(f"Real-IISR, one 512 x 512 image, {args.precision}, seconds and GiB, torch {torch.__version__}")
    print("parameters: " + ", ".join(f"{name} {number:,}" for name, number in count.items()))
    print(f"{'':<10}" + "".join(f"{name:>10}" for name in (*PARTS, "/ greedy", "peak")))
    for device in devices:
        print(f"CPU, {args.threads} threads" if device == "cpu" else torch.cuda.get_device_name())
        shared = (args.size, device, args.precision, args.threads)
        best = fresh(times, *shared, args.repetitions)
        for row in ROWS:
            seconds = "".join(f"{best[row][part]:10.3f}" for part in PARTS)
            ratio = best[row]["whole"] / best["greedy"]["whole"]
            peak = fresh(memory, *shared, row) / 2**30
            print(f"{row:<10}{seconds}{ratio:10.2f}{peak:10.2f}", flush=True)


if __name__ == "__main__":
    main()
