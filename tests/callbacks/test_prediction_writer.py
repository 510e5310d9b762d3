"""Predictions on disk: every frame once, at the depth and in the counts of its source."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from lit_thermal.batch import Batch, Radiometry, collate
from lit_thermal.callbacks import PredictionWriter
from lit_thermal.data.formats.frames import read_frame, read_measured


class Stored(LightningModule):
    """Returns what the batch says the result is."""

    def predict_step(self, batch: Batch, index: int, dataloader_idx: int = 0) -> Tensor:
        return batch["hr"]


def predict(folder: Path, samples: list[dict[str, Any]]) -> Path:
    run = Trainer(
        default_root_dir=folder,
        logger=False,
        callbacks=[PredictionWriter()],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    run.predict(Stored(), DataLoader(samples, batch_size=2, collate_fn=collate), return_predictions=False)
    return folder / "predictions"


def test_frames_of_overlapping_windows_are_written_once_from_the_first(tmp_path: Path) -> None:
    sixteen = Radiometry(2000.0, 400.0, 16)
    clip = torch.rand(11, 1, 6, 8)
    other = clip.clone()
    other[4:7] = 0  # what the second window makes of the frames that the first has
    samples = [
        {"name": name, "hr": video[first : first + 7], "frame": torch.arange(first, first + 7), "radiometry": r}
        for name, r in (("eight", Radiometry()), ("six? teen", sixteen))
        for first, video in ((0, clip), (4, other))
    ]
    folder = predict(tmp_path, samples)
    assert sorted(p.name for p in folder.iterdir()) == ["eight", "six? teen"]
    for name, r in (("eight", Radiometry()), ("six? teen", sixteen)):
        files = sorted((folder / name).iterdir())
        assert [f.name for f in files] == [f"{i:06d}.png" for i in range(11)]
        for frame, file in zip(clip, files, strict=True):
            counts = read_frame(file)
            assert counts.dtype == (np.uint16 if r.bits == 16 else np.uint8)
            assert np.array_equal(counts, r.to_counts(frame[0].double()).round().numpy())


def test_without_numbers_a_clip_starts_at_zero_and_images_are_single_files(tmp_path: Path) -> None:
    folder = predict(tmp_path, [{"name": "clip", "hr": torch.rand(3, 1, 6, 8)}])
    assert [f.name for f in sorted((folder / "clip").iterdir())] == ["000000.png", "000001.png", "000002.png"]
    images = [{"name": n, "hr": torch.rand(1, 6, 8), "radiometry": Radiometry()} for n in ("a", "b", "c")]
    folder = predict(tmp_path / "images", images)
    assert sorted(f.name for f in folder.iterdir()) == ["a.png", "b.png", "c.png"]
    assert np.array_equal(read_frame(folder / "c.png"), (images[2]["hr"][0] * 255).round().numpy())


def test_the_scale_of_temperatures_stands_beside_a_restored_image(tmp_path: Path) -> None:
    planck = Radiometry(15000.0, 800.0, 16, "planck", (16000.0, 0.0125, 1430.0, 1.5, -7000.0), "apparent")
    (tmp_path / "a.tif").write_bytes(b"")
    image = torch.rand(1, 6, 8)
    known = {"hr": image, "radiometry": planck, "source": tmp_path / "a.tif", "name": "a"}
    unknown = {"hr": image, "radiometry": Radiometry(0.0, 65535.0, 16), "source": tmp_path / "b.png", "name": "b"}
    folder = predict(tmp_path, [known, unknown])
    assert sorted(p.name for p in folder.iterdir()) == ["a.json", "a.tif", "b.png"]
    counts, scale = read_measured(folder / "a.tif")
    assert np.array_equal(counts, planck.to_counts(image[0].double()).round().numpy())
    assert scale == planck._replace(offset=0.0, gain=1.0)
