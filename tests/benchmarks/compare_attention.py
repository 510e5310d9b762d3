"""Ways in which 3M-TI's views exchange, trained alike: `python tests/benchmarks/compare_attention.py --seeds 0 1 2`.

The network of experiments/3m_ti.yaml with each attention of the paper's Table 4, and without a reference, is trained
for equally many steps on the same scenes, simulated pairs with misaligned guides, x8. What is printed is the gain in
PSNR over the same seed's network without a reference, per seed and as a mean with its 95 % interval (Student's t over
the seeds); beside it, what guides of other images give.
"""

import argparse
import json
import logging
import math
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor

import lit_thermal.blocks.cross_modal_attention
import lit_thermal.experiments
from lit_thermal.data.datamodules.simulated_pairs import SimulatedPairs
from lit_thermal.data.degradations.misalignment import Aligned, Combined
from lit_thermal.methods.three_m_ti.module import ThreeMTI
from lit_thermal.weights.checkpoint import build_model

ROWS = ("CrossModalSelfAttention", "SelfAttention", "CrossAttention", "FeatureConcat", "without reference")
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Two-sided 95 % quantiles of Student's t by the number of seeds."""


def experiment() -> dict[str, Any]:
    """The configuration of the small experiment."""
    file = Path(lit_thermal.experiments.__path__[0], "3m_ti.yaml")
    config: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return config


def data(guided: bool, images: int) -> SimulatedPairs:
    """The pairs that all rows are trained on."""
    given = experiment()["data"]["init_args"]
    ranges = given["misalignment"]["init_args"]
    return SimulatedPairs(
        scale=8,
        crop=given["crop"],
        batch_size=given["batch_size"],
        guide_shift=given["guide_shift"],
        train_images=images,
        samples_per_epoch=8 * images,
        test_images=64,
        num_workers=0,
        guided=guided,
        misalignment=(lambda: Combined(**ranges)) if guided else Aligned,
    )


def model(attention: str, steps: int) -> ThreeMTI:
    """The network of the small experiment with another attention."""
    config = experiment()["model"]
    arguments = config["init_args"] | {"scale": 8, "attention": attention}
    arguments["lr_scheduler"]["init_args"]["T_max"] = steps
    made = build_model(
        {"class_path": f"lit_thermal.methods.three_m_ti.module.{config['class_path']}"} | {"init_args": arguments}
    )
    assert isinstance(made, ThreeMTI)
    return made


@torch.no_grad()
def psnr(network: ThreeMTI, pairs: SimulatedPairs, shuffled: bool) -> float:
    """Mean PSNR in dB over the test images; guides may be those of the image before."""
    pairs.setup("test")
    network.eval()
    values: list[Tensor] = []
    loaders = pairs.test_dataloader()
    for batch in loaders[0] if isinstance(loaders, list) else loaders:
        if shuffled:
            batch["guide"] = batch["guide"].roll(1, 0)
        error = (network.restore(batch) - batch["hr"]).square().mean((1, 2, 3))
        values.append(-10 * error.log10())
    return float(torch.cat(values).mean())


def main() -> None:
    """Train all rows and print one table; a line for each training goes before it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--images", type=int, default=256, help="scenes to train on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--out", type=Path, help="results by row and seed, read first: trainings there are not repeated"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    done: dict[str, dict[str, float]] = json.loads(args.out.read_text()) if args.out and args.out.is_file() else {}
    sources = {guided: data(guided, args.images) for guided in (True, False)}
    for seed in args.seeds:
        for row in ROWS:
            if f"{row} {seed}" in done:
                continue
            pairs = sources[row != ROWS[-1]]
            seed_everything(seed, verbose=False)
            network = model(row if row != ROWS[-1] else ROWS[0], args.steps)
            trainer = Trainer(
                accelerator="cpu",
                max_steps=args.steps,
                gradient_clip_val=1.0,
                limit_val_batches=0,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(network, datamodule=pairs)
            result = {"psnr": psnr(network, pairs, shuffled=False)}
            if pairs.guided:
                result["shuffled"] = psnr(network, pairs, shuffled=True)
            done[f"{row} {seed}"] = result
            print(f"seed {seed}, {row}: " + ", ".join(f"{k} {v:.3f} dB" for k, v in result.items()), flush=True)
            if args.out:
                args.out.write_text(json.dumps(done, indent=1))
    table(done, args.seeds)


def table(done: dict[str, dict[str, float]], seeds: list[int]) -> None:
    """Print gains over the network without a reference."""
    print(f"{'gain in dB over no reference':<30}" + "".join(f"{f'seed {s}':>10}" for s in seeds) + f"{'mean':>10}")
    for row in ROWS[:-1]:
        for name in ("psnr", "shuffled"):
            gains = [done[f"{row} {s}"][name] - done[f"{ROWS[-1]} {s}"]["psnr"] for s in seeds]
            mean = sum(gains) / len(gains)
            text = f"{mean:+10.3f}"
            if len(gains) in STUDENT:
                spread = math.sqrt(sum((g - mean) ** 2 for g in gains) / (len(gains) - 1) / len(gains))
                text += f" +- {STUDENT[len(gains)] * spread:.3f}"
            label = row if name == "psnr" else "  shuffled guides"
            print(f"{label:<30}" + "".join(f"{gain:+10.3f}" for gain in gains) + text)


if __name__ == "__main__":
    main()
