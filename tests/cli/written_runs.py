"""What tests read in the folders of runs."""

from pathlib import Path

import torch


def runs(folder: Path, experiment: str = "toy", verb: str = "fit") -> list[Path]:
    return sorted((folder / "runs" / experiment).glob(f"*-{verb}*"))


def weights(run: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / f"{which}.ckpt", weights_only=True)["state_dict"]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
