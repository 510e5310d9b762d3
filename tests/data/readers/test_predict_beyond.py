"""Dead pixels on their way from the files to what a writer gets."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lit_thermal.data.readers.image_folder import ImageFolder
from lit_thermal.data.readers.video_folder import VideoFolder


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def scene(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(3000, 3100, (16, 24)).astype(np.uint16)


def test_images_with_and_without_dead_pixels_share_a_batch(tmp_path: Path) -> None:
    dead = scene(0)
    dead[5, 7] = 65535
    for name, image in {"a": dead, "b": scene(1), "c": scene(2).astype(np.uint8)}.items():
        save(tmp_path / "lr" / f"{name}.png", image)
    data = ImageFolder(str(tmp_path), num_workers=0, eval_batch_size=3)
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    assert batch["beyond"].shape == batch["lr"].shape
    assert torch.nonzero(batch["beyond"]).tolist() == [[0, 0, 5, 7]]
    assert batch["radiometry"][0].gain < 120 and batch["lr"].max() <= 1


def test_windows_of_a_clip_with_a_dead_pixel_tell_it(tmp_path: Path) -> None:
    for index in range(5):
        frame = scene(index)
        frame[0, 0] = 0
        save(tmp_path / "predict" / "clip" / f"{index}.png", frame)
    data = VideoFolder(str(tmp_path), num_workers=0)
    data.setup("predict")
    for batch in data.predict_dataloader():
        assert batch["beyond"].shape == batch["lr"].shape and (batch["beyond"][..., 0, 0] < 0).all()
        assert (batch["beyond"] != 0).sum() == batch["lr"].shape[1]
