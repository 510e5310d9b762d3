"""Simulated scenes on disk with what is in them."""

import numpy as np
import pytest
import torch
from PIL import Image

from lit_thermal.data.datamodules.scene_files import SIMULATED_MASK_CLASSES, simulated_truth, write_scenes
from lit_thermal.data.datamodules.simulated_pairs import SimulatedPairs
from lit_thermal.data.formats.class_masks import read_mask
from lit_thermal.data.formats.frames import read_frame
from lit_thermal.data.formats.objects import read_objects
from lit_thermal.errors import InputError


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    data = SimulatedPairs(scale=8, size=64, crop=0, test_images=3, test_scenario="hot_boundaries", num_workers=0)
    names = list(write_scenes(data, "test", folder))
    return data, folder, names


def test_files_are_what_a_test_sees(scenes):
    data, folder, names = scenes
    data.setup("test")
    batch = next(iter(data.test_dataloader()[0]))
    assert names == batch["name"]
    for index, name in enumerate(names):
        levels = 65535 * batch["hr"][index, 0]
        assert np.array_equal(read_frame(folder / "hr" / f"{name}.png"), levels.round().numpy())
        lr = read_frame(folder / "lr" / f"{name}.png") / 65535
        assert np.abs(lr - batch["lr"][index, 0].numpy()).max() < 1e-5
        guide = np.asarray(Image.open(folder / "guide" / f"{name}.png")) / 255
        assert np.allclose(guide, batch["guide"][index].permute(1, 2, 0), atol=1e-6)


def test_truth_of_the_scene(scenes):
    data, folder, names = scenes
    objects = read_objects(folder / "boxes", names)
    assert sum(len(each.labels) for each in objects.values()) >= 3
    for pair in data.sources("test"):
        known, mask = simulated_truth(pair)
        written = objects[pair.name]
        assert written.size == (64, 64)
        assert written.labels == known.labels
        assert torch.equal(written.boxes, known.boxes)
        assert torch.equal(read_mask(folder / "masks" / f"{pair.name}.png", len(SIMULATED_MASK_CLASSES)), mask)
        for label, (left, top, right, bottom) in zip(known.labels, known.boxes.int().tolist(), strict=True):
            inside = mask[top:bottom, left:right] == SIMULATED_MASK_CLASSES.index(label)
            # a box is as tight as its mask
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()


def test_written_scenes_stay(scenes):
    data, folder, names = scenes
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    (folder / "hr" / f"{names[0]}.png").unlink()
    assert list(write_scenes(data, "test", folder)) == names
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    assert {path.stem for path in after if after[path] != before[path]} == {names[0]}


def test_a_file_in_the_way(scenes, tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        list(write_scenes(scenes[0], "test", tmp_path / "x"))
