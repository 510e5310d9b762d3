"""A checkpoint records the mapping of 16-bit counts that its model was trained with."""

from pathlib import Path

import numpy as np
import tifffile
from lightning.pytorch import Trainer

from lit_thermal.data.readers.image_folder import ImageFolder
from lit_thermal.weights import load_model, save_model
from lit_thermal.weights.checkpoint import build_model


def test_the_range_of_the_training_data_is_recorded(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "hr").mkdir(parents=True)
        tifffile.imwrite(
            tmp_path / split / "hr" / "a.tif", np.linspace(280, 320, 32 * 32, dtype=np.float32).reshape(32, 32)
        )
    data = ImageFolder(str(tmp_path), scale=4, crop=4, batch_size=1, num_workers=0, normalize="kelvin 270..330")
    model = build_model({"class_path": "lit_thermal.PlainCNN", "init_args": {"scale": 4, "width": 4, "blocks": 1}})
    assert model.normalize is None
    trainer = Trainer(
        default_root_dir=tmp_path,
        max_steps=1,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = load_model(tmp_path / "a.ckpt")
    assert loaded.normalize == "kelvin 270..330"
    # a model that is written again keeps it
    save_model(loaded, tmp_path / "b.ckpt")
    assert load_model(tmp_path / "b.ckpt").normalize == "kelvin 270..330"
