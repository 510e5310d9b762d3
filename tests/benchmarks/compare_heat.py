"""Share of the change in time that heat conduction explains: `python tests/benchmarks/compare_heat.py [FOLDER ...]`.

The change over two frame steps is compared with ``D lap(u)`` of the frame in the middle. D is fitted by least squares
for each clip, not below zero, and the share is the part of the summed squared change that the fit removes. A loss that
asks for the heat equation can only help where this share is large. Without arguments, eight test clips of every
scenario of the simulator are measured; arguments are folders of frames.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from lit_thermal.data.datamodules.simulated_video import SimulatedVideo
from lit_thermal.data.formats.clips import open_clip
from lit_thermal.data.simulator import ScenarioName
from lit_thermal.ops.heat_equation import heat_residual, laplacian

CLIPS = 8


def explained(video: Tensor) -> tuple[float, float]:
    """Return the fitted diffusivity in pixels squared per frame and the share, given frames (T, 1, H, W)."""
    video = video.double()[None]
    change, source = heat_residual(video, 0.0, 1.0), laplacian(video[:, 1:-1])
    diffusivity = float(((change * source).sum() / source.square().sum().clamp(min=1e-30)).clamp(min=0))
    left = heat_residual(video, diffusivity, 1.0).square().sum() / change.square().sum().clamp(min=1e-30)
    return diffusivity, 1 - float(left)


def simulated(scenario: str) -> Iterator[Tensor]:
    """Yield the target frames of the test clips of a scenario."""
    data = SimulatedVideo(
        scale=4, temporal_scale=2, test_clips=CLIPS, test_scenarios=[scenario], num_workers=0, eval_batch_size=1
    )
    data.setup("test")
    (loader,) = data.test_dataloader()
    for batch in loader:
        yield batch["hr"][0]


def frames_of(folder: Path) -> Iterator[Tensor]:
    """Yield the frames of a folder as one clip."""
    clip = open_clip(folder)
    frames = [torch.from_numpy(frame.astype("float64")) for frame, _ in zip(clip, range(32), strict=False)]
    yield torch.stack(frames)[:, None] / (2**clip.bits - 1)


def main() -> None:
    """Print one line for each scenario or folder."""
    if len(sys.argv) > 1:
        named = {folder: frames_of(Path(folder)) for folder in sys.argv[1:]}
    else:
        named = {scenario: simulated(scenario) for scenario in get_args(ScenarioName)}
    for name, videos in named.items():
        found = [explained(video) for video in videos]
        fitted, share = (sum(values) / len(values) for values in zip(*found, strict=True))
        print(f"{Path(name).name:20} D {fitted:6.3f} pixel^2/frame   share {100 * share:7.3f} %", flush=True)


if __name__ == "__main__":
    main()
