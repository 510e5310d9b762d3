"""A fixed range of temperatures: one temperature has one value in every image, whatever the file."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from lit_thermal.data.formats.clips import open_clip
from lit_thermal.data.formats.fixed_range import clip_in_common_counts, read_counts
from lit_thermal.data.formats.normalize import check_normalize, kelvin_range
from lit_thermal.data.formats.radiometry import clip_radiometry, image_radiometry, to_values
from lit_thermal.data.formats.sidecar import write_sidecar
from lit_thermal.data.formats.thermogram import CENTIKELVIN, Thermogram
from lit_thermal.data.readers.image_folder import ImageFolder
from lit_thermal.data.readers.video_folder import VideoFolder
from lit_thermal.errors import InputError
from lit_thermal.measuring.folders import Folders, match

RANGE = "kelvin 270..330"


def kelvin_image(seed: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Return smooth temperatures (H, W) float32 of 280 to 320 K."""
    y, x = np.mgrid[:height, :width]
    return (300 + 12 * np.sin(x / 5 + seed) + 8 * np.cos(y / 4)).astype(np.float32)


def write_counts(path: Path, kelvin: np.ndarray, zero: float, step: float) -> None:
    """Write temperatures as a PNG of counts with their scale beside."""
    counts = np.rint((kelvin - zero) / step).astype(np.uint16)
    Image.fromarray(counts).save(path)
    write_sidecar(path, Thermogram(counts[None], CENTIKELVIN._replace(constants=(zero, step))))


@pytest.mark.parametrize("normalize", [RANGE, "kelvin 270.5..330", "kelvin  0 .. 6000"])
def test_names_of_ranges(normalize: str) -> None:
    check_normalize(normalize, "data.normalize")
    low, high = kelvin_range(normalize) or (0, 0)
    assert low < high


@pytest.mark.parametrize("normalize", ["kelvin", "kelvin 270", "kelvin 330..270", "kelvin 0..9999", "robst", ""])
def test_wrong_names_of_ranges(normalize: str) -> None:
    with pytest.raises(InputError, match=r"data\.normalize is '.*'; (must be one of robust|the first temperature)"):
        check_normalize(normalize, "data.normalize")


def test_one_temperature_has_one_value_in_every_kind_of_file(tmp_path: Path) -> None:
    kelvin = kelvin_image(0)
    tifffile.imwrite(tmp_path / "kelvin.tif", kelvin)
    tifffile.imwrite(tmp_path / "celsius.tif", (kelvin - 273.15).astype(np.float32))
    write_counts(tmp_path / "centi.png", kelvin, 0.0, 0.01)
    write_counts(tmp_path / "other.png", kelvin, 200.0, 0.004)
    for name in ("kelvin.tif", "celsius.tif", "centi.png", "other.png"):
        values = values_of(tmp_path / name)
        assert np.abs(values * 60 + 270 - kelvin).max() < 0.011, name


def values_of(path: Path) -> np.ndarray:
    counts, scale = read_counts(path, RANGE)
    radiometry = image_radiometry(counts, RANGE, scale)
    assert radiometry.to_kelvin(torch.tensor(0.5)).item() == pytest.approx(300)
    return to_values(counts, radiometry).numpy()


def test_training_data_have_a_fixed_range(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "hr").mkdir(parents=True)
        tifffile.imwrite(tmp_path / split / "hr" / "a.tif", kelvin_image(1))
        write_counts(tmp_path / split / "hr" / "b.png", kelvin_image(1), 100.0, 0.02)
    data = ImageFolder(str(tmp_path), scale=4, crop=0, batch_size=2, num_workers=0, normalize=RANGE)
    data.setup("validate")
    (loader,) = [data.val_dataloader()]
    first, second = list(loader)
    assert (first["hr"] - second["hr"]).abs().max() * 60 < 0.03
    assert (first["hr"] * 60 + 270 - torch.from_numpy(kelvin_image(1))).abs().max() < 0.03
    assert first["radiometry"][0]._replace(reading="") == second["radiometry"][0]._replace(reading="")
    with pytest.raises(InputError, match=r"data\.normalize is 'kelvin 9'"):
        ImageFolder(str(tmp_path), normalize="kelvin 9")


