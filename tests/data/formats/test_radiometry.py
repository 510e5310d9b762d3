from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal.batch import Radiometry
from lit_thermal.data.formats.clips import open_clip
from lit_thermal.data.formats.frames import to_counts
from lit_thermal.data.formats.radiometry import beyond, clip_radiometry, image_radiometry, isolated, to_values
from lit_thermal.ops.outliers import put_back


def scene(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """A smooth scene of some 120 counts with a little noise."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).normal(0, 2, (height, width))
    return (3000 + 40 * np.sin(x / 9) * np.cos(y / 7) + 20 * (y > height // 2) + noise).round().astype(np.uint16)


@pytest.mark.parametrize("level", [0, 65535, 4000, 1500])
@pytest.mark.parametrize(
    "place", ["one", "corner", "border", "pair", "block", "column", "row", "edge column", "several"]
)
def test_dead_and_hot_pixels_do_not_widen_the_range(level: int, place: str) -> None:
    clean = scene()
    image = clean.copy()
    where = {
        "one": (20, 30),
        "corner": (0, 0),
        "border": (47, 10),
        "pair": (20, slice(30, 32)),
        "block": (slice(20, 22), slice(30, 32)),
        "column": (slice(8, 18), 30),
        "row": (20, slice(30, 40)),
        "edge column": (slice(8, 18), 0),
        "several": (slice(2, 40, 9), slice(5, 12, 6)),
    }[place]
    image[where] = level
    clean[where] = np.median(clean)
    assert image_radiometry(image) == image_radiometry(clean, "minmax")
    assert image_radiometry(image, "minmax").gain > 5 * image_radiometry(image).gain


@pytest.mark.parametrize("side", [3, 4, 9])
def test_extended_hot_spots_are_not_clipped(side: int) -> None:
    image = scene(192, 256)
    image[10 : 10 + side, 20 : 20 + side] = 9000
    assert image_radiometry(image) == image_radiometry(image, "minmax")
    image[30, 50] = 0
    radiometry = image_radiometry(image)
    assert radiometry.offset > 2000
    outside = beyond(image, radiometry)
    assert np.argwhere(outside.numpy()).tolist() == [[30, 50]]


def test_an_image_without_outliers_has_its_whole_range() -> None:
    rng = np.random.default_rng(1)
    noise = np.rint(rng.normal(3000, 9, (120, 160))).astype(np.uint16)
    for image in (scene(), noise, rng.integers(0, 65536, (7, 11), dtype=np.uint16), np.full((4, 5), 7, np.uint16)):
        radiometry = image_radiometry(image)
        assert radiometry == image_radiometry(image, "minmax")
        assert not beyond(image, radiometry).any()
        assert np.array_equal(to_counts(to_values(image, radiometry), radiometry), image)


def test_very_small_images_have_a_range() -> None:
    for shape in ((1, 1), (1, 5), (2, 2), (5, 1)):
        image = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape) * 9000
        radiometry = image_radiometry(image)
        assert radiometry.gain > 0 and to_values(image, radiometry).isfinite().all()


def test_what_is_isolated() -> None:
    image = np.full((9, 12), 50, np.uint16)
    image[4, 5], image[0, 0] = 0, 99
    image[6:9, 9:12] = 99
    rows, columns = isolated(image, 40, 60)
    found = set(zip(rows.tolist(), columns.tolist(), strict=True))
    assert {(4, 5), (0, 0)} <= found and (7, 10) not in found


def test_outliers_come_back_exactly_as_their_blocks() -> None:
    image = scene(12, 16)
    image[3, 4], image[0, 15], image[11, 0] = 0, 65535, 20000
    radiometry = image_radiometry(image)
    restored = torch.rand(1, 1, 48, 64) * 0.2 + 0.4
    whole = put_back(restored, beyond(image, radiometry)[None, None])
    found = to_counts(whole, radiometry)[0, 0]
    for (y, x), level in {(3, 4): 0, (0, 15): 65535, (11, 0): 20000}.items():
        assert (found[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] == level).all()
    rest = found.astype(int) != to_counts(restored, radiometry)[0, 0]
    assert rest.sum() == 3 * 16
    assert put_back(restored, torch.zeros(1, 1, 12, 16)) is restored


def test_between_frames_the_nearer_one_tells_what_lay_outside() -> None:
    outside = torch.zeros(3, 1, 2, 2)
    outside[1, 0, 0, 0] = 4.0
    times = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0])
    values = put_back(torch.full((9, 1, 4, 4), 0.5), outside, times)
    assert [bool(v.max() > 1) for v in values] == [False, False, False, True, True, True, True, False, False]
    assert values[4, 0, :2, :2].eq(5.0).all() and values[4, 0, 2:].eq(0.5).all()


def test_a_clip_has_one_range_without_its_dead_pixels(tmp_path: Path) -> None:
    frames = np.stack([scene(seed=index) for index in range(4)])
    clean = clip_radiometry(written(tmp_path / "clean", frames), "minmax")
    frames[:, 7, 9], frames[2, 30, 40] = 0, 65535
    clip = written(tmp_path / "dead", frames)
    radiometry = clip_radiometry(clip)
    assert abs(radiometry.gain - clean.gain) < 3 and abs(radiometry.offset - clean.offset) < 3
    frames[1, 20:26, 30:36] = 20000
    assert clip_radiometry(written(tmp_path / "hot", frames)).gain > 16000


def written(folder: Path, frames: np.ndarray):
    folder.mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{index}.png")
    return open_clip(folder)


def test_values_may_be_kept_beyond_the_range() -> None:
    counts, radiometry = np.array([[0, 150, 65535]], np.uint16), Radiometry(100.0, 100.0, 16)
    assert to_values(counts, radiometry).tolist() == [[0.0, 0.5, 1.0]]
    kept = to_values(counts, radiometry, clip=False)
    assert np.array_equal(to_counts(kept, radiometry), counts)


@pytest.mark.parametrize("level", [0, 65535])
@pytest.mark.parametrize("size", [(24, 28), (60, 80), (120, 160)])
def test_a_dead_line_does_not_widen_the_range_of_a_small_camera(size: tuple[int, int], level: int) -> None:
    image = np.random.default_rng(0).integers(8000, 8400, size).astype(np.uint16)
    whole = image_radiometry(image)
    for line in (np.s_[5], np.s_[:, 7]):
        dead = image.copy()
        dead[line] = dead[2, 2] = level
        assert image_radiometry(dead).gain == pytest.approx(whole.gain, rel=0.05)
