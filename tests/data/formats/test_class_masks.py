"""Masks of classes from files."""

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal.data.formats.class_masks import FMB_CLASSES, IGNORED, find_masks, place_mask, read_mask
from lit_thermal.errors import InputError

LEVELS = np.array([[0, 1, 2], [14, 9, 8]], np.uint8)


def save(file, pixels):
    Image.fromarray(pixels).save(file)
    return file


def test_levels_are_classes(tmp_path):
    file = save(tmp_path / "a.png", LEVELS)
    assert read_mask(file, 15).tolist() == LEVELS.tolist()
    fmb = read_mask(file, len(FMB_CLASSES), "fmb")
    assert fmb.tolist() == [[IGNORED, 0, 1], [13, 8, 7]]
    assert FMB_CLASSES[8] == "car"
    assert len(set(FMB_CLASSES)) == 14


def test_indices_of_a_palette_count(tmp_path):
    image = Image.fromarray(LEVELS).convert("L")
    image.putpalette([200, 100, 0] * 256)
    image.save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", 15).tolist() == LEVELS.tolist()
    save(tmp_path / "three.png", np.stack([LEVELS] * 3, -1))
    assert read_mask(tmp_path / "three.png", 15).tolist() == LEVELS.tolist()


def test_wrong_masks(tmp_path):
    with pytest.raises(InputError, match="level 14"):
        read_mask(save(tmp_path / "a.png", LEVELS), 10)
    with pytest.raises(InputError, match="level 14"):
        read_mask(tmp_path / "a.png", 10, "fmb")
    with pytest.raises(InputError, match="colour"):
        read_mask(save(tmp_path / "b.png", np.stack([LEVELS, LEVELS, 0 * LEVELS], -1)), 15)
    with pytest.raises(InputError, match="16 bit"):
        read_mask(save(tmp_path / "c.png", LEVELS.astype(np.uint16)), 15)
    with pytest.raises(InputError, match="does not exist"):
        read_mask(tmp_path / "absent.png", 15)
    with pytest.raises(InputError, match="has no d, e: leave these images out"):
        find_masks(tmp_path, ["a", "d", "e"])
    with pytest.raises(InputError, match="does not exist"):
        find_masks(tmp_path / "absent", ["a"])


def test_masks_follow_their_image():
    mask = torch.arange(4).repeat_interleave(2).expand(4, 8)
    assert place_mask(mask, (4, 8), None, "x") is mask
    assert place_mask(mask, (2, 4), "resized", "x").tolist() == [[0, 1, 2, 3]] * 2
    assert place_mask(mask, (2, 3), "cropped", "x").tolist() == [[0, 0, 1]] * 2
    for change, size, says in [
        (None, (2, 4), "--change"),
        ("resized", (4, 4), "changes the aspect ratio"),
        ("cropped", (5, 8), "not cropped"),
    ]:
        with pytest.raises(InputError, match=says):
            place_mask(mask, size, change, "x")
