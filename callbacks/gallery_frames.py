"""Picture files of the first images of each test set, for reports that compare several runs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch import Callback
from torch import Tensor

from lit_thermal.batch import Batch, Radiometry
from lit_thermal.data.formats.frames import write_frame
from lit_thermal.errors import InputError
from lit_thermal.evaluation.baselines import reference_baseline
from lit_thermal.files import write_json

from .file_name import file_name
from .run_files import write_picture


class GalleryFrames(Callback):
    """Writes input, baseline, output, target and guide of the first images or clips of each test set as files.

    Images go to `gallery/<data set>/<name>/{lr,bicubic,restored,hr,guide}.png` in the run's folder, the frames of a
    clip's first window to files of the same names with a number (`hr_0003.png`). Thermal files have the counts and bit
    depth of the source, so that a report shows the measured values. `gallery/gallery.json` lists them with their
    radiometry. Missing pictures, such as the input when the thermal camera is missing, and pictures with NaN are left
    out. A method whose `test_step` does not return its restored images has no pictures.

    If several processes run the test, the first process writes the first images that it restores.

    Args:
        images: number of images to write from each set.
        clips: number of clips to write from each set.

    Raises:
        InputError: a number is below 1.
    """

    def __init__(self, images: int = 4, clips: int = 2) -> None:
        if images < 1 or clips < 1:
            raise InputError(
                f"GalleryFrames needs images and clips of at least 1, not {images} and {clips}; leave the callback out "
                "to write nothing"
            )
        self.images = images
        self.clips = clips
        self._written: dict[str, dict[str, dict[str, Any]]] = {}

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the pictures of an earlier test."""
        self._written.clear()

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the restored images that `test_step` returned until there are enough."""
        names = getattr(trainer.datamodule, "test_names", None)  # type: ignore[attr-defined]
        dataset = names[dataloader_idx] if names else "test"
        most = self.clips if batch["hr"].ndim == 5 else self.images
        written = self._written.setdefault(dataset, {})
        if not trainer.is_global_zero or len(written) >= most:
            return
        restored = outputs.get(type(pl_module).__name__) if isinstance(outputs, Mapping) else None
        if restored is None:
            return
        for index, name in enumerate(batch["name"]):
            if name in written or len(written) >= most:
                continue
            folder = Path(trainer.default_root_dir, "gallery", file_name(dataset), file_name(name))
            written[name] = _write(folder, batch, index, restored[index], int(pl_module.scale))  # type: ignore[arg-type]

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write `gallery.json`."""
        if not trainer.is_global_zero:
            return
        record = {
            "method": type(pl_module).__name__,
            "scale": int(pl_module.scale),  # type: ignore[arg-type]
            "datasets": {dataset: list(entries.values()) for dataset, entries in self._written.items()},
        }
        write_json(Path(trainer.default_root_dir, "gallery", "gallery.json"), record)


def _write(folder: Path, batch: Batch, index: int, restored: Tensor, scale: int) -> dict[str, Any]:
    """Write one image or clip; return its entry in `gallery.json`, with file paths relative to the gallery."""
    radiometry = batch["radiometry"][index] if "radiometry" in batch else Radiometry()
    video = batch["hr"].ndim == 5
    entry: dict[str, Any] = {
        "name": batch["name"][index],
        "size": list(batch["hr"].shape[-2:]),
        "radiometry": radiometry._asdict(),
        "files": {},
    }
    if video:
        frames = torch.arange(len(restored)) if "frame" not in batch else batch["frame"][index]
        entry |= {
            "frames": frames.tolist(),
            "time": batch["hr_time"][index].tolist(),
            "lr_time": batch["lr_time"][index].tolist() if "lr_time" in batch else list(range(batch["lr"].shape[1])),
        }
    for kind, values in _pictures(batch, index, restored, scale):
        if not values.isfinite().all():
            continue
        paths = [folder / (f"{kind}_{n:04d}.png" if video else f"{kind}.png") for n in range(len(values))]
        for path, frame in zip(paths, values, strict=True):
            if kind == "guide":
                _write_guide(path, frame)
            else:
                write_frame(path, frame, radiometry)
        entry["files"][kind] = [path.relative_to(folder.parents[1]).as_posix() for path in paths]
    return entry


def _pictures(batch: Batch, index: int, restored: Tensor, scale: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the kind and the values (T, C, H, W) on the CPU of each picture of a sample; T is 1 for an image."""

    def frames(x: Tensor) -> Tensor:
        return x.detach().float().cpu().reshape(-1, *x.shape[-3:])

    if "has_lr" not in batch or batch["has_lr"][index]:
        one: Any = {key: batch[key][index : index + 1] for key in ("lr", "hr_time") if key in batch}  # type: ignore[literal-required]
        yield "lr", frames(batch["lr"][index])
        yield "bicubic", frames(reference_baseline(one, scale))
    yield "restored", frames(restored)
    yield "hr", frames(batch["hr"][index])
    guide = batch.get("guide")
    # With several views, none of them belongs to the target.
    if guide is not None and guide.ndim == 4 and ("has_guide" not in batch or batch["has_guide"][index]):
        yield "guide", frames(guide[index])


def _write_guide(path: Path, values: Tensor) -> None:
    """Write a visible picture (3, H, W) in [0, 1] completely or not at all."""
    pixels = (values.clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()
    write_picture(path, pixels)
