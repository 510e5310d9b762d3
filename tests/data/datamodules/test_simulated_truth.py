"""Simulated images with their truth: parts, boxes and temperatures, mirrored together."""

import torch

from lit_thermal.data.datamodules.simulated_images import SimulatedImages
from lit_thermal.data.datamodules.simulated_truth import SCENE_CLASSES, SimulatedTruth
from lit_thermal.data.simulator import PARTS


def made(**options) -> SimulatedTruth:
    data = SimulatedTruth(
        size=64, train_images=4, val_images=2, test_images=2, batch_size=2, eval_batch_size=2, num_workers=0, **options
    )
    data.setup("fit")
    data.setup("test")
    return data


def test_images_are_those_of_simulated_images_and_truth_fits_them():
    plain = SimulatedImages(size=64, test_images=2, eval_batch_size=2, num_workers=0)
    plain.setup("test")
    (batch,) = made().test_dataloader()[0]
    (expected,) = plain.test_dataloader()[0]
    assert torch.equal(batch["hr"], expected["hr"]) and torch.equal(batch["lr"], expected["lr"])
    assert batch["kelvin"].shape == batch["hr"].shape and 200 < batch["kelvin"].min() < batch["kelvin"].max() < 400
    for mask, boxes, labels in zip(batch["masks"], batch["boxes"], batch["labels"], strict=True):
        assert mask.shape == (64, 64) and ((mask < len(SCENE_CLASSES)) | (mask == 255)).all()
        assert (mask < len(PARTS)).any(), "some background is seen"
        assert boxes.shape == (len(labels), 4) and (labels >= len(PARTS)).all()
        for (left, top, right, bottom), label in zip(boxes.int().tolist(), labels, strict=True):
            assert (mask[top:bottom, left:right] == label).any()
    for index, radiometry in enumerate(batch["radiometry"]):
        seen = radiometry.to_kelvin(batch["hr"][index])
        assert torch.corrcoef(torch.stack([seen.flatten(), batch["kelvin"][index].flatten()]))[0, 1] > 0.9


def test_training_draws_each_image_once_per_pass_and_mirrors_it_as_a_whole():
    images = made().train_dataloader().dataset
    still = made(augment=False).train_dataloader().dataset
    names = [images[index]["name"] for index in range(8)]
    assert set(names[:4]) == set(names[4:]) and len(set(names)) == 4
    changed = 0
    for index in range(8):
        item, other = images[index], still[index]
        assert item["name"] == other["name"]
        if torch.equal(item["hr"], other["hr"]):
            continue
        changed += 1
        for key in ("lr", "hr", "masks", "kelvin"):
            assert torch.equal(item[key].flip(-1), other[key]), key
        left, top, right, bottom = item["boxes"].unbind(1)
        assert torch.equal(torch.stack([64 - right, top, 64 - left, bottom], 1), other["boxes"])
    assert 0 < changed < 8
