"""Benefit of super-resolution for a detector: `python tests/benchmarks/compare_detection.py RUN.ckpt --out FOLDER`.

Simulated scenes are written to files. A small detector is trained on targets (HR) alone, by the recipe of
`evaluate detection`. A checkpoint of a method restores the inputs (LR) of other scenes, and the detector is run on
the inputs enlarged by bicubic interpolation, on the restored images, on the visible images, and on the targets. The
output is mean average precision over IoU 0.5 to 0.95 with 95 % intervals of a bootstrap over the scenes, and the
differences between the rows over the same resamples. Files that FOLDER already has are kept.
"""

import argparse
import logging
import time
from pathlib import Path

import torch

from lit_thermal.cli.dispatch import main as command
from lit_thermal.data.datamodules.scene_files import write_scenes
from lit_thermal.data.datamodules.simulated_pairs import SimulatedPairs
from lit_thermal.data.formats.frames import write_frame
from lit_thermal.weights.checkpoint import load_model


def scenes(folder: Path, train: int, test: int, size: int, scale: int) -> SimulatedPairs:
    """Write the scenes to train on and to test on."""
    data = SimulatedPairs(scale=scale, size=size, crop=0, train_images=train, test_images=test, num_workers=0)
    for split in ("train", "test"):
        for _ in write_scenes(data, split, folder / split):
            pass
    return data


@torch.no_grad()
def restore(checkpoint: Path, data: SimulatedPairs, folder: Path) -> None:
    """Restore the inputs of the test scenes."""
    folder.mkdir(parents=True, exist_ok=True)
    data.setup("test")
    if all((folder / f"{source.name}.png").is_file() for source in data.sources("test")):
        return
    model = load_model(checkpoint)
    for batch in data.test_dataloader()[0]:
        files = [folder / f"{name}.png" for name in batch["name"]]
        for file, values, radiometry in zip(files, model.restore(batch), batch["radiometry"], strict=True):
            write_frame(file, values, radiometry)


def main() -> None:
    """Make missing files, then evaluate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("checkpoint", type=Path, help="checkpoint of a method that was trained on simulated pairs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=600, help="number of scenes to train the detector on")
    parser.add_argument("--test", type=int, default=600, help="number of scenes to evaluate on")
    parser.add_argument("--size", type=int, default=192, help="height and width of a scene in HR pixels")
    parser.add_argument("--steps", type=int, default=1200, help="training steps of the detector")
    parser.add_argument("--detector", default="fcos_small")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.getLogger("lit_thermal").setLevel(logging.WARNING)
    began = time.perf_counter()
    model = load_model(args.checkpoint)
    data = scenes(args.out, args.train, args.test, args.size, model.scale)
    print(f"scenes written after {time.perf_counter() - began:.0f} s", flush=True)
    name = type(model).__name__
    restore(args.checkpoint, data, args.out / name)
    print(f"inputs restored after {time.perf_counter() - began:.0f} s", flush=True)
    test = args.out / "test"
    words = ["evaluate", "detection", "--pred", f"{name}={args.out / name}", "--hr", test / "hr", "--lr", test / "lr"]
    words += ["--guide", test / "guide", "--boxes", test / "boxes", "--detector", args.detector]
    words += ["--weights", args.out / "detector.pt", "--steps", args.steps]
    words += ["--train", args.out / "train" / "hr", "--train_boxes", args.out / "train" / "boxes"]
    words += ["--classes", "person", "car", "truck", "animal", "--normalize", "full", "--out", args.out / "result"]
    code = command([str(word) for word in words])
    print(f"all done after {time.perf_counter() - began:.0f} s, exit code {code}")


if __name__ == "__main__":
    main()
