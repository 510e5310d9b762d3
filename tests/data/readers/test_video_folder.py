from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from PIL import Image

from lit_thermal.batch import Radiometry, is_observed
from lit_thermal.data.datamodules.simulated_video import SimulatedVideo
from lit_thermal.data.datamodules.training_sampler import TrainingSampler
from lit_thermal.data.datamodules.windows import Source, TrainingWindows, window_starts
from lit_thermal.data.degradations.conditions import CoarserInput, Complete
from lit_thermal.data.degradations.degradation import Bicubic, BlurNoise
from lit_thermal.data.formats.video_file import VideoWriter
from lit_thermal.data.readers.splits import find_inputs, find_splits
from lit_thermal.data.readers.video_folder import VideoFolder
from lit_thermal.errors import InputError
from lit_thermal.ops.resize import resize

REAL = Path(__file__).parents[3].parent / "shared" / "data" / "video"


def write_clip(folder: Path, count: int, height: int = 40, width: int = 48, bits: int = 8, seed: int = 0) -> np.ndarray:
    """Frames whose counts tell the frame, the row and the column apart."""
    rng = np.random.default_rng(seed)
    kind, low, high = (np.uint16, 2700, 3100) if bits == 16 else (np.uint8, 0, 256)
    frames = rng.integers(low, high, (count, height, width)).astype(kind)
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{index:03d}.png")
    return frames


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in (("train", 2), ("val", 1), ("test", 2)):
        for index in range(count):
            write_clip(tmp_path / split / f"clip{index}", 9 + index, seed=index)
    return tmp_path


def data(root: Path, **changes) -> VideoFolder:
    return VideoFolder(str(root), **{"crop": 8, "batch_size": 2, "num_workers": 0, "samples_per_epoch": 6} | changes)