def test_pairs_of_unlike_scales(tmp_path: Path) -> None:
    for kind in ("hr", "lr"):
        (tmp_path / "val" / kind).mkdir(parents=True)
    write_counts(tmp_path / "val" / "hr" / "a.png", kelvin_image(1), 100.0, 0.02)
    write_counts(tmp_path / "val" / "lr" / "a.png", kelvin_image(1)[::4, ::4], 0.0, 0.01)
    data = ImageFolder(str(tmp_path), scale=4, num_workers=0)
    data.setup("validate")
    with pytest.raises(InputError, match="different temperature scales"):
        next(iter(data.val_dataloader()))
    data = ImageFolder(str(tmp_path), scale=4, num_workers=0, normalize=RANGE)
    data.setup("validate")
    batch = next(iter(data.val_dataloader()))
    assert (batch["hr"][..., ::4, ::4] - batch["lr"]).abs().max() * 60 < 0.03


def test_files_without_temperatures_have_no_fixed_range(tmp_path: Path) -> None:
    (tmp_path / "val" / "hr").mkdir(parents=True)
    for bits in (8, 16):
        kind = np.uint16 if bits == 16 else np.uint8
        Image.fromarray(np.full((32, 32), 90, kind)).save(tmp_path / "val" / "hr" / "a.png")
        data = ImageFolder(str(tmp_path), scale=4, num_workers=0, normalize=RANGE)
        data.setup("validate")
        with pytest.raises(InputError, match=r"a\.png does not say how its counts .* 'kelvin 270\.\.330' needs"):
            next(iter(data.val_dataloader()))


def test_clips_have_a_fixed_range(tmp_path: Path) -> None:
    frames = np.stack([kelvin_image(seed, 32, 32) for seed in range(5)])
    tifffile.imwrite(tmp_path / "pages.tif", frames, photometric="minisblack")
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(frames):
        write_counts(tmp_path / "frames" / f"{number}.png", frame, 200.0, 0.004)
    for name in ("pages.tif", "frames"):
        clip = clip_in_common_counts(open_clip(tmp_path / name), RANGE)
        radiometry = clip_radiometry(clip, RANGE)
        values = to_values(clip.read(0, 5), radiometry).numpy()
        assert np.abs(values * 60 + 270 - frames).max() < 0.011 and np.array_equal(
            np.stack(list(clip)), clip.read(0, 5)
        )
        assert clip_radiometry(open_clip(tmp_path / name)).unit == "linear"
    with pytest.raises(InputError, match="a clip must have one temperature scale"):
        write_counts(tmp_path / "frames" / "4.png", frames[4], 200.0, 0.005)
        open_clip(tmp_path / "frames").read(0, 5)


def test_video_data_take_pages_and_a_fixed_range(tmp_path: Path) -> None:
    frames = np.stack([kelvin_image(seed, 32, 32) for seed in range(7)])
    (tmp_path / "test").mkdir()
    tifffile.imwrite(tmp_path / "test" / "a.tif", frames, photometric="minisblack")
    data = VideoFolder(str(tmp_path), scale=4, temporal_scale=2, frames=5, num_workers=0, normalize=RANGE)
    data.setup("test")
    batch = next(iter(data.test_dataloader()[0]))
    assert (batch["hr"][0, :, 0] * 60 + 270 - torch.from_numpy(frames[: batch["hr"].shape[1]])).abs().max() < 0.011
    assert batch["radiometry"][0].unit == "linear"


def test_restored_files_are_measured_in_the_same_counts(tmp_path: Path) -> None:
    for name in ("hr", "pred"):
        (tmp_path / name).mkdir()
    tifffile.imwrite(tmp_path / "hr" / "a.tif", kelvin_image(2))
    write_counts(tmp_path / "pred" / "a.png", kelvin_image(2), 100.0, 0.02)
    (piece,) = match(Folders(tmp_path / "hr", {"ours": tmp_path / "pred"}, normalize=RANGE)).pieces()
    assert (piece.target - piece.restored["ours"]).abs().max() * 60 < 0.03 and piece.radiometry.unit == "linear"
    with pytest.raises(InputError, match="different temperature scales"):
        list(match(Folders(tmp_path / "hr", {"ours": tmp_path / "pred"})).pieces())
