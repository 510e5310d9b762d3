"""Training of the thermal feature network: its targets, and the file that it leaves."""

import pytest
import torch
from safetensors.torch import load_file

from lit_thermal.cli.dispatch import main
from lit_thermal.errors import InputError
from lit_thermal.methods.thermal_features.module import ThermalFeatures, box_sides, temperature_levels
from lit_thermal.thermal_features import thermal_features


def test_classes_of_temperature_have_equally_many_pixels_and_its_order():
    kelvin = torch.rand(2, 1, 8, 8) * 20 + 280
    levels = temperature_levels(kelvin, 4)
    assert levels.shape == (2, 8, 8) and levels.dtype == torch.int64
    for one, found in zip(kelvin[:, 0], levels, strict=True):
        assert torch.bincount(found.flatten()).tolist() == [16] * 4
        assert all(one[found == n].max() <= one[found == n + 1].min() for n in range(3))


def test_sides_of_boxes_are_those_of_the_nearest_object_at_each_pixel():
    mask = torch.zeros(2, 6, 8, dtype=torch.int64)
    mask[0, 1:4, 2:6] = 7
    boxes = [torch.tensor([[2.0, 1.0, 6.0, 4.0]]), torch.zeros(0, 4)]
    sides, known = box_sides(boxes, [torch.tensor([7]), torch.zeros(0, dtype=torch.int64)], mask)
    assert torch.equal(known[:, 0].bool(), mask == 7)
    # the centre of pixel (2, 3) is at x 3.5 and y 2.5
    assert torch.allclose(sides[0, :, 2, 3].expm1(), torch.tensor([1.5, 1.5, 2.5, 1.5]))
    assert not sides[1].any()


def test_numbers_of_classes_are_checked():
    with pytest.raises(InputError, match=r"model.classes is 1 and model.levels is 8"):
        ThermalFeatures(classes=1)


def test_a_training_leaves_weights_that_the_package_reads(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--data.size=32", "--data.batch_size=2", "--data.num_workers=0"]
    counts = [f"--data.{split}_images=2" for split in ("train", "val", "test")]
    words = ["fit", "-c", "thermal_features", *small, *counts, "--trainer.max_steps=2", "--then_test=true"]
    assert main(words) == 0
    assert "miou: 0." in capsys.readouterr().out
    (run,) = (tmp_path / "runs" / "thermal_features").iterdir()
    assert (run / "checkpoints" / "best.ckpt").is_file() and (run / "checkpoints" / "last.ckpt").is_file()
    file = run / "thermal_features.safetensors"
    assert {value.dtype for value in load_file(file).values()} == {torch.float16}
    network = thermal_features(file)
    assert not any(p.requires_grad for p in network.parameters())
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    trained = ThermalFeatures()
    trained.load_state_dict(saved)
    image = torch.rand(1, 1, 32, 32)
    for a, b in zip(trained.network.features.eval()(image), network(image), strict=True):
        assert torch.allclose(a, b, atol=0.02)
