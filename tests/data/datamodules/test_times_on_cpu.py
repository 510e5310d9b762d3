"""Times of clips stay on the CPU when a batch moves to a device."""

import torch

from lit_thermal.data.datamodules.simulated_video import SimulatedVideo


def test_times_stay_and_everything_else_moves():
    data = SimulatedVideo(size=32, crop=4, train_clips=1, batch_size=1, samples_per_epoch=1, num_workers=0)
    batch = next(iter(data.train_dataloader()))
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved.keys() == batch.keys()
    assert moved["lr"].device.type == moved["hr"].device.type == "meta"
    for key in ("lr_time", "hr_time"):
        assert torch.equal(moved[key], batch[key])


def test_a_batch_of_another_kind_moves():
    data = SimulatedVideo(size=32, crop=4)
    (moved,) = data.transfer_batch_to_device([torch.rand(2)], torch.device("meta"), 0)
    assert moved.device.type == "meta"
