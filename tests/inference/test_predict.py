"""The verb `predict` with the writer gives what `upscale` gives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from standin import Blend
from torch import Tensor

from lit_thermal.batch import Batch
from lit_thermal.callbacks import PredictionWriter
from lit_thermal.data.formats.clips import open_clip
from lit_thermal.data.formats.frames import read_frame
from lit_thermal.data.readers.video_folder import VideoFolder
from lit_thermal.inference.upscale import upscale


class Windowed(Blend):
    """What it restores depends on the place in the window, as for a trained model."""

    def restore(self, batch: Batch) -> Tensor:
        place = torch.linspace(0.5, 1, batch["hr_time"].shape[1])
        return super().restore(batch) * place.view(1, -1, 1, 1, 1)


class Module(LightningModule):
    def predict_step(self, batch: Batch, index: int) -> Tensor:
        return Windowed().restore(batch)


@pytest.mark.parametrize("count", [3, 5, 6, 9])
@pytest.mark.parametrize("temporal_scale", [2, 4])
def test_predict_writes_the_frames_that_upscale_writes(tmp_path: Path, count: int, temporal_scale: int) -> None:
    clip = tmp_path / "root" / "clip"
    clip.mkdir(parents=True)
    for index, frame in enumerate(np.random.default_rng(0).integers(2700, 3100, (count, 8, 10))):
        Image.fromarray(frame.astype(np.uint16)).save(clip / f"{index}.png")
    trainer = Trainer(
        default_root_dir=tmp_path,
        logger=False,
        callbacks=[PredictionWriter()],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = VideoFolder(str(clip.parent), temporal_scale=temporal_scale, frames=3 * temporal_scale + 1, num_workers=0)
    trainer.predict(Module(), datamodule=data, return_predictions=False)
    upscale(open_clip(clip), tmp_path / "out", Windowed(), temporal_scale=temporal_scale)
    ours = {path.name: read_frame(path) for path in (tmp_path / "predictions" / "clip").iterdir()}
    theirs = {path.name: read_frame(path) for path in (tmp_path / "out").glob("*.png")}
    assert len(theirs) == temporal_scale * (count - 1) + 1 and ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