def test_training_batches(root: Path) -> None:
    folder = data(root)
    folder.setup("fit")
    batches = list(folder.train_dataloader())
    assert len(batches) == 3
    batch = batches[0]
    assert batch["lr"].shape == (2, 4, 1, 8, 8) and batch["hr"].shape == (2, 7, 1, 32, 32)
    assert batch["lr"].dtype == batch["hr"].dtype == torch.float32
    assert batch["lr_time"][0].tolist() == [0, 1, 2, 3] and batch["hr_time"][0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert batch["radiometry"] == [Radiometry()] * 2 and set(batch["name"]) <= {"clip0", "clip1"}
    # The input shows the observed frames at the place of the target: no border of the crop is in it.
    observed = batch["hr"][:, is_observed(batch["hr_time"][0])]
    again = resize(observed, (8, 8)).clamp(0, 1)
    torch.testing.assert_close(batch["lr"][..., 2:-2, 2:-2], again[..., 2:-2, 2:-2])
    assert not torch.allclose(batch["lr"], again)


def windows(sources: list[Source], **changes) -> TrainingWindows:
    arguments = {"frames": 7, "scale": 4, "temporal_scale": 2, "crop": 8, "degradation": Bicubic()}
    return TrainingWindows(sources, **arguments | {"augment": True, "samples": 10, "seed": 0} | changes)


def test_samples_depend_on_their_index_alone_and_epochs_differ(root: Path) -> None:
    folder = data(root)
    folder.setup("fit")
    sources = folder._sources["train"]
    a, b = windows(sources), windows(sources)
    for index in (3, 17):
        assert torch.equal(a[index]["hr"], b[index]["hr"])
    assert not torch.equal(a[3]["hr"], a[13]["hr"])
    assert not torch.equal(a[3]["hr"], windows(sources, seed=1)[3]["hr"])
    assert list(TrainingSampler(a, 2)) == list(range(10))
    # seven batches of two on each of two ranks were trained on
    trainers = [
        SimpleNamespace(world_size=2, global_rank=r, fit_loop=SimpleNamespace(total_batch_idx=6)) for r in (0, 1)
    ]
    ranks = [list(TrainingSampler(a, 2, trainer)) for trainer in trainers]
    assert sorted(ranks[0] + ranks[1]) == list(range(28, 38))


def test_augmentation_is_a_symmetry_of_the_clip_and_every_window_occurs(tmp_path: Path) -> None:
    frames = write_clip(tmp_path / "train" / "a", 9, 16, 16)
    write_clip(tmp_path / "val" / "a", 9, 16, 16)
    folder = data(tmp_path, crop=4)
    folder.setup("fit")
    stack = torch.from_numpy(frames.astype(np.float32) / 255)
    seen = set()
    items = windows(folder._sources["train"], crop=4)
    for index in range(400):
        hr = items[index]["hr"][:, 0]
        for start in range(3):
            clip = stack[start : start + 7]
            for code in range(16):
                view = clip.transpose(1, 2) if code & 8 else clip
                view = view.flip([axis for axis in range(3) if code & 1 << axis])
                if torch.equal(view, hr):
                    seen.add((start, code))
    assert len(seen) == 3 * 16
    plain = windows(folder._sources["train"], crop=4, augment=False)
    assert any(torch.equal(plain[i]["hr"][:, 0], stack[:7]) for i in range(10))


def test_conditions_are_data_sets(tmp_path: Path) -> None:
    write_clip(tmp_path / "test" / "a", 9, 40, 48)
    folder = data(tmp_path, name="mine", test_conditions=[Complete, lambda: CoarserInput(2)])
    folder.setup("test")
    assert folder.test_names == ["mine", "mine_coarser_2"]
    plain, coarse = (list(loader) for loader in folder.test_dataloader())
    for one, other in zip(plain, coarse, strict=True):
        assert torch.equal(one["hr"], other["hr"]) and torch.equal(one["frame"], other["frame"])
        assert other["lr"].std() < one["lr"].std()


@pytest.mark.parametrize(("count", "starts"), [(7, [0]), (8, [0]), (9, [0, 2]), (13, [0, 6]), (18, [0, 6, 10])])
def test_every_frame_of_a_test_clip_is_in_a_window(tmp_path: Path, count: int, starts: list[int]) -> None:
    frames = write_clip(tmp_path / "test" / "a", count, 43, 50)
    folder = data(tmp_path, name="mine")
    folder.setup("test")
    assert folder.test_names == ["mine"]
    batches = list(folder.test_dataloader()[0])
    assert [int(batch["frame"][0, 0]) for batch in batches] == starts
    scored = sorted({frame for batch in batches for frame in batch["frame"][0].tolist()})
    assert scored == list(range(2 * ((count - 1) // 2) + 1))
    for batch in batches:
        assert batch["hr"].shape == (1, 7, 1, 40, 48) and batch["lr"].shape == (1, 4, 1, 10, 12)
        place = batch["frame"][0].numpy()
        assert np.array_equal((batch["hr"][0, :, 0] * 255).round().numpy(), frames[place][:, :40, :48])
        torch.testing.assert_close(batch["lr"], resize(batch["hr"][:, ::2], (10, 12)).clamp(0, 1))
        # Observed are the frames of even index in the clip, whatever the window.
        assert (is_observed(batch["hr_time"]) == (batch["frame"] % 2 == 0)).all()


def test_a_camera_keeps_its_pattern_from_window_to_window(tmp_path: Path) -> None:
    flat = np.full((13, 40, 48), 128, np.uint8)
    for name, count in (("a", 13), ("b", 7)):
        (tmp_path / "test" / name).mkdir(parents=True)
        for index, frame in enumerate(flat[:count]):
            Image.fromarray(frame).save(tmp_path / "test" / name / f"{index}.png")
    folder = data(tmp_path, degradation=lambda: BlurNoise(noise=(0, 0), stripes=(9, 9), bits=16))
    folder.setup("test")
    first, second, other = (batch["lr"][0, 0] for batch in folder.test_dataloader()[0])
    assert first.std() > 0.01 and torch.equal(first, second) and not torch.equal(first, other)


def test_prediction_takes_the_clips_as_they_are(tmp_path: Path, root: Path) -> None:
    frames = write_clip(tmp_path / "flat" / "a", 9, 21, 30, bits=16)
    write_clip(tmp_path / "flat" / "b", 3, 21, 30, bits=16)
    folder = data(tmp_path / "flat")
    folder.setup("predict")
    batches = list(folder.predict_dataloader())
    assert all("hr" not in batch for batch in batches)
    assert [batch["name"][0] for batch in batches] == ["a"] * 4 + ["b"]
    assert [batch["frame"].max().item() for batch in batches] == [5, 9, 12, 16, 4]
    # Each frame is for one window alone: of two that restore it, the one in which it lies farther from the end.
    kept = [[frame for frame in batch["frame"][0].tolist() if frame >= 0] for batch in batches[:4]]
    assert kept == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9], [10, 11, 12], [13, 14, 15, 16]]
    assert batches[4]["lr"].shape == (1, 3, 1, 21, 30) and batches[4]["hr_time"].shape == (1, 5)
    counts = batches[1]["radiometry"][0].to_counts(batches[1]["lr"][0, :, 0]).round().numpy()
    assert np.array_equal(counts, frames[2:6])
    assert [p.name for p in find_inputs(tmp_path / "flat" / "a", None, 0)] == ["a"]
    assert [p.parent.name for p in find_inputs(root, None, 0)] == ["test", "test"]


def test_a_16_bit_clip_is_read_exactly_and_normalised_as_a_whole(tmp_path: Path) -> None:
    frames = write_clip(tmp_path / "test" / "a", 13, bits=16)
    folder = data(tmp_path)
    folder.setup("test")
    batches = list(folder.test_dataloader()[0])
    assert len({batch["radiometry"][0] for batch in batches}) == 1
    for batch in batches:
        assert batch["hr"].min() > 0 and batch["hr"].max() < 1
        counts = batch["radiometry"][0].to_counts(batch["hr"][0, :, 0]).round().numpy()
        assert np.array_equal(counts, frames[batch["frame"][0].numpy()])


def test_videos_are_clips_too(tmp_path: Path) -> None:
    tmp_path.joinpath("all").mkdir()
    t, y, x = np.mgrid[:20, :48, :64]
    for name in ("seq01", "seq02", "seq03"):
        with VideoWriter(tmp_path / "all" / f"{name}.avi", (48, 64), 25) as writer:
            for frame in (128 + 100 * np.sin(0.2 * x + 0.1 * t) * np.cos(0.2 * y)).astype(np.uint8):
                writer.write(frame)
    folder = data(tmp_path / "all", split={"train": ["seq0[12]"], "val": ["seq03"]}, cache_gib=0)
    folder.setup("fit")
    assert all(source.counts is None for source in folder._sources["train"])
    uncached = next(iter(folder.train_dataloader()))
    folder = data(tmp_path / "all", split={"train": ["seq0[12]"], "val": ["seq03"]}, num_workers=2)
    folder.setup("fit")
    assert all(source.counts is not None for source in folder._sources["train"])
    assert torch.equal(next(iter(folder.train_dataloader()))["lr"], uncached["lr"])
    assert [int(batch["frame"][0, 0]) for batch in folder.val_dataloader()] == [0, 6, 12]


def names(splits: dict[str, list[Path]]) -> dict[str, list[str]]:
    return {split: [path.name for path in paths] for split, paths in splits.items()}


def test_a_flat_folder_is_split_by_shares_or_lists(tmp_path: Path) -> None:
    for index in range(10):
        write_clip(tmp_path / f"c{index}", 1)
    shares = names(find_splits(tmp_path, [0.7, 0.1, 0.2], 0))
    assert [len(shares[split]) for split in ("train", "val", "test")] == [7, 1, 2]
    assert sorted(clip for clips in shares.values() for clip in clips) == [f"c{i}" for i in range(10)]
    assert (
        shares == names(find_splits(tmp_path, [0.7, 0.1, 0.2], 0)) != names(find_splits(tmp_path, [0.7, 0.1, 0.2], 1))
    )
    assert names(find_splits(tmp_path, [0.0, 0.0, 1.0], 0))["test"] == [f"c{i}" for i in range(10)]
    lists = {"train": ["c[0-4]", "c6"], "val": ["c5"], "test": ["c7"]}
    assert names(find_splits(tmp_path, lists, 0)) == {
        "train": [*(f"c{i}" for i in range(5)), "c6"],
        "val": ["c5"],
        "test": ["c7"],
    }
    for split, words in [
        ({"train": ["c1"], "test": ["c?"]}, "'c1' into train and into test"),
        ({"train": ["c11"]}, "'c11', which is no clip.*c1"),
        ({"training": ["c1"]}, "'training'"),
        ([0.5, 0.5], "three shares"),
        ([0.5, 0.1, 0.1], "sum to 1"),
    ]:
        with pytest.raises(InputError, match=words):
            find_splits(tmp_path, split, 0)
    for index in range(2, 10):
        for file in (tmp_path / f"c{index}").iterdir():
            file.unlink()
    with pytest.raises(InputError, match=r"has 2 clips, too few for data.split"):
        find_splits(tmp_path, [0.8, 0.1, 0.1], 0)


def fails(folder: VideoFolder, stage: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        folder.setup(stage)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_wrong_root_error_names_what_is_expected_and_found(tmp_path: Path) -> None:
    fails(data(tmp_path / "none"), "fit", r"does not exist; expected .*/\{train,val,test\}/CLIP")
    fails(data(tmp_path), "fit", "no clips found in .*; expected .* is empty")
    (tmp_path / "train").mkdir()
    fails(data(tmp_path), "fit", "train is empty")
    write_clip(tmp_path / "a", 7)
    fails(data(tmp_path / "a"), "fit", "holds 000.png")
    (tmp_path / "train").rmdir()
    fails(data(tmp_path), "fit", "holds a/; .*data.split to shares")
    fails(data(tmp_path / "a", split=[0.8, 0.1, 0.1]), "fit", "no clips found in .*; expected .*/CLIP/.* holds 000.png")
    write_clip(tmp_path / "train" / "b", 7)
    fails(data(tmp_path), "fit", "no clips for val found in .*it has some for train")
    fails(data(tmp_path), "test", "no clips for test")
    fails(data(tmp_path), "predict", "no clips to restore")


def test_wrong_clips_are_named(root: Path) -> None:
    write_clip(root / "train" / "short", 6)
    fails(data(root), "fit", "short has 6 frames, but a window takes 7 .4 inputs at temporal scale 2")
    for file in (root / "train" / "short").iterdir():
        file.unlink()
    (root / "train" / "short").rmdir()
    Image.fromarray(np.zeros((40, 44), np.uint8)).save(root / "train" / "clip0" / "004.png")
    fails(data(root), "fit", r"000\.png is 48x40 with 8 bits and 004\.png is 44x40 with 8 bits")
    whole = root / "train" / "clip0" / "003.png"
    whole.write_bytes(whole.read_bytes()[:200])
    fails(data(root), "fit", r"003\.png cannot be read")


def test_a_crop_that_does_not_fit_is_reported(root: Path) -> None:
    with pytest.raises(InputError, match=r"crop 11 at scale 4 needs frames of at least 44x44.*48x40.*clip0, clip1"):
        data(root, crop=11).setup("fit")


@pytest.mark.parametrize("make", [lambda **numbers: VideoFolder("x", **numbers), SimulatedVideo])
@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"scale": 0}, "data.scale is 0"),
        ({"crop": 0}, "data.crop is 0"),
        ({"crop": -1}, "data.crop is -1"),
        ({"batch_size": 0}, "data.batch_size is 0"),
        ({"num_workers": -1}, "data.num_workers is -1"),
        ({"frames": 8}, r"data.frames 8 must be 2 \* k \+ 1 with k >= 2 .*such as 7"),
        ({"frames": 3}, "data.frames 3 must be"),
        ({"batch_size": 4, "samples_per_epoch": 3}, "data.samples_per_epoch 3 .*data.batch_size 4"),
    ],
)
def test_numbers_out_of_range_are_reported_before_anything_is_read(
    make: Callable[..., LightningDataModule], numbers: dict, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        make(**numbers)


def test_a_clip_smaller_than_the_scale_is_named(tmp_path: Path) -> None:
    write_clip(tmp_path / "test" / "dot", 7, 3, 40)
    fails(data(tmp_path), "test", "dot are 40x3, smaller than data.scale 4")


class Mean(LightningModule):
    """The smallest model that trains, to see the data through a Trainer."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.seen: list[float] = []

    def training_step(self, batch, batch_idx):
        self.seen.append(float(batch["hr"].sum()))
        return (batch["lr"].mean() * self.gain - batch["hr"].mean()) ** 2

    def validation_step(self, batch, batch_idx):
        assert batch["frame"].shape == batch["hr_time"].shape

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        assert batch["frame"].shape == batch["hr_time"].shape

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return batch["frame"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_the_trainer_takes_it_and_epochs_are_new(root: Path, tmp_path: Path) -> None:
    seen = []
    for workers in (0, 2):
        trainer = Trainer(
            max_epochs=3,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        model = Mean()
        trainer.fit(model, datamodule=data(root, num_workers=workers))
        seen.append(model.seen)
        assert len(set(model.seen)) == 9
    assert seen[0] == seen[1]
    trainer.test(model, datamodule=data(root), verbose=False)
    assert len(trainer.predict(model, datamodule=data(root))) == 4 + 4


def test_windows_of_any_stride() -> None:
    assert window_starts(10, 4, 3) == [0, 3, 6]
    assert window_starts(11, 4, 3) == [0, 3, 6, 7]
    assert window_starts(3, 4, 2) == [0]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real sequences lie beside the repository of the project only")
def test_real_sequences_of_8_and_16_bit() -> None:
    folder = data(
        REAL,
        split={"train": ["drone_*", "cptv16_*"], "val": ["flirivsr_0640_lr_x4"], "test": ["cptv16_*"]}
        | {"test": ["lynred_drive1"]},
        crop=16,
    )
    folder.setup("fit")
    bits = {source.clip.name[:4]: source.radiometry.bits for source in folder._sources["train"]}
    assert bits == {"dron": 8, "cptv": 16}
    for batch in folder.train_dataloader():
        assert batch["hr"].shape == (2, 7, 1, 64, 64) and batch["hr"].std() > 0.001
        assert batch["hr"].min() >= 0 and batch["hr"].max() <= 1
    assert len(list(folder.val_dataloader())) == 5
