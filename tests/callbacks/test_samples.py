"""Sample pictures: which clips, from which weights, into which files and loggers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lit_thermal.batch import Batch, Radiometry, collate, output_times
from lit_thermal.callbacks import EMA, SamplePictures
from lit_thermal.callbacks.contact_sheet import Sample, draw
from lit_thermal.callbacks.file_name import file_name
from lit_thermal.errors import InputError
from lit_thermal.evaluation.baselines import reference_baseline


class Method(LightningModule):
    """The reference baseline plus a learned level; notes the level with which it restored."""

    scale = 4

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))
        self.levels: list[float] = []
        self.batches: list[list[str]] = []

    def restore(self, batch: Batch) -> Tensor:
        self.levels.append(float(self.level))
        self.batches.append(batch["name"])
        return reference_baseline(batch, 4) + self.level

    def training_step(self, batch: Batch, index: int) -> Tensor:
        return (reference_baseline(batch, 4) + self.level - 0.9).abs().mean()

    def validation_step(self, batch: Batch, index: int) -> None: ...

    def test_step(self, batch: Batch, index: int, dataloader_idx: int = 0) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Data(LightningDataModule):
    test_names = ("clean", "fast")

    def __init__(self, names: tuple[str, ...], video: bool = True) -> None:
        super().__init__()
        self.samples = [clip(name, video) for name in names]

    def loader(self) -> DataLoader:
        return DataLoader(self.samples, batch_size=2, collate_fn=collate)

    train_dataloader = val_dataloader = loader

    def test_dataloader(self) -> list[DataLoader]:
        return [self.loader(), self.loader()]


def clip(name: str, video: bool) -> dict[str, Any]:
    hr = torch.rand(7, 1, 16, 24) if video else torch.rand(1, 16, 24)
    sample: dict[str, Any] = {"name": name, "hr": hr, "radiometry": Radiometry()}
    if video:
        sample |= {"lr": hr[::2, :, ::4, ::4], "lr_time": torch.arange(4.0), "hr_time": output_times(4, 2)}
    else:
        sample |= {"lr": hr[:, ::4, ::4]}
    return sample


def trainer(folder: Path, *callbacks: Any, epochs: int = 1, loggers: Any = False) -> Trainer:
    return Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        logger=loggers,
        callbacks=list(callbacks),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
    )


def pictures(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder / "samples").as_posix() for p in (folder / "samples").rglob("*"))


def test_first_clips_are_drawn_each_epoch_and_after_a_test(tmp_path: Path) -> None:
    data = Data(("a", "a", "b/c: d", "b/c: d", "e", "f"))  # windows of one clip have one name
    run = trainer(tmp_path, SamplePictures(clips=2), epochs=2)
    run.fit(Method(), data)
    steps = ("000003", "000006")
    expected = [f"val/{name}_step{step}.png" for name in ("a", file_name("b/c: d")) for step in steps]
    assert pictures(tmp_path) == ["val", *sorted(expected)]  # none of the sanity check, no temporary file
    run.test(Method(), data, verbose=False)
    tests = {f"{d}/{n}.png" for d in ("clean", "fast") for n in ("a", file_name("b/c: d"))}
    assert tests <= set(pictures(tmp_path))
    image = np.asarray(Image.open(tmp_path / "samples" / "clean" / "a.png"))
    assert image.ndim == 3 and image.shape[1] > 1000 and image.std() > 20


def test_every_n_epochs(tmp_path: Path) -> None:
    run = trainer(tmp_path, SamplePictures(clips=1, every_n_epochs=2), epochs=3)
    run.fit(Method(), Data(("a", "b")))
    assert pictures(tmp_path) == ["val", "val/a_step000002.png"]
    run.validate(Method(), Data(("b",)), verbose=False)  # outside training there are no epochs to wait for
    assert any(name.startswith("val/b_step") for name in pictures(tmp_path))


@pytest.mark.parametrize("samples_first", [True, False])
def test_pictures_show_the_averaged_weights(tmp_path: Path, samples_first: bool) -> None:
    pair = [SamplePictures(clips=1), EMA(0.99)]
    method = Method()
    trainer(tmp_path, *(pair if samples_first else pair[::-1]), epochs=2).fit(method, Data(("a",) * 12))
    # After n steps of 0.01 the weight is 0.01 n, and its average lags behind.
    assert len(method.levels) == 2
    assert 0 < method.levels[0] < 0.06 - 1e-4
    assert method.levels[0] < method.levels[1] < 0.12 - 1e-4


def test_only_the_clips_that_are_drawn_are_restored_again(tmp_path: Path) -> None:
    method = Method()
    trainer(tmp_path, SamplePictures(clips=2)).fit(method, Data(("a", "a", "a", "b", "c", "c")))
    assert method.batches == [["a"], ["b"]]


def test_images_and_16_bit(tmp_path: Path) -> None:
    data = Data(("x", "y"), video=False)
    data.samples[1]["radiometry"] = Radiometry(1000.0, 400.0, 16)
    trainer(tmp_path, SamplePictures()).test(Method(), data, verbose=False)
    assert {"clean/x.png", "clean/y.png"} <= set(pictures(tmp_path))


class ImageLogger(CSVLogger):
    """A logger with `log_image`, as that of W&B has it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.images: list[tuple[str, int, tuple[int, ...]]] = []

    def log_image(self, key: str, images: list[np.ndarray], step: int) -> None:
        self.images.append((key, step, images[0].shape))


def test_pictures_reach_the_loggers_that_take_them(tmp_path: Path) -> None:
    board, other = TensorBoardLogger(tmp_path, name="tb"), ImageLogger(tmp_path)
    loggers: list[Logger] = [board, other, CSVLogger(tmp_path, name="csv")]
    trainer(tmp_path, SamplePictures(clips=1), loggers=loggers).fit(Method(), Data(("a", "b")))
    (key, step, shape) = other.images[0]
    assert (key, step, shape[-1]) == ("samples/val/a", 1, 3)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(board.log_dir).Reload()
    assert events.Tags()["images"] == ["samples/val/a"]


@pytest.mark.parametrize("size", [(16, 24), (12, 300), (320, 260)])
@pytest.mark.parametrize(
    "frames", [1, 3, pytest.param(7, marks=pytest.mark.slow), pytest.param(13, marks=pytest.mark.slow)]
)
def test_any_size_and_length_can_be_drawn(size: tuple[int, int], frames: int) -> None:
    target = torch.rand(frames, *size)
    scale = 1 if frames == 1 else 2
    time = torch.arange(frames) / scale
    lr = target[::scale, ::4, ::4]
    sample = Sample("a", lr, torch.arange(len(lr)).float(), target, target * 0.9, target, time, 255.0)
    picture = draw(sample, "title", "baseline", "method")
    assert picture.dtype == np.uint8 and picture.shape[2] == 3


def test_a_flat_or_broken_clip_does_not_stop_a_run() -> None:
    flat = torch.full((7, 16, 16), 0.5)
    broken = torch.full_like(flat, float("nan"))
    for restored in (flat, broken):
        sample = Sample("a", flat[::2, ::4, ::4], torch.arange(4.0), flat, restored, flat, output_times(4, 2), 255.0)
        assert draw(sample, "title", "baseline", "method").size


def test_numbers_below_one_are_refused() -> None:
    with pytest.raises(InputError, match="not 0 and 1"):
        SamplePictures(clips=0)
