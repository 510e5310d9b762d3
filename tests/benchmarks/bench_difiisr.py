"""Time of DifIISR's restoration of one 128 x 128 image to 512 x 512: `python tests/benchmarks/bench_difiisr.py`.

The published size with random weights, float32, batch 1, in one step and in all 15 of the schedule, on the CPU and on
a GPU where there is one; ``--small`` takes the network of experiments/difiisr.yaml instead. After a run that loads
libraries, each figure is the best of the repetitions. `encode` is the enlargement and the first stage's encoder, `step`
one pass of the U-Net (the mean over the chain), `decode` the first stage's decoder; `whole` is the method's `restore`,
noise and schedule included.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a busy neighbour must not slow the threads

import torch
import yaml
from clock import Clock

import lit_thermal.experiments
from lit_thermal.generative.drawing import Drawing
from lit_thermal.generative.sampler import Ancestral, OneStep
from lit_thermal.methods.difiisr.module import DifIISR
from lit_thermal.weights.checkpoint import build_model
from lit_thermal.weights.convert.difiisr import published

SIDE = 128
PARTS = ("encode", "step", "decode", "whole")
SAMPLERS = {"1 step": OneStep, "15 steps": Ancestral}
SHAPING = ("scale", "unet", "first_stage", "condition", "schedule")


def model_of(small: bool) -> DifIISR:
    """The published network, or that of the small experiment, with random weights."""
    config = published()
    if small:
        file = Path(lit_thermal.experiments.__path__[0], "difiisr.yaml")
        given = yaml.safe_load(file.read_text(encoding="utf-8"))["model"]["init_args"]
        shaping = {name: given[name] for name in SHAPING}
        config = {"class_path": config["class_path"], "init_args": shaping | {"guidance": "Unguided"}}
    torch.manual_seed(0)
    model = build_model(config)
    assert isinstance(model, DifIISR)
    return model.eval()


def measure(model: DifIISR, device: str, repetitions: int) -> dict[str, dict[str, float]]:
    """Name of the sampler to the best seconds of each part."""
    model.to(device)
    clock = Clock(device)
    for part, name in (("encode", "encode_condition"), ("step", "forward"), ("decode", "image")):
        clock.watch(part, model.network, name)
    image = torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)
    # A small image loads the libraries; a GPU chooses its kernels by the size, and is warm after a whole one.
    warm = image if device == "cuda" else image[..., :16, :16]
    restore = clock.timed("whole", model.restore)
    restore({"lr": warm, "name": ["warm"]})
    best: dict[str, dict[str, float]] = {}
    for name, sampler in SAMPLERS.items():
        model.drawing = Drawing(sampler)
        runs = []
        for _ in range(repetitions):
            clock.seconds.clear()
            restore({"lr": image, "name": ["image"]})
            runs.append({part: sum(times) / len(times) for part, times in clock.seconds.items()})
        best[name] = {part: min(run[part] for run in runs) for part in PARTS}
    return best


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--small", action="store_true", help="the network of experiments/difiisr.yaml")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of the CPU")
    parser.add_argument("--repetitions", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = model_of(args.small)
    network = model.network
    unet, stage = (sum(p.numel() for p in part.parameters()) for part in (network.unet, network.first_stage))
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    print(f"DifIISR, {SIDE} x {SIDE} to {4 * SIDE} x {4 * SIDE}, batch 1, float32, torch {torch.__version__}")
    print(f"U-Net of {unet:,} parameters, first stage of {stage:,}")
    names = {"cpu": f"CPU, {args.threads} threads", "cuda": torch.cuda.get_device_name() if len(devices) > 1 else ""}
    print(f"{'ms':<10}" + "".join(f"{part:>10}" for part in PARTS))
    for device in devices:
        print(names[device])
        for sampler, seconds in measure(model, device, args.repetitions).items():
            print(f"{sampler:<10}" + "".join(f"{1e3 * seconds[part]:10.1f}" for part in PARTS), flush=True)


if __name__ == "__main__":
    main()
